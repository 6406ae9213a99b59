"""How a reduction of a few long rows is cut in blocks, so that many threads share it.

The law: a reduction of m rows of n elements each, with m < 32 and n ≥ 2¹⁵, folds blocks of n/B
elements, and then, by the same law, the B results of each row. A block is what some of the last
axes hold where that is a good size, because then what makes the elements shares a kernel with the
first fold; else it is the divisor of n nearest to 4096. A row without such a divisor stays whole.
All this depends on the shape alone, and so do the bits of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pullback.ir.types import Axes, Shape

LONG = 1 << 15
"""Elements that one thread folds in about the time of another kernel and its barrier."""

FEW = 32
BLOCK = 4096
SIZES = range(512, LONG)


@dataclass(frozen=True, slots=True)
class Cut:
    """The operand seen as `shape` is folded over the axes `first`; of the result those `then`."""

    shape: Shape
    first: Axes
    then: Axes


def cut(shape: Shape, axes: Axes) -> Cut | None:
    """How the reduction of `axes`, after which only axes of size 1 are kept, is cut."""
    kept = tuple(n for i, n in enumerate(shape) if i not in axes)
    count = math.prod(shape[a] for a in axes)
    if count < LONG or not 0 < math.prod(kept) < FEW:
        return None
    inner = {math.prod(shape[a] for a in axes[i:]): i for i in reversed(range(1, len(axes)))}
    size = _best(inner)
    if size is not None:
        return Cut(shape, axes[inner[size] :], axes[: inner[size]])
    size = _best(divisor for divisor in SIZES if count % divisor == 0)
    if size is not None:
        blocks = (*kept, count // size, size)
        return Cut(blocks, (len(kept) + 1,), (len(kept),))
    return None


def _best(sizes: Iterable[int]) -> int | None:
    """The good size nearest to `BLOCK`, by ratio; the smaller of two."""
    good = sorted(size for size in sizes if size in SIZES)
    return min(good, key=lambda size: abs(math.log2(size / BLOCK)), default=None)
