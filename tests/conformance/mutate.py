"""The mutation run: break each derivative and batching rule on purpose; the laws must notice.

    PYTHONPATH=src:tests python -m conformance.mutate [op …] [--write FILE]

A mutant replaces one rule of one op by a wrapper that spoils one entry of the rule's result. It is
killed when a law fails on a sample of that op, survives when none does, and is idle when it never
changed a number (a partial that is None cannot be doubled).
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from conformance import laws
from conformance.catalogue import every_op
from pullback.ir import families
from pullback.ir import op as op_module
from pullback.ir.array import Array, concrete
from pullback.ir.op import Op, Sample
from pullback.ir.types import bool_, float64, is_float
from pullback.ops.contract import Contract
from pullback.ops.operators import cast, cut, reshape, transpose

DERIVATIVES = ("partials", "transpose", "pullback", "pushforward", "cotangents", "tangents")
HIGHER_ORDER = ("cotangents_of", "tangents_of")
BATCHING = ("batch", "batch_of")
JUDGES = (
    laws.derivative,
    laws.adjoint,
    laws.finite_everywhere,
    laws.second_order,
    laws.declared,
    laws.batches,
)
ENTRIES = 4
"""Entries of a result that are spoiled one by one; rules of more operands treat them alike."""

EQUIVALENT: dict[tuple[str, str], str] = {}
"""(op, mutant) → why the mutant computes the same function; checked to be needed."""


# ---- how a value is spoiled -----------------------------------------------------------------

Change = Callable[[Any, Array | None], Any]
"""(entry, an array of the operands' element type) → the spoiled entry, or the same one."""


def doubled(entry: Any, like: Array | None) -> Any:
    return _number(entry, like) * 2.0


def negated(entry: Any, like: Array | None) -> Any:
    return -_number(entry, like)


def zeroed(entry: Any, like: Array | None) -> Any:
    return _number(entry, like) * 0.0


def turned(entry: Any, like: Array | None) -> Any:
    """The last two axes exchanged, where they are of one size."""
    if not isinstance(entry, Array) or entry.ndim < 2 or entry.shape[-1] != entry.shape[-2]:
        return entry
    return transpose(entry, (*range(entry.ndim - 2), entry.ndim - 1, entry.ndim - 2))


def reversed_(entry: Any, like: Array | None) -> Any:
    """The elements in the opposite order."""
    if not isinstance(entry, Array) or not is_float(entry.dtype) or entry.size < 2:
        return entry
    exchange = concrete(np.eye(entry.size, dtype=entry.dtype)[::-1].copy())
    line = Contract("i", "ij", "j")(reshape(entry, (entry.size,)), exchange)
    return reshape(line, entry.shape)


def _number(entry: Any, like: Array | None) -> Any:
    if isinstance(entry, Array) and entry.dtype == bool_:
        return cast(entry, float64 if like is None else like.dtype)
    return entry


CHANGES: dict[str, Change] = {
    "doubled": doubled,
    "negated": negated,
    "zeroed": zeroed,
    "turned": turned,
    "reversed": reversed_,
}


def first_example(output: Array, batched: bool) -> tuple[Array, bool]:
    """Every example gets the result of the first."""
    if not batched or output.shape[0] < 2:
        return output, batched
    return reshape(cut(output, 0, 0, 1), output.shape[1:]), False


def mistaken_axis(output: Array, batched: bool) -> tuple[Array, bool]:
    """The batch axis exchanged with the next, where they are of one size."""
    if not batched or output.ndim < 2 or output.shape[0] != output.shape[1]:
        return output, batched
    return transpose(output, (1, 0, *range(2, output.ndim))), True


def doubled_output(output: Array, batched: bool) -> tuple[Array, bool]:
    return (output * 2 if output.dtype != bool_ else output), batched


BATCH_CHANGES = {
    "first example": first_example,
    "mistaken axis": mistaken_axis,
    "doubled": doubled_output,
}


# ---- mutants --------------------------------------------------------------------------------


@dataclass
class Mutant:
    """A rule of `owner` with one thing spoiled: `spoil(result, arguments)` is the wrong result."""

    owner: Any
    rule: str
    label: str
    spoil: Callable[[Any, tuple[Any, ...]], Any]
    effective: bool = False

    @property
    def name(self) -> str:
        return f"{self.rule}: {self.label}"

    def __enter__(self) -> Self:
        self.inherited = self.rule not in vars(self.owner)
        self.right = vars(self.owner).get(self.rule)
        genuine = getattr(self.owner, self.rule)

        def wrong(*arguments: Any) -> Any:
            result = genuine(*arguments)
            spoiled = self.spoil(result, arguments)
            self.effective = self.effective or _differ(result, spoiled)
            return spoiled

        setattr(self.owner, self.rule, wrong)
        return self

    def __exit__(self, *_: object) -> None:
        if self.inherited:
            delattr(self.owner, self.rule)
        else:
            setattr(self.owner, self.rule, self.right)


def mutants_of(op: type[Op]) -> Iterator[Mutant]:
    """Every mutant of the rules that `op` itself gives (not of those its family derives)."""
    for rule in DERIVATIVES + HIGHER_ORDER:
        if _gives(op, rule):
            # `transpose` of a Multilinear answers for the argument it is asked about.
            by_argument = rule == "transpose" and issubclass(op, families.Multilinear)
            for i in range(ENTRIES):
                for label, change in CHANGES.items():
                    spoil = _in_argument(i, change) if by_argument else _in_entry(i, change)
                    yield Mutant(op, rule, f"{label} {i}", spoil)
            if not by_argument:
                yield Mutant(op, rule, "swapped 0, 1", _swapped)
    for rule in BATCHING:
        if _gives(op, rule):
            for label, change in BATCH_CHANGES.items():
                yield Mutant(op, rule, label, _in_batch(change))


def family_mutants() -> Iterator[tuple[Mutant, str]]:
    """Mutants of what the families share, each with an op that must notice."""
    yield Mutant(families, "_sum_to", "left unreduced", lambda result, given: given[0]), "multiply"
    yield Mutant(families, "_sum_to", "doubled", lambda result, given: result * 2.0), "multiply"
    yield Mutant(families, "_sum_to", "first only", _first_only), "multiply"
    yield Mutant(families, "broadcast", "left narrow", lambda result, given: given[0]), "multiply"
    for rule in ("cotangents", "tangents"):
        for op in ("tanh", "sum", "contract"):
            owner = next(o for o in every_op() if o.name == op).__mro__[1]
            for label, change in CHANGES.items():
                yield Mutant(owner, rule, label, _in_entry(0, change)), op
    for label, change in BATCH_CHANGES.items():
        yield Mutant(families.Elementwise, "batch", label, _in_batch(change)), "multiply"
    unguarded = lambda result, given: given[1] * given[2] if _arrays(given[1:]) else result
    yield Mutant(families.Elementwise, "_times", "unguarded", unguarded), "sqrt"


def _gives(op: type[Op], rule: str) -> bool:
    """Whether the op, or a base that is no family, defines the rule."""
    for owner in op.__mro__:
        if rule in vars(owner):
            return owner.__module__ not in (families.__name__, op_module.__name__) or owner is op
    return False


def _in_entry(i: int, change: Change) -> Callable[[Any, tuple[Any, ...]], Any]:
    def spoil(result: Any, arguments: tuple[Any, ...]) -> Any:
        if _is_pair_of_tuples(result):  # `tangents_of` gives (outputs, tangents)
            return result[0], spoil(result[1], arguments)
        if not isinstance(result, tuple):
            return change(result, _like(arguments)) if i == 0 and result is not None else result
        if i >= len(result) or result[i] is None:
            return result
        return (*result[:i], change(result[i], _like(arguments)), *result[i + 1 :])

    return spoil


def _in_argument(i: int, change: Change) -> Callable[[Any, tuple[Any, ...]], Any]:
    def spoil(result: Any, arguments: tuple[Any, ...]) -> Any:
        return change(result, None) if arguments[1] == i and result is not None else result

    return spoil


def _in_batch(change: Any) -> Callable[[Any, tuple[Any, ...]], Any]:
    def spoil(result: Any, arguments: tuple[Any, ...]) -> Any:
        outputs, flags = result
        spoiled = [change(x, flag) for x, flag in zip(outputs, flags, strict=True)]
        return tuple(x for x, _ in spoiled), tuple(flag for _, flag in spoiled)

    return spoil


def _swapped(result: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(result, tuple) or len(result) < 2 or _is_pair_of_tuples(result):
        return result
    return (result[1], result[0], *result[2:])


def _first_only(result: Array, given: tuple[Any, ...]) -> Array:
    bar, kind = given
    if bar.shape == kind.shape:
        return result
    lead = len(bar.shape) - len(kind.shape)
    for axis, n in enumerate(bar.shape):
        if axis < lead or kind.shape[axis - lead] != n:
            bar = cut(bar, axis, 0, 1)
    return reshape(bar, kind.shape)


def _is_pair_of_tuples(result: Any) -> bool:
    return isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], tuple)


