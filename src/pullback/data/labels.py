"""Classes as numbers, and columns on one scale: what was learnt on the training part and is kept.

Both are frozen, and plain data for JSON through `state()` and `from_state`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from pullback._public import public
from pullback.errors import ArgumentError, ShapeError, listed
from pullback.ir.types import Numbers, float64, int64

Label = str | int | float | bool


def require_every_class(labels: Numbers, classes: int | Sequence[Label], where: str) -> None:
    """Raise `ArgumentError` unless each class 0 … classes - 1 has an example in `labels`.

    A sequence of classes gives them names.
    """
    names = list(range(classes)) if isinstance(classes, int) else list(classes)
    counts = np.bincount(labels, minlength=len(names))
    empty = [str(name) for name, count in zip(names, counts, strict=False) if not count]
    if empty:
        raise ArgumentError(
            f"{where} has no example of {_listed('class', empty, 'es')}",
            hint="nothing can be learnt of it, or measured",
        )


@dataclass(frozen=True)
class LabelEncoder:
    """Classes ↔ their numbers 0 … n - 1, in sorted order.

    >>> encoder = LabelEncoder.fit(["cat", "dog", "cat"])
    >>> encoder.encode(["dog", "cat"]).tolist(), encoder.decode([1, 0])
    ([1, 0], ['dog', 'cat'])
    """

    classes: tuple[Label, ...]

    @classmethod
    @public
    def fit(cls, labels: Any) -> Self:
        """The classes of `labels`; `ArgumentError` when there are fewer than two."""
        found = _plain(labels)
        classes = sorted(set(found))
        if len(classes) < 2:
            shown = f"only {classes[0]!r}" if classes else "none"
            raise ArgumentError(f"labels of at least two classes are needed, and there is {shown}")
        return cls(tuple(classes))

    @public
    def encode(self, labels: Any) -> Numbers:
        """int64, the number of each label; `ArgumentError` names classes that `fit` never saw."""
        numbers = {each: i for i, each in enumerate(self.classes)}
        found = _plain(labels)
        unseen = sorted({str(each) for each in found if each not in numbers})
        if unseen:
            first = next(i for i, each in enumerate(found) if each not in numbers)
            raise ArgumentError(
                f"{_listed('unseen class', unseen, 'es')}, first at position {first}",
                hint=f"the classes are {listed([str(x) for x in self.classes], 8)}",
            )
        return np.array([numbers[each] for each in found], int64)

    @public
    def decode(self, numbers: Any) -> list[Label]:
        """The classes of numbers; `ArgumentError` for one that no class has."""
        flat = np.asarray(numbers).ravel()
        wrong = flat[(flat < 0) | (flat >= len(self.classes))]
        if wrong.size:
            raise ArgumentError(f"there are {len(self.classes)} classes, and none is {wrong[0]}")
        return [self.classes[i] for i in flat]

    def state(self) -> dict[str, Any]:
        return {"classes": list(self.classes)}

    @classmethod
    @public
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        return cls(tuple(_entry(state, "classes")))


@dataclass(frozen=True, eq=False)
class Standardizer:
    """x ↦ (x - mean) / std, each column with the numbers of the training part.

    >>> scale = Standardizer.fit(np.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> scale(np.array([[2.0, 40.0]])).tolist()
    [[0.0, 2.0]]
    """

    mean: Numbers
    std: Numbers

    @classmethod
    @public
    def fit(cls, x: Any, names: Sequence[str] | None = None) -> Self:
        """Mean and standard deviation over axis 0 of x (examples, columns), in float64.

        Raises `ArgumentError` naming columns that are constant or hold a NaN or an infinity.
        """
        array = np.asarray(x)
        if array.ndim != 2 or not array.size:
            raise ShapeError(f"(examples, columns) are standardised, not {array.shape}")
        known = names or [str(i) for i in range(array.shape[1])]
        columns = array.astype(float64)
        wrong = [not np.isfinite(column).all() for column in columns.T]
        _refuse(known, wrong, "holds a NaN or an infinity", "leave such rows out")
        bounds = zip(columns.min(0).tolist(), columns.max(0).tolist(), strict=True)
        constant = [low == high for low, high in bounds]
        _refuse(known, constant, "is constant, which tells nothing", "leave it out")
        return cls(columns.mean(0), columns.std(0))

    @public
    def __call__(self, x: Any) -> Numbers:
        """x on the scale of the training part, in the element type of x (float64 for integers)."""
        array = np.asarray(x)
        self._require_columns(array)
        scaled = (array - self.mean) / self.std
        return scaled.astype(array.dtype) if array.dtype.kind == "f" else scaled

    @public
    def inverse(self, x: Any) -> Numbers:
        """What `self` made x of."""
        array = np.asarray(x)
        self._require_columns(array)
        return np.asarray(array * self.std + self.mean)

    def _require_columns(self, array: Numbers) -> None:
        if array.shape[-1:] != self.mean.shape:
            raise ShapeError(f"{len(self.mean)} columns were standardised, not {array.shape[-1:]}")

    def state(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    @public
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        mean, std = (np.array(_entry(state, name), float64) for name in ("mean", "std"))
        if mean.shape != std.shape or not (np.isfinite(mean).all() and (std > 0).all()):
            raise ArgumentError(f"{state!r:.80} is not the state of a Standardizer")
        return cls(mean, std)


def _refuse(names: Sequence[str], marks: Sequence[bool], what: str, hint: str) -> None:
    wrong = [name for name, mark in zip(names, marks, strict=True) if mark]
    if wrong:
        each = "each of " if len(wrong) > 1 else ""
        raise ArgumentError(f"{each}{_listed('column', wrong)} {what}", hint=hint)


def _plain(labels: Any) -> list[Any]:
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ShapeError(f"labels are one sequence, not of shape {array.shape}")
    return list(array.tolist())


def _listed(noun: str, names: Sequence[str], plural: str = "s") -> str:
    return f"{noun}{plural if len(names) > 1 else ''} {listed([repr(x) for x in names], 5)}"


def _entry(state: Mapping[str, Any], name: str) -> Any:
    try:
        return state[name]
    except (KeyError, TypeError):
        raise ArgumentError(f"{state!r:.80} has no entry {name!r}") from None
