"""The three families that carry nine ops in ten: both derivative modes follow from one rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from pullback.errors import DTypeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.builder import unwatched
from pullback.ir.op import Maybe, Op, Parted, Sample
from pullback.ir.range import Range
from pullback.ir.samples import integers, normal, truths
from pullback.ir.scalar import Counter
from pullback.ir.types import (
    DType,
    Numbers,
    TensorType,
    bool_,
    broadcast_shapes,
    is_float,
    is_integer,
)

Partial = Array | float | None
"""A partial derivative: values, a mask (1 where true, else 0), a literal factor, or None."""


class Operands:
    """Predicates on element types, for `Elementwise.accepts`."""

    @staticmethod
    def floats(dtype: DType) -> bool:
        return is_float(dtype)

    @staticmethod
    def numbers(dtype: DType) -> bool:
        return dtype != bool_

    @staticmethod
    def integers(dtype: DType) -> bool:
        return is_integer(dtype)

    @staticmethod
    def bits(dtype: DType) -> bool:
        return not is_float(dtype)

    @staticmethod
    def anything(dtype: DType) -> bool:
        return True


class Elementwise(Op):
    """One output element from the elements at the same place; operands broadcast as in NumPy.

    Rule: `partials`.  vjp: x̄ᵢ = ȳ·∂ᵢ, summed over the axes along which xᵢ was broadcast.
    jvp: ẏ = Σ ∂ᵢ·ẋᵢ.  A `guarded` op has partials that can be infinite or NaN; its products are
    then `scale(ȳ, ∂)`, which is 0 where ȳ is 0, so that a masked branch never poisons a gradient.
    """

    guarded: ClassVar[bool] = False
    in_own_precision: ClassVar[bool] = False
    """True where half precision must not be computed in float32 and rounded: the bits matter."""

    accepts: ClassVar[Any] = staticmethod(Operands.numbers)

    remedy: ClassVar[str] = ""
    """What to write instead, where an operand may lie outside `finite_on` or `smooth_on`."""

    # ---- where it is defined ----

    def finite_on(self) -> tuple[Range, ...]:
        """For each operand the finite numbers for which the value is finite; () for all."""
        return ()

    def smooth_on(self) -> tuple[Range, ...]:
        """For each operand the numbers for which the derivative is finite too."""
        return self.finite_on()

    def leaves_out(self, operand: int, *x: float) -> bool:
        """Whether one element of the value does not depend on an operand, at these numbers."""
        return False

    # ---- rule ----

    def partials(self, out: Array, *inputs: Array) -> tuple[Partial, ...]:
        raise NotImplementedError

    def body(self, s: Any, *inputs: Any) -> Any:
        """The value of one element, in the scalar algebra `s`."""
        raise NotImplementedError

    # ---- types ----

    def parted(self, axis: int, count: int, *types: TensorType) -> Parted:
        rank = max(x.ndim for x in types)
        places = [axis - rank + x.ndim for x in types]
        return self, tuple(
            [a if a >= 0 and x.shape[a] > 1 else None for a, x in zip(places, types, strict=True)]
        )

    def infer(self, *types: TensorType) -> TensorType:
        first = types[0]
        dtype = first.dtype
        for each in types:
            if each.dtype != dtype:
                raise DTypeError(
                    f"element types differ: {' and '.join(str(t.dtype) for t in types)}"
                )
        if not self.accepts(dtype):
            raise DTypeError(
                f"{self.name} does not take {dtype}", hint="cast the operand with .astype(...)"
            )
        shape = first.shape
        for each in types:
            if each.shape != shape:
                shape = broadcast_shapes(*[t.shape for t in types])
                break
        result = self.result_dtype(dtype)
        return first if shape == first.shape and result == dtype else TensorType(shape, result)

    def result_dtype(self, dtype: DType) -> DType:
        return dtype

    # ---- derivatives ----

    def cotangents(
        self,
        bars: tuple[Maybe, ...],
        outs: tuple[Array, ...],
        inputs: tuple[Array, ...],
        wanted: Sequence[bool],
    ) -> tuple[Maybe, ...]:
        bar = bars[0]
        if bar is None or not self.differentiable:
            return (None,) * len(inputs)
        results: list[Maybe] = []
        partials = self._watched_partials(outs[0], inputs)
        for x, partial, needed in zip(inputs, partials, wanted, strict=True):
            if partial is None or not needed:
                results.append(None)
            else:
                results.append(_sum_to(self._times(bar, partial), x.type))
        return tuple(results)

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        if not self.differentiable:
            return (None,)
        total: Maybe = None
        for dot, partial in zip(dots, self._watched_partials(outs[0], inputs), strict=True):
            if dot is not None and partial is not None:
                term = self._times(dot, partial)
                total = term if total is None else total + term
        return (None if total is None else broadcast(total, outs[0].shape),)

    def _watched_partials(self, out: Array, inputs: tuple[Array, ...]) -> tuple[Partial, ...]:
        """The partials; where they may be infinite, `scale` answers for them (at CHECK ≥ 1)."""
        if not self.guarded:
            return self.partials(out, *inputs)
        with unwatched():
            return self.partials(out, *inputs)

    def _times(self, bar: Array, partial: Array | float) -> Array:
        if isinstance(partial, Array):
            if partial.dtype == bool_:
                return select(partial, bar, 0.0)
            return Scale()(bar, partial) if self.guarded else bar * partial
        if partial == 1.0:
            return bar
        return -bar if partial == -1.0 else bar * partial

    # ---- batching ----

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        rank = max(x.ndim - b for x, b in zip(inputs, batched, strict=True))
        aligned = [
            reshape(x, (size, *(1,) * (rank + 1 - x.ndim), *x.shape[1:]))
            if b and x.ndim <= rank
            else x
            for x, b in zip(inputs, batched, strict=True)
        ]
        return self.outputs(*aligned), (True,)

    # ---- cost ----

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        counter = Counter()
        try:
            self.body(counter, *inputs)
            each = counter.flops
        except NotImplementedError:
            each = 1
        return each * math.prod(outputs[0].shape)

    # ---- tests ----

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        sample = next(iter(cls.samples()))
        count = len(sample.inputs)
        if count > 1:
            dtype = sample.inputs[-1].dtype
            clash = [normal(2, 3).astype(x.dtype) for x in sample.inputs[:-1]] + [
                normal(4, 3).astype(dtype)
            ]
            yield Sample(sample.op, *clash)
        for wrong in (truths(2), integers(2), normal(2)):
            if not cls.accepts(wrong.dtype):
                yield Sample(sample.op, *[wrong] * count)


class Scale(Elementwise):
    """Product that is 0 where the first factor is 0, whatever the second: 0·∞ = 0·NaN = 0."""

    name = "scale"
    guarded = True
    accepts = staticmethod(Operands.floats)

    def reference(self, x: Any, y: Any) -> Any:
        product = np.asarray(x * y)
        np.copyto(product, 0, where=x == 0)  # four times as fast as np.where
        return product

    def partials(self, out: Array, x: Array, y: Array) -> tuple[Partial, ...]:
        return (y, x)

    def reach(self, *operands: Range) -> Range:
        return operands[0] * operands[1]

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        # ẋ·y + x·ẏ: in a masked branch x is 0, and y and ẏ may both be NaN
        (x, y), (x_dot, y_dot) = inputs, dots
        total = None if x_dot is None else self(x_dot, y)
        if y_dot is not None:
            term = self(x, y_dot)
            total = term if total is None else total + term
        return (None if total is None else broadcast(total, outs[0].shape),)

    def body(self, s: Any, x: Any, y: Any) -> Any:
        zero = s.const(0, x)
        return s.select(s.equal(x, zero), zero, s.mul(x, y))

    def answerable(self, inputs: Sequence[Numbers]) -> Sequence[Numbers]:
        return inputs[:1]  # the partial may be infinite where it is not used

    def formula(self, *operands: str) -> str:
        return f"{operands[0]} ⊙ {operands[1]}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3, 4), normal(3, 4))
        yield Sample(cls(), normal(3, 4), normal(4))
        yield Sample(
            cls(), np.array([0.0, 0.0, 2.0]), np.array([np.inf, np.nan, 3.0]), smooth=False
        )


class Linear(Op):
    """Linear in its first `linear_operands` operands together; the others (indices) are parameters.

    Rule: `transpose`.  vjp: the transpose.  jvp: the op itself on the tangents.
    """

    def linear_operands(self, count: int) -> int:
        """How many of `count` operands the op is linear in."""
        return 1

    def transpose(self, bar: Array, *inputs: Array) -> Maybe | tuple[Maybe, ...]:
        """Cotangents of the linear operands. Of these operands only the types may be used."""
        raise NotImplementedError

    def cotangents(
        self,
        bars: tuple[Maybe, ...],
        outs: tuple[Array, ...],
        inputs: tuple[Array, ...],
        wanted: Sequence[bool],
    ) -> tuple[Maybe, ...]:
        if bars[0] is None:
            return (None,) * len(inputs)
        result = self.transpose(bars[0], *inputs)
        results = result if isinstance(result, tuple) else (result,)
        return results + (None,) * (len(inputs) - len(results))

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        count = self.linear_operands(len(inputs))
        linear = [
            zeros(x.type) if dot is None else dot
            for dot, x in zip(dots[:count], inputs[:count], strict=True)
        ]
        return (self(*linear, *inputs[count:]),)


class Multilinear(Op):
    """Linear in each operand when the others are held.

    Rule: `transpose` in each argument.  vjp: those transposes.  jvp: Σ op(…, ẋᵢ, …).
    """

    def transpose(self, argument: int, bar: Array, *inputs: Array) -> Array:
        """Cotangent of `inputs[argument]`; of that input only the type may be used."""
        raise NotImplementedError

    def cotangents(
        self,
        bars: tuple[Maybe, ...],
        outs: tuple[Array, ...],
        inputs: tuple[Array, ...],
        wanted: Sequence[bool],
    ) -> tuple[Maybe, ...]:
        bar = bars[0]
        if bar is None:
            return (None,) * len(inputs)
        return tuple(
            self.transpose(i, bar, *inputs) if needed else None for i, needed in enumerate(wanted)
        )

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        total: Maybe = None
        for i, dot in enumerate(dots):
            if dot is not None:
                term = self(*inputs[:i], dot, *inputs[i + 1 :])
                total = term if total is None else total + term
        return (total,)


# ---- the few operations the families themselves need ----------------------------------------
# They are ordinary ops, defined above this layer; `pullback.ops` binds them once.


def _unbound(*_: object) -> Array:
    raise ShapeError("pullback.ops has not been imported")


reshape: Callable[..., Array] = _unbound
"""(array, shape) → array"""
broadcast: Callable[..., Array] = _unbound
"""(array, shape) → array, by NumPy's rule"""
sum_over: Callable[..., Array] = _unbound
"""(array, axes) → array without them"""
zeros: Callable[..., Array] = _unbound
"""(type) → array"""
select: Callable[..., Array] = _unbound
"""(mask, array, array or scalar) → array"""


def bind(**operations: Any) -> None:
    """Give the families the operations they are written in."""
    globals().update(operations)


def _sum_to(bar: Array, kind: TensorType) -> Array:
    """Sum `bar` over the axes along which an operand of type `kind` was broadcast to it."""
    if bar.shape == kind.shape:
        return bar
    lead = len(bar.shape) - len(kind.shape)
    axes = tuple(
        i for i, n in enumerate(bar.shape) if i < lead or (kind.shape[i - lead] == 1 and n != 1)
    )
    return reshape(sum_over(bar, axes), kind.shape)
