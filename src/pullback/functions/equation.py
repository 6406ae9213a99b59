"""The equations of `einsum`: from text to one letter for each axis."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from pullback.errors import ShapeError
from pullback.ir.types import Shape
from pullback.ops.contract import LETTERS

_TERM = re.compile(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*")


@dataclass(frozen=True)
class Equation:
    """The letters of each operand and of the result, with `...` spelled out, and their sizes."""

    operands: tuple[str, ...]
    result: str
    sizes: dict[str, int]

    @staticmethod
    @functools.lru_cache(maxsize=1024)
    def parse(equation: str, shapes: tuple[Shape, ...]) -> Equation:
        """`ShapeError` when the text is no equation, or does not fit operands of these shapes."""
        text = "".join(equation.split())
        left, arrow, right = text.partition("->")
        terms = left.split(",")
        for term in (*terms, right):
            if not _TERM.fullmatch(term):
                raise ShapeError(
                    f"{equation!r} is no equation: {term!r} is not letters with at most one '...'",
                    hint="write for example 'ij,jk->ik'",
                )
        if len(terms) != len(shapes):
            raise ShapeError(
                f"{equation!r} speaks of {_count(len(terms))}, {len(shapes)} were given"
            )
        ranks = [_hidden_rank(t, s) for t, s in zip(terms, shapes, strict=True)]
        unused = [c for c in reversed(LETTERS) if c not in text]
        if max(ranks, default=0) > len(unused):
            raise ShapeError(f"{equation!r} needs more than {len(LETTERS)} letters")
        hidden = "".join(unused[: max(ranks, default=0)])
        spelled = tuple(
            t.replace("...", hidden[len(hidden) - rank :])
            for t, rank in zip(terms, ranks, strict=True)
        )
        result = right.replace("...", hidden) if arrow else hidden + _once("".join(terms))
        _check_result(equation, result, spelled, hidden)
        return Equation(spelled, result, _sizes(equation, spelled, shapes))


def _hidden_rank(term: str, shape: Shape) -> int:
    """How many axes `...` stands for."""
    letters = term.replace("...", "")
    if len(letters) > len(shape) or ("..." not in term and len(letters) != len(shape)):
        raise ShapeError(f"{term!r} names {len(letters)} axes of an operand of rank {len(shape)}")
    return len(shape) - len(letters)


def _once(letters: str) -> str:
    return "".join(sorted(c for c in set(letters) - {"."} if letters.count(c) == 1))


def _check_result(equation: str, result: str, operands: tuple[str, ...], hidden: str) -> None:
    if len(set(result)) != len(result):
        raise ShapeError(f"{equation!r} names an axis of the result twice")
    missing = sorted(set(result) - set("".join(operands)))
    if missing:
        raise ShapeError(f"{equation!r}: no operand has the axis {missing[0]!r} of the result")
    if not set(hidden) <= set(result):
        raise ShapeError(
            f"{equation!r} drops the axes that '...' stands for",
            hint="write '...' in the result, or name the axes to sum over",
        )


def _sizes(equation: str, operands: tuple[str, ...], shapes: tuple[Shape, ...]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for letters, shape in zip(operands, shapes, strict=True):
        own: dict[str, int] = {}
        for letter, size in zip(letters, shape, strict=True):
            if own.setdefault(letter, size) != size:
                raise ShapeError(f"{equation!r}: no diagonal of axes of {own[letter]} and {size}")
            known = sizes.get(letter, 1)
            if size != known and 1 not in (size, known):
                name = f"axis {letter!r} has" if letter in equation else "the axes '...' have"
                raise ShapeError(f"{equation!r}: {name} the sizes {known} and {size}")
            sizes[letter] = size if known == 1 else known
    return sizes


def _count(number: int) -> str:
    return f"{number} operand{'s' * (number != 1)}"
