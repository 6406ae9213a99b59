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

MANY = 512
HEIGHT = 128
HEIGHTS = range(32, 513)


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


def cut_columns(shape: Shape, axes: Axes) -> Cut | None:
    """How the reduction of adjacent axes, with kept ones after them, is cut.

    The law: m·k columns of n elements each, side by side in m groups of k, with n·m·k ≥ 2¹⁵ and
    fewer than 512 of them, fold blocks of 32 to 512 elements, as near to 128 as the axes or the
    divisors of n allow, and then the results of the blocks.
    """
    before, after = shape[: axes[0]], shape[axes[-1] + 1 :]
    count = math.prod(shape[a] for a in axes)
    kept = math.prod(before) * math.prod(after)
    if axes != tuple(range(axes[0], axes[-1] + 1)) or kept >= MANY or count * kept < LONG:
        return None
    inner = {math.prod(shape[a] for a in axes[i:]): i for i in reversed(range(1, len(axes)))}
    size = _best((n for n in inner if n < count), HEIGHTS, HEIGHT)
    if size is not None:
        return Cut(shape, axes[inner[size] :], axes[: inner[size]])
    size = _best((n for n in HEIGHTS if n < count and count % n == 0), HEIGHTS, HEIGHT)
    if size is None:
        return None
    blocks = (*before, count // size, size, *after)
    return Cut(blocks, (len(before) + 1,), (len(before),))


def _best(sizes: Iterable[int], good: range = SIZES, wanted: int = BLOCK) -> int | None:
    """The good size nearest to the wanted one, by ratio; the smaller of two."""
    found = sorted(size for size in sizes if size in good)
    return min(found, key=lambda size: abs(math.log2(size / wanted)), default=None)
