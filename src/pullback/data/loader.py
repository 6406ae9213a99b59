"""`DataLoader` and `Crops`: batches in an order that a seed decides, from a position one can keep.

Both are positions in an endless sequence. A loop over one goes on where it stands; `state()` is
that position as plain data, and `restore(state)` goes there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from pullback._public import public
from pullback.data.fingerprint import fingerprint
from pullback.data.philox import permutation, require_count, require_seed, words
from pullback.data.prefetch import prefetched
from pullback.errors import ArgumentError, DTypeError, ShapeError, StructureError
from pullback.ir.array import Array, numbers_of
from pullback.ir.types import Numbers, int64
from pullback.transforms.tree import Tree, flatten, paths, unflatten

State = dict[str, Any]
Position = tuple[int, int]


class DataLoader:
    """Batches of the examples along axis 0 of the arrays in `data`, one epoch a loop.

    `data` is a NumPy array or memory-map, or a tree of them (a tuple, a dict); a batch is the same
    tree of NumPy arrays. Epoch e comes in the order that (seed, e) decides, whatever the prefetch.
    A short last batch is left out unless `drop_last` is False. `transform` takes each batch before
    it is handed out, in the thread that prepares `prefetch` batches ahead (0: no thread).

    >>> loader = DataLoader((np.arange(6), np.arange(6) * 10), 4, shuffle=False, drop_last=False)
    >>> for x, y in loader:
    ...     print(x, y)
    [0 1 2 3] [ 0 10 20 30]
    [4 5] [40 50]
    >>> loader.epoch, len(loader)
    (1, 2)
    """

    @public
    def __init__(
        self,
        data: Tree,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = True,
        prefetch: int = 2,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        """Raises `ArgumentError` for a batch that no epoch holds, `ShapeError` for arrays of
        different lengths.
        """
        require_count("batch_size", batch_size)
        require_count("prefetch", prefetch, 0)
        require_seed(seed)
        self._leaves, self._structure = _arrays(data)
        self.examples = len(self._leaves[0])
        self.batch_size = int(batch_size)
        self.shuffle = bool(shuffle)
        self.seed = int(seed)
        self.drop_last = bool(drop_last)
        self._prefetch = int(prefetch)
        self._transform = transform
        self._position: Position = (0, 0)
        if self.examples == 0:
            raise ArgumentError("the data holds no examples")
        if not len(self):
            raise ArgumentError(
                f"a batch of {batch_size} is larger than the data, {self.examples} examples",
                hint="take a smaller batch_size, or drop_last=False",
            )

    def __len__(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(self.examples, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def epoch(self) -> int:
        """The epoch of the next batch, from 0."""
        return self._position[0]

    @property
    def batch(self) -> int:
        """The number of the next batch within its epoch, from 0."""
        return self._position[1]

    def order(self, epoch: int) -> Numbers:
        """The positions of the examples in the order of an epoch, int64[examples]."""
        if not self.shuffle:
            return np.arange(self.examples)
        return permutation(self.seed, epoch, self.examples)

    def __iter__(self) -> Iterator[Any]:
        """The batches from where the loader stands to the end of the epoch."""
        epoch, first = self._position
        order = self.order(epoch)

        def made(i: int) -> Any:
            return self._made(order[i * self.batch_size : (i + 1) * self.batch_size])

        batches = prefetched(made, range(first, len(self)), self._prefetch)
        for i, batch in enumerate(batches, first):
            if self._position != (epoch, i):
                raise _moved()
            self._position = (epoch, i + 1) if i + 1 < len(self) else (epoch + 1, 0)
            yield batch

    def _made(self, chosen: Numbers) -> Any:
        batch = unflatten(self._structure, [leaf[chosen] for leaf in self._leaves])
        return batch if self._transform is None else self._transform(batch)

    # ---- position ----

    def state(self) -> State:
        """Which batch comes next, and what the order depends on: plain data, for JSON."""
        return {"epoch": self.epoch, "batch": self.batch, **self._fixed()}

    @public
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `state()` told.

        Raises `ArgumentError` for the state of a loader with other data, seed or batches.
        """
        epoch, batch = _position(state, ("epoch", "batch"), self._fixed())
        if batch >= len(self):
            raise ArgumentError(f"an epoch has {len(self)} batches, and the state says {batch}")
        self._position = (epoch, batch)

    def fingerprint(self) -> str:
        """A text that stands for the numbers of the data, of very large ones for parts of them."""
        return fingerprint(unflatten(self._structure, self._leaves))

    def _fixed(self) -> State:
        return {
            "examples": self.examples,
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "drop_last": self.drop_last,
        }