def _like(arguments: tuple[Any, ...]) -> Array | None:
    for each in arguments:
        if isinstance(each, Array) and is_float(each.dtype):
            return each
        if isinstance(each, tuple) and (found := _like(each)) is not None:
            return found
    return None


def _arrays(values: tuple[Any, ...]) -> bool:
    return all(isinstance(x, Array) and x.dtype != bool_ for x in values)


def _differ(right: Any, wrong: Any) -> bool:
    """Whether two results differ, as far as numbers are known."""
    if isinstance(right, tuple) and isinstance(wrong, tuple) and len(right) == len(wrong):
        return any(_differ(a, b) for a, b in zip(right, wrong, strict=True))
    if isinstance(right, Array) and isinstance(wrong, Array):
        if right is wrong:
            return False
        if right.type != wrong.type or not (right.has_numbers and wrong.has_numbers):
            return True
        return not np.array_equal(right.numpy(), wrong.numpy(), equal_nan=True)
    return right is not wrong and not (isinstance(right, float) and right == wrong)


# ---- the run --------------------------------------------------------------------------------


@dataclass
class Tally:
    """What became of the mutants of one op."""

    killed: collections.Counter[str] = field(default_factory=collections.Counter)
    survivors: list[str] = field(default_factory=list)
    equivalent: list[str] = field(default_factory=list)
    idle: int = 0

    @property
    def total(self) -> int:
        return self.killed.total() + len(self.survivors) + len(self.equivalent)


