"""`Previous`: integers about integers, that say which update of a place is the last one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pullback.errors import DTypeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.op import Op, Sample
from pullback.ir.samples import integers, normal
from pullback.ir.types import TensorType, int64, is_integer


class Previous(Op):
    """For each element the position of the previous equal one along the last axis, or -1."""

    name = "previous"
    differentiable = False

    def infer(self, x: TensorType) -> TensorType:
        if not is_integer(x.dtype):
            raise DTypeError(f"previous takes integers, not {x.dtype}")
        if x.ndim == 0:
            raise ShapeError("previous needs at least one axis")
        return x.of(int64)

    def reference(self, x: Any) -> Any:
        order = np.argsort(x, axis=-1, kind="stable")
        values = np.take_along_axis(x, order, -1)
        follows = values[..., 1:] == values[..., :-1]
        result = np.full(x.shape, -1)
        np.put_along_axis(result, order[..., 1:], np.where(follows, order[..., :-1], -1), -1)
        return result

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return self.outputs(*inputs), (True,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(), np.array([3, 1, 3, 3, 1, 0]))
        yield Sample(cls(), integers(2, 9))
        yield Sample(cls(), np.zeros(0, np.int32))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(), normal(3))
        yield Sample(cls(), np.array(1))
