"""Contractions: products of tensors summed over shared axes."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.families import Multilinear
from pullback.ir.op import Parted, Sample
from pullback.ir.range import EVERYTHING, NOT_NEGATIVE, Range
from pullback.ir.samples import integers, normal
from pullback.ir.types import Axes, Shape, TensorType, bool_
from pullback.ops.reduce import wide

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Contract(Multilinear):
    """Two-operand Einstein sum: one letter an axis, as in `Contract("ij", "jk", "ik")`.

    Each letter stands in at least two of the three places, so the set of contractions is closed
    under transposition: a letter in both operands but not in the result is summed over.
    """

    name = "contract"
    revival = "begin the other factor with random numbers, no two rows alike"
    left: str
    right: str
    result: str

    def infer(self, left: TensorType, right: TensorType) -> TensorType:
        if left.dtype != right.dtype:
            raise DTypeError(f"element types differ: {left.dtype} and {right.dtype}")
        if left.dtype == bool_:
            raise DTypeError("a contraction does not take bool")
        return left.reshaped(_result_shape(self, left.shape, right.shape))

    def reference(self, left: Any, right: Any) -> Any:
        plan = _plan(self, left.shape, right.shape)
        x = wide(left).transpose(plan.left[0]).reshape(plan.left[1])
        y = wide(right).transpose(plan.right[0]).reshape(plan.right[1])
        product = np.matmul(x, y) if plan.sums else x * y
        shape, axes = plan.result
        return product.reshape(shape).transpose(axes).astype(left.dtype, copy=False)

    def reach(self, *operands: Range) -> Range:
        return NOT_NEGATIVE if min(x.low for x in operands) >= 0 else EVERYTHING

    def stillness(self, operand: int, out: Any, *inputs: Any) -> str:
        if any(np.any(x) for i, x in enumerate(inputs) if i != operand):
            return "the products that are added up cancel"
        return "every other factor is 0 (weights that start at 0?)"

    def parted(self, axis: int, count: int, *types: TensorType) -> Parted:
        return self, self._places(self.result[axis])

    def summed(self, operand: int, axis: int) -> tuple[int | None, ...] | None:
        letter = (self.left, self.right)[operand][axis]
        return None if letter in self.result else self._places(letter)

    def is_dot(self, left: Shape, right: Shape) -> bool:
        """Whether it multiplies vectors in each batch: these sums have an order of their own."""
        sizes = dict(zip(self.left + self.right, (*left, *right), strict=True))
        free = [c for c in self.result if (c in self.left) != (c in self.right)]
        return all(sizes[c] == 1 for c in free)

    def _places(self, letter: str) -> tuple[int | None, ...]:
        """The axis of each operand that has the letter."""
        return tuple([x.index(letter) if letter in x else None for x in (self.left, self.right)])

    def transpose(self, argument: int, bar: Array, left: Array, right: Array) -> Array:
        if argument == 0:
            return Contract(self.result, self.right, self.left)(bar, right)
        return Contract(self.left, self.result, self.right)(left, bar)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        new = next(c for c in LETTERS if c not in self.left + self.right)
        left, right = (
            new + x if b else x for x, b in zip((self.left, self.right), batched, strict=True)
        )
        return Contract(left, right, new + self.result).outputs(*inputs), (True,)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        sizes = dict(zip(self.left + self.right, inputs[0].shape + inputs[1].shape, strict=True))
        return 2 * math.prod(sizes.values())

    def formula(self, *operands: str) -> str:
        spelled = {
            ("ij", "jk", "ik"): "{0} {1}",
            ("ij", "kj", "ik"): "{0} {1}ᵀ",
            ("ji", "jk", "ik"): "{0}ᵀ {1}",
            ("ij", "j", "i"): "{0} {1}",
            ("ji", "j", "i"): "{0}ᵀ {1}",
            ("i", "j", "ij"): "{0} {1}ᵀ",
            ("i", "i", ""): "{0}·{1}",
        }
        pattern = spelled.get(self._canonical())
        return (
            pattern.format(*operands)
            if pattern
            else f"[{self.left},{self.right}→{self.result}]({', '.join(operands)})"
        )

    def _canonical(self) -> tuple[str, str, str]:
        """The letters renamed i, j, k: result axes first, then the summed ones as they appear."""
        order = list(dict.fromkeys(self.result + self.left + self.right))
        inner = [c for c in order if c not in self.result]
        names = ["i", "k"] if len(self.result) == 2 and inner else ["i", "j", "k"]
        rename = dict(zip(self.result, names, strict=False))
        free = [c for c in "jklmn" if c not in rename.values()] if self.result else list("ijk")
        rename |= dict(zip(inner, free, strict=False))
        return tuple(
            "".join(rename.get(c, c) for c in x) for x in (self.left, self.right, self.result)
        )  # type: ignore[return-value]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls("ij", "jk", "ik"), normal(2, 3), normal(3, 4))
        yield Sample(cls("bij", "bjk", "bik"), normal(2, 3, 4), normal(2, 4, 2))
        yield Sample(cls("i", "i", ""), normal(3), normal(3, seed=1))
        yield Sample(cls("i", "j", "ji"), normal(3), normal(2))
        yield Sample(cls("ijk", "kj", "ki"), normal(2, 3, 4), normal(4, 3))
        yield Sample(cls("ij", "jk", "ik"), normal(2, 0), normal(0, 3))
        yield Sample(cls("ij", "jk", "ik"), integers(2, 3), integers(3, 4))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls("ij", "jk", "ik"), normal(2, 3), normal(4, 5))
        yield Sample(cls("ij", "jk", "ik"), normal(2, 3), normal(3))
        yield Sample(cls("ij", "jk", "ik"), normal(2, 3), integers(3, 4))
        yield Sample(cls("ij", "jk", "i"), normal(2, 3), normal(3, 4))


@functools.lru_cache(maxsize=4096)
def _result_shape(op: Contract, left: Shape, right: Shape) -> Shape:
    sizes: dict[str, int] = {}
    for letters, shape in ((op.left, left), (op.right, right)):
        if len(letters) != len(shape):
            raise ShapeError(f"rank {len(shape)} operand for the axes {letters!r}")
        for letter, size in zip(letters, shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ShapeError(f"axis {letter!r} has the sizes {sizes[letter]} and {size}")
    for letter in sizes:
        if (letter in op.left) + (letter in op.right) + (letter in op.result) < 2:
            raise ShapeError(f"axis {letter!r} stands in one place only")
    return tuple(sizes[letter] for letter in op.result)


@dataclass(frozen=True)
class _Plan:
    """A contraction as a product of two stacks of matrices, and the way back to its axes."""

    left: tuple[Axes, Shape]
    right: tuple[Axes, Shape]
    result: tuple[Shape, Axes]
    sums: bool


@functools.lru_cache(maxsize=4096)
def _plan(op: Contract, left: Shape, right: Shape) -> _Plan:
    sizes = dict(zip(op.left + op.right, left + right, strict=True))
    batch = [c for c in op.left if c in op.right and c in op.result]
    inner = [c for c in op.left if c in op.right and c not in op.result]
    rows = [c for c in op.left if c not in op.right]
    columns = [c for c in op.right if c not in op.left]
    # No empty batch group: NumPy multiplies two plain matrices faster than two stacks of one.
    lead = [batch] if batch else []

    def stack(letters: str, *groups: list[str]) -> tuple[Axes, Shape]:
        axes = tuple(letters.index(c) for group in groups for c in group)
        return axes, tuple(math.prod(sizes[c] for c in group) for group in groups)

    order = batch + rows + columns
    return _Plan(
        stack(op.left, *lead, rows, inner),
        stack(op.right, *lead, inner, columns),
        (tuple(sizes[c] for c in order), tuple(order.index(c) for c in op.result)),
        bool(inner),
    )