def judge(samples: list[Sample], judges: Any = JUDGES) -> str | None:
    """The first law that fails on one of the samples, or None."""
    for law in judges:
        for sample in samples:
            try:
                law(sample)
            except laws.Exempt:
                continue
            except Exception:
                return law.__name__
    return None


def run_op(op: type[Op]) -> Tally:
    samples = list(op.samples())
    broken = judge(samples)
    assert broken is None, f"{op.name} fails the law {broken} without any mutation"
    tally = Tally()
    for mutant in mutants_of(op):
        try_mutant(mutant, op.name, samples, tally)
    return tally


def try_mutant(mutant: Mutant, name: str, samples: list[Sample], tally: Tally) -> None:
    with mutant:
        law = judge(samples)
    if law is not None:
        tally.killed[law] += 1
    elif (name, mutant.name) in EQUIVALENT:
        tally.equivalent.append(mutant.name)
    elif mutant.effective:
        tally.survivors.append(mutant.name)
    else:
        tally.idle += 1


def run_families() -> Tally:
    known = {op.name: op for op in every_op()}
    tally = Tally()
    for mutant, name in family_mutants():
        try_mutant(mutant, name, list(known[name].samples()), tally)
    return tally


# ---- the table ------------------------------------------------------------------------------


def render(tallies: dict[str, Tally]) -> str:
    columns = [law.__name__ for law in JUDGES]
    heads = ["op", "mutants", *columns, "equivalent", "survive"]
    lines = [heads]
    for name, tally in tallies.items():
        if tally.total:
            counts = [tally.killed[law] for law in columns]
            numbers = [tally.total, *counts, len(tally.equivalent), len(tally.survivors)]
            lines.append([name, *[str(n or "·") for n in numbers]])
    sums = [
        sum(int(x) if x.isdigit() else 0 for x in column)
        for column in list(zip(*lines[1:], strict=True))[1:]
    ]
    lines.append(["total", *map(str, sums)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *[c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)],
            ]
        )
        for line in lines
    ]
    survivors = [f"{name}  {each}" for name, tally in tallies.items() for each in tally.survivors]
    same = [
        f"{name}  {each}  ({EQUIVALENT[name, each]})"
        for name, tally in tallies.items()
        for each in tally.equivalent
    ]
    idle = sum(tally.idle for tally in tallies.values())
    return "\n".join(
        [
            "Killed, by the first law that failed.",
            *table,
            f"{idle} idle mutants never changed a number.",
            "",
            "Survivors:" if survivors else "No survivors.",
            *survivors,
            *(["", "Equivalent:", *same] if same else []),
        ]
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.mutate")
    parser.add_argument("ops", nargs="*", help="names; all when none is given")
    parser.add_argument("--write", metavar="FILE", help="write the table there, too")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    tallies = {
        op.name: run_op(op) for op in every_op() if not options.ops or op.name in options.ops
    }
    if not options.ops:
        tallies["(families)"] = run_families()
    text = render(tallies)
    print(text)
    print(f"{time.perf_counter() - start:.0f} s")
    if options.write:
        with open(options.write, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    return 1 if any(tally.survivors for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
