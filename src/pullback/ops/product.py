"""Products, running products, and the linear recurrence that their derivatives are made of.

No rule here divides, so all are right where factors are 0, to every order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pullback.errors import DTypeError, ShapeError
from pullback.ir import families
from pullback.ir.array import Array
from pullback.ir.families import Scale
from pullback.ir.op import Maybe, Op, Sample
from pullback.ir.samples import integers, normal, truths
from pullback.ir.types import DType, TensorType
from pullback.ops.layout import Broadcast, Concat, Transpose, cut
from pullback.ops.reduce import Reduction, check_axis, check_numeric, wide


@dataclass(frozen=True)
class Running(Op):
    """An op whose element k combines the elements 0 … k of `axis`; k … n - 1 when `reverse`."""

    axis: int
    reverse: bool

    def infer(self, x: TensorType) -> TensorType:
        check_axis(self.axis, x)
        check_numeric(self.name, x)
        return x

    def backwards(self) -> Any:
        """The same op, running the other way."""
        return replace(self, reverse=not self.reverse)

    def advance(self, s: Any, before: Any, *elements: Any) -> Any:
        """Element k of the result from the one before and the operands' elements k, in the scalar
        algebra; the first element of the result is that of the last operand.
        """
        raise NotImplementedError

    def in_order(self, x: Any) -> Any:
        """NumPy numbers with the running axis in running order; its own inverse."""
        return np.flip(x, self.axis) if self.reverse else x

    def before(self, x: Array, first: float) -> Array:
        """Element k is the predecessor of xₖ in running order; `first` where there is none."""
        size = x.shape[self.axis]
        if size == 0:
            return x
        edge = families.zeros(cut(x, self.axis, 0, 1).type) + first
        if self.reverse:
            return Concat(self.axis)(cut(x, self.axis, 1, size), edge)
        return Concat(self.axis)(edge, cut(x, self.axis, 0, size - 1))

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        shape = next(x.shape for x, flag in zip(inputs, batched, strict=True) if flag)
        every = [families.broadcast(x, shape) for x in inputs]
        return replace(self, axis=self.axis + 1).outputs(*every), (True,)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[0].size

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0, False), normal(3, 4))
        yield Sample(cls(1, True), normal(2, 4, 2))
        yield Sample(cls(0, True), normal(1))
        yield Sample(cls(1, False), normal(2, 0))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(2, False), normal(3, 4))
        yield Sample(cls(0, False), truths(3))


class Recurrence(Running):
    """First-order linear recurrence yₖ = aₖ yₖ₋₁ + bₖ along `axis`, from y₀ = b₀ (a₀ is not read).

    Its transpose in b is the recurrence run backwards: b̄ₖ = ȳₖ + aₖ₊₁ b̄ₖ₊₁;  āₖ = b̄ₖ yₖ₋₁.
    """

    name = "recurrence"

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        if a.dtype != b.dtype:
            raise DTypeError(f"element types differ: {a.dtype} and {b.dtype}")
        if a.shape != b.shape:
            raise ShapeError(f"factors {a} and terms {b} differ in shape")
        return super().infer(a)

    def reference(self, a: Any, b: Any) -> Any:
        factors, terms = (np.moveaxis(self.in_order(wide(x)), self.axis, 0) for x in (a, b))
        out = terms.copy()
        for k in range(1, len(terms)):
            out[k] += factors[k] * out[k - 1]
        return self.in_order(np.moveaxis(out, 0, self.axis)).astype(b.dtype)

    def advance(self, s: Any, before: Any, *elements: Any) -> Any:
        a, b = elements
        return s.add(b, s.mul(a, before))

    def pullback(self, bar: Array, out: Array, a: Array, b: Array) -> tuple[Array, Array]:
        back: Recurrence = self.backwards()
        b_bar = back(back.before(a, 0.0), bar)
        return Scale()(b_bar, self.before(out, 0.0)), b_bar

    def pushforward(self, dots: tuple[Maybe, Maybe], out: Array, a: Array, b: Array) -> Maybe:
        a_dot, b_dot = dots
        if a_dot is not None:
            term = Scale()(a_dot, self.before(out, 0.0))
            b_dot = term if b_dot is None else b_dot + term
        return None if b_dot is None else self(a, b_dot)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 2 * inputs[0].size

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0, False), normal(4), normal(4, seed=1))
        yield Sample(cls(1, True), normal(2, 3, 2), normal(2, 3, 2, seed=1))
        yield Sample(cls(0, False), np.zeros((3, 2)), normal(3, 2))
        yield Sample(cls(0, True), integers(4), integers(4, seed=1))
        yield Sample(cls(0, False), normal(0), normal(0))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(0, False), normal(3), normal(4))
        yield Sample(cls(0, False), normal(3), integers(3))
        yield Sample(cls(1, False), normal(3), normal(3))


class CumProd(Running):
    """Running product yₖ = x₀ ⋯ xₖ: the recurrence yₖ = xₖ yₖ₋₁ from y₋₁ = 1."""

    name = "cumprod"

    def reference(self, x: Any) -> Any:
        return self.in_order(np.cumprod(self.in_order(wide(x)), axis=self.axis)).astype(x.dtype)

    def advance(self, s: Any, before: Any, *elements: Any) -> Any:
        return s.mul(before, *elements)

    def pullback(self, bar: Array, out: Array, x: Array) -> tuple[Array]:
        back = Recurrence(self.axis, not self.reverse)
        return (Scale()(back(back.before(x, 0.0), bar), self.before(out, 1.0)),)

    def pushforward(self, dots: tuple[Array], out: Array, x: Array) -> Array:
        return Recurrence(self.axis, self.reverse)(x, Scale()(dots[0], self.before(out, 1.0)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        yield Sample(cls(0, False), np.array([2.0, 0.0, 3.0, 0.0, -1.5]))
        yield Sample(cls(0, True), integers(5))


class Prod(Reduction):
    """Product over `axes`.  ∂out/∂xᵢ = ∏_{j<i} xⱼ · ∏_{j>i} xⱼ."""

    name = "prod"

    def start(self, dtype: DType) -> bool | int | float:
        return 1

    def combine(self, s: Any, x: Any, y: Any) -> Any:
        return s.mul(x, y)

    def reference(self, x: Any) -> Any:
        return np.prod(wide(x), axis=self.axes).astype(x.dtype)

    def pullback(self, bar: Array, out: Array, x: Array) -> tuple[Array]:
        return (Scale()(Broadcast(x.shape, self.axes)(bar), self._others(x)),)

    def pushforward(self, dots: tuple[Array], out: Array, x: Array) -> Array:
        return families.sum_over(Scale()(dots[0], self._others(x)), self.axes)

    def _others(self, x: Array) -> Array:
        """At each element the product of all the others that are reduced with it."""
        kept = tuple(i for i in range(x.ndim) if i not in self.axes)
        order = kept + self.axes
        turned = Transpose(order)(x)
        count = math.prod(x.shape[i] for i in self.axes)
        rows = families.reshape(turned, (math.prod(x.shape[i] for i in kept), count))
        left, right = CumProd(1, reverse=False), CumProd(1, reverse=True)
        others = left.before(left(rows), 1.0) * right.before(right(rows), 1.0)
        back = tuple(sorted(range(x.ndim), key=order.__getitem__))
        return Transpose(back)(families.reshape(others, turned.shape))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((0,)), normal(3, 4))
        yield Sample(cls((0, 2)), normal(2, 3, 2))
        yield Sample(cls(()), normal(3))
        yield Sample(cls((1,)), normal(2, 0))
        yield Sample(cls((1,)), np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]]))
        yield Sample(cls((0,)), integers(3, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((2,)), normal(3, 4))
        yield Sample(cls((0,)), truths(3))
