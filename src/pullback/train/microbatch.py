"""A batch as micro-batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pullback.errors import ShapeError
from pullback.ir.array import Array
from pullback.ops.operators import lift, reshape
from pullback.ops.weak import Weak
from pullback.train.function import UserFunction
from pullback.transforms.tree import argument_paths, flatten, unflatten


def is_array(leaf: Any) -> bool:
    """Whether a leaf of a batch is an array with axes; a number goes to every micro-batch."""
    return not isinstance(leaf, Weak | bool | int | float) and lift(leaf).ndim > 0


def divide(
    batch: tuple[Any, ...], count: int, function: UserFunction
) -> tuple[list[Array], Callable[[list[Array]], tuple[Any, ...]]]:
    """The arrays of a batch as `count` rows, and the function that makes a batch of one row."""
    leaves, structure = flatten(batch)
    cut = [i for i, x in enumerate(leaves) if is_array(x)]
    sizes = {i: lift(leaves[i]).shape[0] for i in cut}
    for i, size in sizes.items():
        names = argument_paths(structure, function.names(batch))
        if size != sizes[cut[0]]:
            raise ShapeError(
                f"{names[cut[0]]} has {sizes[cut[0]]} examples and {names[i]} has {size}"
            )
        if size % count:
            raise ShapeError(
                f"{names[i]}, of {size} examples, does not divide into {count} micro-batches",
                hint="accumulate= divides the batch size; DataLoader(drop_last=True) keeps it",
            )
    rows = [
        reshape(lift(leaves[i]), (count, sizes[i] // count, *lift(leaves[i]).shape[1:]))
        for i in cut
    ]

    def whole(row: list[Array]) -> tuple[Any, ...]:
        complete = list(leaves)
        for i, x in zip(cut, row, strict=True):
            complete[i] = x
        result: tuple[Any, ...] = unflatten(structure, complete)
        return result

    return rows, whole
