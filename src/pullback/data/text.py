"""Text as tokens: one a character, with a vocabulary that is kept, or one a byte."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from pullback._public import public
from pullback.data.files import unreadable
from pullback.data.table import not_utf8
from pullback.errors import ArgumentError, FileFormatError
from pullback.ir.types import Numbers, int64, uint8, uint32


@public
def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file, its line ends as they are; `FileFormatError` with the byte that is
    no UTF-8, or for an empty file.
    """
    name = os.fspath(path)
    try:
        with open(name, encoding="utf-8", newline="") as stream:
            text = stream.read()
    except OSError as error:
        raise unreadable(name, error) from None
    except UnicodeDecodeError as error:
        raise not_utf8(name) from error
    if not text:
        raise FileFormatError(f"{name}: the file is empty")
    return text


@dataclass(frozen=True)
class Characters:
    """A token for each character that `fit` saw, in the order of Unicode.

    >>> vocabulary = Characters.fit("hello")
    >>> vocabulary.encode("hole").tolist(), vocabulary.decode([1, 0])
    ([1, 3, 2, 0], 'he')
    """

    alphabet: str

    @classmethod
    @public
    def fit(cls, text: str) -> Self:
        """The vocabulary of a text; `ArgumentError` for an empty one."""
        if not text:
            raise ArgumentError("an empty text has no characters")
        return cls("".join(sorted(set(text))))

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.alphabet)

    @public
    def encode(self, text: str) -> Numbers:
        """uint32, one token a character; `ArgumentError` for one that is not in the vocabulary."""
        codes, alphabet = _code_points(text), _code_points(self.alphabet)
        places = np.minimum(np.searchsorted(alphabet, codes), self.size - 1)
        unknown = np.flatnonzero(alphabet[places] != codes)
        if len(unknown):
            first = int(unknown[0])
            line = text.count("\n", 0, first) + 1
            column = first - (text.rfind("\n", 0, first) + 1) + 1
            raise ArgumentError(
                f"the character {text[first]!r} (line {line}, column {column}) is not in the "
                f"vocabulary of {self.size}"
            )
        return places.astype(uint32)

    @public
    def decode(self, tokens: Any) -> str:
        """The text of tokens; `ArgumentError` for one that is none of the vocabulary."""
        numbers = _tokens(tokens, self.size)
        return "".join([self.alphabet[i] for i in numbers])

    def state(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"characters": self.alphabet}

    @classmethod
    @public
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        alphabet = state.get("characters") if isinstance(state, Mapping) else None
        if not isinstance(alphabet, str) or not alphabet or alphabet != _ordered(alphabet):
            raise ArgumentError(f"{state!r:.80} is not the state of a vocabulary of characters")
        return cls(alphabet)


@dataclass(frozen=True)
class Bytes:
    """A token for each of the 256 bytes: every text in UTF-8, and every file.

    >>> Bytes().encode("hé").tolist(), Bytes().decode([104, 195, 169])
    ([104, 195, 169], 'hé')
    """

    size: ClassVar[int] = 256

    @public
    def encode(self, text: str | bytes) -> Numbers:
        """uint8, one token a byte."""
        data = text.encode("utf-8") if isinstance(text, str) else text
        return np.frombuffer(data, uint8)

    @public
    def decode(self, tokens: Any) -> str:
        """The text of tokens; � where they are no UTF-8, as in the middle of a character."""
        return bytes(_tokens(tokens, self.size)).decode("utf-8", errors="replace")

    def state(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {"bytes": self.size}


def _ordered(text: str) -> str:
    return "".join(sorted(set(text)))


def _code_points(text: str) -> Numbers:
    # surrogatepass: a lone surrogate is a character of a Python string too.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _tokens(tokens: Any, size: int) -> list[int]:
    flat = np.asarray(tokens).ravel()
    if flat.size and flat.dtype.kind not in "iu":
        raise ArgumentError(f"tokens are integers, not {flat.dtype}")
    wrong = flat[(flat < 0) | (flat >= size)]
    if wrong.size:
        raise ArgumentError(f"there are {size} tokens, and none is {wrong[0]}")
    return [int(i) for i in flat.astype(int64)]
