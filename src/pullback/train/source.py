"""Where the batches of a run come from, and the position one can come back to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np

from pullback.data.fingerprint import fingerprint
from pullback.errors import ArgumentError
from pullback.ir.array import Array
from pullback.transforms.tree import Tree, flatten

Position = dict[str, Any]


class Source:
    """Batches, epoch by epoch, of anything that can be iterated.

    A loader with `state()` and `restore(state)` tells and takes a position. A list of batches gets
    one here.
    """

    def __init__(self, data: Iterable[Any]) -> None:
        """Raises `ArgumentError` for what cannot be iterated, or is a list without batches."""
        if not isinstance(data, Iterable) or isinstance(data, Mapping | str | Array | np.ndarray):
            raise ArgumentError(
                f"data gives batches, one by one, and is not of type {type(data).__name__}",
                hint="pb.train.DataLoader((x, y), batch_size=32) gives batches of arrays",
            )
        self.data: Any = _Listed(data) if isinstance(data, list | tuple) else data
        self.has_position = hasattr(self.data, "state") and hasattr(self.data, "restore")
        self.is_once = isinstance(data, Iterator)

    @property
    def length(self) -> int | None:
        """Batches an epoch, where that is known."""
        return len(self.data) if isinstance(self.data, Sized) else None

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data)

    def position(self) -> Position | None:
        """Which batch comes next; None where the data does not tell."""
        return dict(self.data.state()) if self.has_position else None

    def restore(self, position: Position) -> None:
        """Go to a position; `ArgumentError` for one of other data."""
        self.data.restore(position)

    def require_position(self) -> None:
        if not self.has_position:
            raise ArgumentError(
                f"a {type(self.data).__name__} does not tell where the run stood in it",
                hint="resume=True needs data with state() and restore(), as a DataLoader, "
                "or a list of batches",
            )

    def fingerprint(self) -> str | None:
        """A text that stands for all of the data; None where the data does not tell."""
        tell = getattr(self.data, "fingerprint", None)
        return None if tell is None else str(tell())

    def peek(self) -> Any:
        """The next batch, or None. The source then stands somewhere else."""
        batches = iter(self.data)
        batch = next(batches, None)
        close(batches)
        return batch


class _Listed:
    """A list of batches as a loader, in its order."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self._batches = batches
        self._next = 0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        for i in range(self._next, len(self)):
            self._next = (i + 1) % len(self)
            yield self._batches[i]

    def state(self) -> Position:
        return {"batch": self._next, "batches": len(self)}

    def restore(self, state: Position) -> None:
        if state.get("batches") != len(self):
            raise ArgumentError(
                f"it had {state.get('batches')} batches, and this list has {len(self)}"
            )
        self._next = state["batch"]

    def fingerprint(self) -> str:
        return fingerprint(list(self._batches))


def arguments(batch: Any) -> tuple[Any, ...]:
    """What a step is given of a batch: its parts, or the batch where it is one thing."""
    return tuple(batch) if isinstance(batch, tuple | list) else (batch,)


def close(batches: Iterator[Any]) -> None:
    """End the loop over a source, and the thread that a loader may have for it."""
    end = getattr(batches, "close", None)
    if end is not None:
        end()


def examples(batch: Tree) -> int:
    """How many examples a batch has: the length of the first array with an axis."""
    shapes = [np.shape(leaf) for leaf in flatten(batch)[0]]
    return next((shape[0] for shape in shapes if shape), 1)
