"""The text of a module as two modules, which two cores compile at the same time.

Which function goes where depends on the text alone. What one half uses of the other it declares.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WORTH = 600
"""Lines of a module that are worth a thread: it costs a fifth of a millisecond."""

_FUNCTION = re.compile(r"^define [^\n]*\{\n.*?^\}\n", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"@([\w.]+)")


def halves(text: str) -> tuple[str, ...]:
    """One module or two, of about as many lines."""
    if text.count("\n") < WORTH:
        return (text,)
    functions = _FUNCTION.findall(text)
    rest = _FUNCTION.sub("", text).split("\n")
    others = {_NAME.findall(line)[0]: line for line in rest if line}
    if not all(re.match("@|declare ", x) for x in others.values()):
        return (text,)
    parts = _shared_out(functions)
    homes = {_name(each): i for i, part in enumerate(parts) for each in part}
    used = [_used(part, others) for part in parts]
    foreign = [sorted(x for x in names if homes.get(x, i) != i) for i, names in enumerate(used)]
    open_ = frozenset(name for names in foreign for name in names)
    heads = {_name(each): each[: each.index("{")] for each in functions}
    return tuple(
        "\n".join(
            [
                *[line for name, line in others.items() if name in used[i]],
                *[_visible(each) if _name(each) in open_ else each for each in part],
                *[_declared(heads[name]) for name in foreign[i]],
                "",
            ]
        )
        for i, part in enumerate(parts)
    )


def _shared_out(functions: Sequence[str]) -> list[list[str]]:
    """Two lists, of about as many lines; the order in each is the given one."""
    lines = [each.count("\n") for each in functions]
    sums, home = [0, 0], dict[int, int]()
    for i in sorted(range(len(functions)), key=lambda i: -lines[i]):
        home[i] = sums.index(min(sums))
        sums[home[i]] += lines[i]
    return [[each for i, each in enumerate(functions) if home[i] == half] for half in (0, 1)]


def _used(part: Sequence[str], others: dict[str, str]) -> set[str]:
    """The names in functions, and in the constants that they use."""
    names = {name for each in part for name in _NAME.findall(each)}
    return names | {x for name in names if name in others for x in _NAME.findall(others[name])}


def _name(function: str) -> str:
    found = _NAME.search(function)
    assert found is not None
    return found[1]


def _visible(function: str) -> str:
    return function.replace("define internal", "define hidden", 1)


def _declared(head: str) -> str:
    """The declaration of a function of the other half, from the line that begins it."""
    plain = re.sub(r" %[\w.]+", "", head.removeprefix("define ").removeprefix("internal "))
    return f"declare {plain}"
