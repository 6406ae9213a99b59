"""A contraction that goes on from the sums of another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pullback.errors import DTypeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.op import Maybe, Op, Sample
from pullback.ir.samples import integers, normal
from pullback.ir.types import TensorType
from pullback.ops.contract import Contract
from pullback.ops.operators import repeated
from pullback.ops.reduce import accumulated


@dataclass(frozen=True)
class Onward(Op):
    """`Contract` of the first two operands, whose sums begin with the third instead of 0.

    Over two parts of the summed axes, one after the other, it gives the bits that the contraction
    of the whole gives: each sum adds one product after another in their order. That holds where
    the sums are kept as they are added up (no half precision), and are no dot products of two
    vectors, which are added in another order; no others are taken.
    """

    name = "onward"
    left: str
    right: str
    result: str

    @classmethod
    def after(cls, op: Contract) -> Onward:
        return cls(op.left, op.right, op.result)

    @property
    def product(self) -> Contract:
        return Contract(self.left, self.right, self.result)

    @classmethod
    def takes(cls, op: Contract, left: TensorType, right: TensorType) -> bool:
        """Whether a contraction of these types may be done in parts."""
        return not op.is_dot(left.shape, right.shape) and accumulated(left.dtype) == left.dtype

    def infer(self, left: TensorType, right: TensorType, sums: TensorType) -> TensorType:
        made = self.product.infer(left, right)
        if made.shape != sums.shape:
            raise ShapeError(f"the sums are {sums}, the contraction makes {made}")
        if made.dtype != sums.dtype:
            raise DTypeError(f"the sums are {sums}, the contraction makes {made}")
        if not self.takes(self.product, left, right):
            raise ShapeError(f"{left} and {right} are not multiplied in parts")
        return sums

    def reference(self, left: Any, right: Any, sums: Any) -> Any:
        return sums + self.product.reference(left, right)

    def cotangents(
        self,
        bars: tuple[Maybe, ...],
        outs: tuple[Array, ...],
        inputs: tuple[Array, ...],
        wanted: Sequence[bool],
    ) -> tuple[Maybe, ...]:
        of_product = self.product.cotangents(bars, outs, inputs[:2], wanted[:2])
        return (*of_product, bars[0])

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        (total,) = self.product.tangents(dots[:2], outs, inputs[:2])
        if total is None or dots[2] is None:
            return (dots[2] if total is None else total,)
        return (total + dots[2],)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        *factors, sums = inputs
        if any(batched[:2]):
            (made,), _ = self.product.batch(size, tuple(factors), batched[:2])
        else:
            made = repeated(self.product(*factors), size)
        return ((sums if batched[2] else repeated(sums, size)) + made,), (True,)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return self.product.flops(inputs[:2], outputs)

    def formula(self, *operands: str) -> str:
        return f"{operands[2]} + {self.product.formula(*operands[:2])}"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls("ij", "jk", "ik"), normal(2, 3), normal(3, 4), normal(2, 4, seed=1))
        yield Sample(cls("tbi", "tbj", "ij"), normal(2, 3, 5), normal(2, 3, 1), normal(5, 1))
        yield Sample(cls("ji", "jk", "ki"), integers(3, 2), integers(3, 4), integers(4, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls("ij", "jk", "ik"), normal(2, 3), normal(3, 4), normal(4, 2))
        yield Sample(cls("i", "i", ""), normal(2), normal(2), normal())
        yield Sample(cls("ij", "jk", "ik"), normal(2, 3), normal(3, 4), integers(2, 4))
