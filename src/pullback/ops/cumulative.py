"""Running sums, extrema and log-sums; running products are in `product`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pullback.errors import DTypeError
from pullback.ir import families
from pullback.ir.array import Array
from pullback.ir.families import Linear
from pullback.ir.op import Sample
from pullback.ir.samples import distinct, integers
from pullback.ir.types import TensorType, int64, is_float
from pullback.ops.pointwise import Exp, LogAddExp
from pullback.ops.product import Recurrence, Running
from pullback.ops.reduce import wide
from pullback.ops.sort import Selection


class CumSum(Running, Linear):
    """Running sum yₖ = x₀ + ⋯ + xₖ; its transpose runs backwards."""

    name = "cumsum"

    def reference(self, x: Any) -> Any:
        total = np.cumsum(self.in_order(wide(x)), axis=self.axis, dtype=wide(x).dtype)
        return self.in_order(total).astype(x.dtype)

    def advance(self, s: Any, before: Any, *elements: Any) -> Any:
        return s.add(before, *elements)

    def transpose(self, bar: Array, x: Array) -> Array:
        out: Array = self.backwards()(bar)
        return out

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        yield Sample(cls(0, False), integers(3, 2))


# ---- extrema --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunningExtremum(Selection, Running):
    """Values and the indices they came from: the latest of equal elements, the first NaN for ever.

    The gradient goes to that one element, as in torch.
    """

    extreme: ClassVar[Any]

    def beats(self, s: Any, x: Any, y: Any) -> Any:
        """Whether x wins against y, in the scalar algebra."""
        raise NotImplementedError

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        Running.infer(self, x)
        return x, x.of(int64)

    def reference(self, x: Any) -> Any:
        ordered = self.in_order(wide(x))
        best = self.extreme.accumulate(ordered, axis=self.axis)
        count = ordered.shape[self.axis]
        places = np.arange(count).reshape([count if i == self.axis else 1 for i in range(x.ndim)])
        lost = np.isnan(ordered) if is_float(x.dtype) else np.zeros(x.shape, bool)
        first_lost = lost & (np.cumsum(lost, axis=self.axis) == 1)
        latest = np.where((ordered == best) | first_lost, places, 0)
        indices = np.maximum.accumulate(latest, axis=self.axis)
        return (
            self.in_order(best).astype(x.dtype),
            self.in_order(count - 1 - indices if self.reverse else indices),
        )

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return Running.batch(self, size, inputs, batched)[0], (True, True)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0, False), distinct(4, 3))
        yield Sample(cls(1, True), distinct(2, 4, 2))
        yield Sample(cls(0, False), distinct(0))
        yield Sample(cls(0, False), np.array([1.0, 3, 3, np.nan, 5, np.nan]), smooth=False)
        yield Sample(cls(0, True), np.array([1.0, 3, 3, -np.inf, 1]), smooth=False)
        yield Sample(cls(0, True), integers(6))


class CumMax(RunningExtremum):
    """Running maximum, and the indices of the maxima."""

    name = "cummax"
    extreme = np.maximum

    def beats(self, s: Any, x: Any, y: Any) -> Any:
        return s.less(y, x)


class CumMin(RunningExtremum):
    """Running minimum, and the indices of the minima."""

    name = "cummin"
    extreme = np.minimum

    def beats(self, s: Any, x: Any, y: Any) -> Any:
        return s.less(x, y)


# ---- log-sum-exp ----------------------------------------------------------------------------


class CumLogSumExp(Running):
    """Running yₖ = log(e^x₀ + ⋯ + e^xₖ), never overflowing.

    ẏₖ = e^(yₖ₋₁ - yₖ) ẏₖ₋₁ + e^(xₖ - yₖ) ẋₖ: a recurrence whose factors lie in [0, 1].
    """

    name = "cumlogsumexp"

    def infer(self, x: TensorType) -> TensorType:
        if not is_float(x.dtype):
            raise DTypeError(f"{self.name} takes floats, not {x.dtype}")
        return super().infer(x)

    def reference(self, x: Any) -> Any:
        ordered = self.in_order(wide(x))
        return self.in_order(np.logaddexp.accumulate(ordered, axis=self.axis)).astype(x.dtype)

    def advance(self, s: Any, before: Any, *elements: Any) -> Any:
        return LogAddExp().body(s, before, *elements)

    def pullback(self, bar: Array, out: Array, x: Array) -> tuple[Array]:
        back = Recurrence(self.axis, not self.reverse)
        return (back(back.before(self._decay(out), 0.0), bar) * _ratio(x, out),)

    def pushforward(self, dots: tuple[Array], out: Array, x: Array) -> Array:
        forward = Recurrence(self.axis, self.reverse)
        return forward(self._decay(out), dots[0] * _ratio(x, out))

    def _decay(self, out: Array) -> Array:
        return _ratio(self.before(out, -np.inf), out)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 4 * inputs[0].size

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        yield Sample(cls(0, False), np.array([1e4, -1e4, 9.9e3]), smooth=False)
        yield Sample(cls(0, True), np.array([-np.inf, 1.0, -np.inf, -np.inf]), smooth=False)

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield from super().rejected()
        yield Sample(cls(0, False), integers(3))


def _ratio(part: Array, whole: Array) -> Array:
    """e^part / e^whole for part ≤ whole; 0 where the part is empty (-∞), even of nothing."""
    empty = part == -np.inf
    return families.select(empty, 0.0, Exp()(families.select(empty, 0.0, part - whole)))
