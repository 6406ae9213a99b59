"""Donated state: a tree of arrays that a compiled function takes, overwrites and gives back.

What it gives back is a `State`: the tree without its containers. The next call recognises it and
passes its memory on as it is; no array of it is looked at. It is built when somebody looks into it.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pullback.compile.signature import Dynamic, Known
from pullback.errors import DonationError, calling_site
from pullback.ir.array import CONCRETE, DONATED, Array
from pullback.ir.types import Numbers, TensorType, float32
from pullback.transforms.tree import Tree, paths, unflatten

_numbers = itertools.count(1)


def owners(array: Array) -> int:
    """How many hold the array's memory."""
    return sys.getrefcount(array._data) - _COUNTING


_COUNTING = 0
_COUNTING = owners(Array(TensorType((), float32), np.zeros((), float32))) - 1  # who counts


class Home:
    """The memory of a state, and how often it was overwritten."""

    __slots__ = ("addresses", "argument", "arrays", "generation", "number")

    def __init__(self, argument: Dynamic, arrays: Sequence[Numbers]) -> None:
        self.argument = argument
        self.arrays = list(arrays)
        for each in arrays:
            each.flags.writeable = False
        self.addresses = np.array([x.ctypes.data for x in arrays], np.uint64)
        self.generation = 0
        self.number = next(_numbers)


class State(Known):
    """A tree of arrays in the memory of a `Home`; it acts as the tree in the user's structure."""

    __slots__ = ("_arrays", "_generation", "_home", "_tree")

    def __init__(self, home: Home) -> None:
        self._home = home
        self._generation = home.generation
        self._tree: Tree = None
        self._arrays: list[Array] | None = None

    @property
    def argument(self) -> Dynamic:
        return self._home.argument

    @property
    def is_donated(self) -> bool:
        """Whether its memory has been given to a later call."""
        return self._generation != self._home.generation

    def tree(self) -> Tree:
        """The containers with their arrays; `DonationError` once the state was donated again."""
        if self.is_donated:
            error = donated_again("the state")
            error.locate("donated state", calling_site())
            raise error
        if self._arrays is None:
            home = self._home
            made = zip(home.argument.kinds, home.arrays, strict=True)
            self._arrays = [Array(kind, x) for kind, x in made]  # type: ignore[arg-type]
            self._tree = unflatten(home.argument.treedef, self._arrays)
            home.arrays = []  # from now on the arrays own it, and each can be given away
        return self._tree

    @property
    def home(self) -> Home:
        return self._home

    @property
    def built(self) -> list[Array]:
        return self._arrays or []

    def memory(self, i: int) -> Numbers:
        """The numbers of leaf `i`."""
        if self._arrays is None:
            return self._home.arrays[i]
        return self._arrays[i]._numbers("the state")

    def require_alive(self, name: str) -> None:
        """Raise `DonationError` once it, or an array of it, was donated."""
        if self.is_donated:
            raise donated_again(f"`{name}`")
        for i, array in enumerate(self.built):
            if array.trace == DONATED:
                raise donated_again(paths(self.argument.treedef, name)[i])

    def require_free(self, name: str) -> None:
        """Raise `DonationError` unless nobody else holds its memory."""
        for i, array in enumerate(self.built):
            if owners(array) > 1:
                raise still_seen(paths(self.argument.treedef, name)[i], array)

    def give(self) -> None:
        """Its memory is overwritten: it and the arrays built of it hold nothing any more."""
        self._home.generation += 1
        if self._arrays is not None:
            self._home.arrays = [x._numbers("the state") for x in self._arrays]
            for array in self._arrays:
                kill(array)
        self._arrays = self._tree = None

    def take_back(self) -> None:
        """Undo `give`, or as much of it as was done, with the numbers that are there now."""
        arrays, numbers = self._arrays, self._home.arrays
        if arrays is not None and numbers:
            for array, each in zip(arrays, numbers, strict=True):
                revive(array, each)
            self._home.arrays = []
        self._generation = self._home.generation

    # ---- the tree it stands for ----

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._home.argument.treedef.type

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tree(), name)

    def __getitem__(self, key: Any) -> Any:
        return self.tree()[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tree())

    def __len__(self) -> int:
        return len(self.tree())

    def __contains__(self, key: object) -> bool:
        return key in self.tree()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.tree()(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _same, (self.tree(),)  # a copy is the tree

    def __repr__(self) -> str:
        return "<donated state>" if self.is_donated else repr(self.tree())


def _same(tree: Tree) -> Tree:
    return tree


# ---- arrays that are given ------------------------------------------------------------------


def kill(array: Array) -> None:
    """The array's memory has been given away."""
    array._data = None
    array.trace = DONATED


def revive(array: Array, numbers: Numbers) -> None:
    """The array holds this memory, and has not been given away."""
    numbers.flags.writeable = False
    array._data = numbers
    array.trace = CONCRETE


def overwrite(numbers: Numbers, new: Numbers) -> None:
    """Write into donated memory, which is read-only to everybody else."""
    ctypes.memmove(numbers.ctypes.data, new.ctypes.data, numbers.nbytes)


def owned(leaf: Any, name: str) -> Numbers:
    """The memory of a donated leaf, or a copy where it lies in somebody else's."""
    if not isinstance(leaf, Array):
        return np.array(leaf, order="C")
    if owners(leaf) > 1:
        raise still_seen(name, leaf)
    numbers = leaf._numbers("a donated argument")
    # The memory of a view, or a constant repeated: nobody sees the difference to a copy.
    return np.array(numbers, order="C") if numbers.base is not None else numbers


def donated_again(what: str) -> DonationError:
    return DonationError(
        f"{what} was donated to an earlier call, which has overwritten it",
        hint="use what that call returned:  state = step(state, batch)",
    )


def still_seen(name: str, array: Array) -> DonationError:
    return DonationError(
        f"{name}, {array.type}, cannot be donated: a NumPy view, an export or another Array "
        "holds its memory",
        hint="copy what is kept, x.numpy().copy(), or leave the argument out of donate=",
    )


def twice(name: str, other: str) -> DonationError:
    return DonationError(
        f"{name} and {other} are one array, donated twice",
        hint="give each a copy: pb.asarray(x, copy=True)",
    )
