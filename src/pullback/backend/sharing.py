"""Functions that differ in numbers alone become one, which reads its numbers.

A layer of another width gives a kernel of the same text with other sizes and strides. Its code is
made once, and each of the kernels is a call of it with a constant list of its own numbers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pullback.backend.assembly import Module

LEAST = 30
"""Lines of a function below which a call of another one is not shorter."""

_HEAD = re.compile(r"define (?:internal )?void @([\w.]+)\((.*)\) nounwind \{")
_NUMBER = re.compile(r"(?<=i64 )-?\d+(?=[,)]|$)")
"""An i64 that stands with its type."""
_SECOND = re.compile(r"  %\w+ = (?:icmp )?[a-z]+(?: [a-z]+)* i64 [^ ,]+, (-?\d+)$")
"""The last operand of an instruction on two i64."""
_FIXED = re.compile("[<[]|alloca|@llvm")
"""Where a number must be a constant, or makes better code as one: lanes, memory of the stack."""


def share(module: Module) -> None:
    """Let functions of the module that differ in numbers alone have their code in common."""
    lengths = Counter(text.count("\n") for text in module.functions)
    alike: dict[tuple[str, ...], list[int]] = {}
    outlines: dict[int, _Outline] = {}
    for i, text in enumerate(module.functions):
        length = text.count("\n")
        head = _HEAD.match(text)
        if head is not None and length >= LEAST and lengths[length] > 1:
            outlines[i] = outline = _Outline.of(text, head)
            alike.setdefault(outline.pieces, []).append(i)
    for count, places in enumerate([each for each in alike.values() if len(each) > 1]):
        _join(module, f"shared{count}", places, [outlines[i] for i in places])


@dataclass(frozen=True, slots=True)
class _Outline:
    """A function between its numbers: one stands after each piece but the last."""

    head: re.Match[str]
    pieces: tuple[str, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, text: str, head: re.Match[str]) -> _Outline:
        pieces, numbers, end = [head[2]], [], head.end()
        for begin, after in _numbers(text, end):
            pieces.append(text[end:begin])
            numbers.append(int(text[begin:after]))
            end = after
        return cls(head, (*pieces, text[end:]), tuple(numbers))


def _numbers(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Where the numbers stand that may be others in another function."""
    for line in text[start:].splitlines(keepends=True):
        if "i64" in line and not _FIXED.search(line):
            bare = line.rstrip("\n")
            spans = [found.span() for found in _NUMBER.finditer(bare)]
            second = _SECOND.match(bare)
            if second is not None:
                spans.append(second.span(1))
            yield from ((start + begin, start + end) for begin, end in spans)
        start += len(line)


def _join(module: Module, name: str, places: Sequence[int], alike: Sequence[_Outline]) -> None:
    """The code of all at the first place, and calls of it."""
    columns = list(zip(*[each.numbers for each in alike], strict=True))
    varying = list(dict.fromkeys(column for column in columns if len(set(column)) > 1))
    names = {column: f"%number_{i}" for i, column in enumerate(varying)}
    words = [names.get(column, str(column[0])) for column in columns]
    parameters, opening, *rest = alike[0].pieces
    body = "".join(word + piece for word, piece in zip(words, rest, strict=True))
    entry, lines = opening.split("entry:\n", 1)
    loads = "".join(
        f"  %place_{i} = getelementptr inbounds i64, ptr %numbers, i64 {i}\n"
        f"  %number_{i} = load i64, ptr %place_{i}, align 8\n"
        for i in range(len(varying))
    )
    code = (
        f"define internal void @{name}({parameters}, ptr noalias %numbers) nounwind {{"
        f"{entry}entry:\n{loads}{lines}{body}"
    )
    module.names.add(name)
    arguments = re.sub(r"(\w+)[^,%]* %", r"\1 %", parameters)
    for k, (place, each) in enumerate(zip(places, alike, strict=True)):
        held = ", ".join(f"i64 {column[k]}" for column in varying)
        own = f"{each.head[1]}_numbers"
        module.globals.append(f"@{own} = internal constant [{len(varying)} x i64] [{held}]")
        call = f"  call void @{name}({arguments}, ptr @{own})\n  ret void\n"
        module.functions[place] = f"{each.head[0]}\nentry:\n{call}}}\n"
    module.functions[places[0]] = code + "\n" + module.functions[places[0]]