class Crops:
    """Batches (x, y) of random crops of a long sequence, without end: y is x moved by one token.

    int64[batch_size,block] each. Crop i of step s begins at the place that (seed, s, i) decides.

    >>> crops = Crops(np.arange(100, dtype=np.uint8), block=4, batch_size=2)
    >>> x, y = next(iter(crops))
    >>> x.shape, bool((y == x + 1).all()), crops.step
    ((2, 4), True, 1)
    """

    @public
    def __init__(self, tokens: Any, block: int, batch_size: int, *, seed: int = 0) -> None:
        """Raises `ArgumentError` for a text that is not longer than a block."""
        require_count("block", block)
        require_count("batch_size", batch_size)
        require_seed(seed)
        self._tokens = np.asarray(tokens)
        if self._tokens.ndim != 1:
            raise ShapeError(f"tokens are one sequence, not of shape {self._tokens.shape}")
        if self._tokens.dtype.kind not in "iu":
            raise DTypeError(f"tokens are integers, not {self._tokens.dtype}")
        if len(self._tokens) <= block:
            raise ArgumentError(
                f"a crop of {block} tokens and the one after it do not fit in "
                f"{len(self._tokens)} tokens",
                hint="take a shorter block or a longer text",
            )
        self.block, self.batch_size, self.seed = int(block), int(batch_size), int(seed)
        self.step = 0

    def at(self, step: int) -> tuple[Numbers, Numbers]:
        """The batch of a step."""
        places = len(self._tokens) - self.block
        begin = (words(self.seed, step, self.batch_size) % np.uint64(places)).astype(int64)
        crops = self._tokens[begin[:, None] + np.arange(self.block + 1)].astype(int64)
        return crops[:, :-1], crops[:, 1:]

    def __iter__(self) -> Iterator[tuple[Numbers, Numbers]]:
        """The batches from where it stands."""
        while True:
            self.step += 1
            yield self.at(self.step - 1)

    def state(self) -> State:
        """Which batch comes next, and what it depends on: plain data, for JSON."""
        return {"step": self.step, **self._fixed()}

    @public
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `state()` told; `ArgumentError` for one of other crops."""
        (self.step,) = _position(state, ("step",), self._fixed())

    def fingerprint(self) -> str:
        """A text that stands for the tokens, of a very long text for parts of it."""
        return fingerprint(self._tokens)

    def _fixed(self) -> State:
        return {
            "tokens": len(self._tokens),
            "block": self.block,
            "batch_size": self.batch_size,
            "seed": self.seed,
        }


def _arrays(data: Tree) -> tuple[list[Numbers], Any]:
    leaves, structure = flatten(data)
    if not leaves:
        raise StructureError("the data holds no array")
    names = paths(structure, "data")
    arrays = [_numbers(leaf, name) for leaf, name in zip(leaves, names, strict=True)]
    for name, array in zip(names, arrays, strict=True):
        if len(array) != len(arrays[0]):
            raise ShapeError(
                f"{names[0]} has {len(arrays[0])} examples and {name} has {len(array)}",
                hint="axis 0 of every array counts the examples",
            )
    return arrays, structure


def _numbers(leaf: Any, name: str) -> Numbers:
    if not isinstance(leaf, Array | np.ndarray):
        raise StructureError(
            f"{name} is no array but a {type(leaf).__name__}: {leaf!r:.60}",
            hint="make it one with np.asarray",
        )
    array = numbers_of(leaf)
    if array.ndim == 0:
        raise ShapeError(f"{name} is a single number; axis 0 of every array counts the examples")
    return array


def _position(
    state: Mapping[str, Any], names: tuple[str, ...], fixed: Mapping[str, Any]
) -> tuple[int, ...]:
    """The numbers `names` of a state, whose other entries are `fixed`."""
    if not isinstance(state, Mapping) or state.keys() != {*names, *fixed}:
        raise ArgumentError(f"{state!r:.80} is not the state of such a loader")
    for name, value in fixed.items():
        if state[name] != value:
            raise ArgumentError(
                f"the state is one of {name} = {state[name]!r:.60}, and this is {value!r}",
                hint="the order of the examples would be another",
            )
    for name in names:
        require_count(name, state[name], 0)
    return tuple(int(state[name]) for name in names)


def _moved() -> ArgumentError:
    return ArgumentError(
        "the loader was moved while a loop over it was under way",
        hint="run one loop at a time, and call restore() between loops",
    )
