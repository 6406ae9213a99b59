"""What a program asks of memory: its values, and the steps that read and write them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pullback._trusted import trusted
from pullback.errors import NOWHERE, MemoryPlanError, Site
from pullback.schedule.packing import aligned

SOON = 16
"""Steps within which a value is better made again before what it is made of is gone."""


@trusted(frozen=True, slots=True)
class Value:
    """An array of a program. A view lives in the buffer of the value it is a view of.

    Resident values (parameters, state, inputs) lie outside the arena for the whole program. Kept
    values are there at the end. A kept value may take over the buffer of a resident `donor`.
    """

    label: str
    bytes: int
    resident: bool = False
    kept: bool = False
    view_of: int | None = None
    donor: int | None = None
    site: Site = NOWHERE


@trusted(frozen=True, slots=True)
class Step:
    """A kernel: the values it reads and writes, and its workspace in bytes.

    A pair (written, read) of `in_place` says: it may write the one over the other. Its cost is in
    nanoseconds. A step with effects besides its writes is not `repeatable`. The memory of resident
    values that it `guards` is not taken over before its first run.
    """

    label: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    scratch: int = 0
    in_place: tuple[tuple[int, int], ...] = ()
    cost: int = 0
    repeatable: bool = True
    guards: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Form:
    """How a program is written, where that is not as it would be without a budget; and what it
    costs there, in nanoseconds."""

    text: str
    plain: int


@dataclass(frozen=True, eq=False)
class Workload:
    """Values and steps, the steps in a valid order. Raises `MemoryPlanError` when they disagree.

    The last `spares` of the steps are no part of the program: each makes again what one of the
    others makes, of other values, or one result of several. `form` is None for what a program does
    without a budget.
    """

    values: tuple[Value, ...]
    steps: tuple[Step, ...]
    spares: int = 0
    form: Form | None = None

    def __post_init__(self) -> None:
        _verify_values(self.values)
        for step in self.steps:
            _verify_step(step, self.values)
        written = [value for step in self.steps[: self.count] for value in step.writes]
        made = set(written)
        for spare in self.steps[self.count :]:
            if not made.issuperset(spare.writes):
                raise MemoryPlanError(f"{spare.label!r} makes again what no step makes")
        if len(made) != len(written):
            twice = next(value for value in written if written.count(value) > 1)
            raise MemoryPlanError(f"two steps write {self.values[twice].label!r}")

    @property
    def count(self) -> int:
        """How many steps the program has."""
        return len(self.steps) - self.spares

    @functools.cached_property
    def maker(self) -> dict[int, int]:
        """The step of the program that makes a value."""
        return {i: k for k, made in enumerate(self.writes[: self.count]) for i in made}

    @functools.cached_property
    def shortcuts(self) -> dict[int, list[tuple[int, list[int]]]]:
        """For a value the spare steps that make it, each with what it reads that is made."""
        found: dict[int, list[tuple[int, list[int]]]] = {}
        for k in range(self.count, len(self.steps)):
            read = [i for i in self.reads[k] if i in self.maker]
            for i in self.writes[k]:
                if not self._is_alone(k, i):
                    found.setdefault(i, []).append((k, read))
        return found

    @functools.cached_property
    def alone(self) -> dict[int, dict[int, int]]:
        """For a step that makes several values the spare steps that make one of them alone, of
        what it reads itself: {step: {value: spare step}}."""
        found: dict[int, dict[int, int]] = {}
        for k in range(self.count, len(self.steps)):
            for i in self.writes[k]:
                if self._is_alone(k, i):
                    found.setdefault(self.maker[i], {})[i] = k
        return found

    def _is_alone(self, spare: int, value: int) -> bool:
        return set(self.reads[spare]) <= set(self.reads[self.maker[value]])

    @functools.cached_property
    def rescues(self) -> dict[int, list[tuple[int, int]]]:
        """For a step that is the last to read what a spare step needs, what that one makes and is
        read soon after: (value, spare step)."""
        readers: dict[int, list[int]] = {}
        for k, read in enumerate(self.reads[: self.count]):
            for i in read:
                readers.setdefault(i, []).append(k)
        found: dict[int, list[tuple[int, int]]] = {}
        for i, ways in self.shortcuts.items():
            for spare, needed in ways:
                for k in {readers[x][-1] for x in needed if x in readers}:
                    if any(k < j <= k + SOON for j in readers.get(i, ())):
                        found.setdefault(k, []).append((i, spare))
        return found

    def rescued(self, step: int, present: Collection[int]) -> list[int]:
        """The spare steps to run before a step, which is the last to need what they read."""
        return [
            spare
            for i, spare in self.rescues.get(step, ())
            if i not in present and all(x in present for x in self.reads[spare] if x in self.maker)
        ]

    def maker_from(self, i: int, present: Collection[int]) -> int:
        """The step that makes a value of what is present: a spare one where it misses nothing."""
        for k, read in self.shortcuts.get(i, ()):
            if all(x in present for x in read):
                return k
        return self.maker[i]

    @functools.cached_property
    def roots(self) -> tuple[int, ...]:
        """The value in whose buffer each value lives: itself, unless it is a view."""
        roots: list[int] = []
        for i, value in enumerate(self.values):
            roots.append(i if value.view_of is None else roots[value.view_of])
        return tuple(roots)

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each value's own buffer, aligned."""
        return tuple([aligned(value.bytes) for value in self.values])

    @functools.cached_property
    def reads(self) -> tuple[tuple[int, ...], ...]:
        """For each step, the roots of what it reads."""
        return tuple([tuple([self.roots[i] for i in step.reads]) for step in self.steps])

    @functools.cached_property
    def writes(self) -> tuple[tuple[int, ...], ...]:
        """For each step, what it writes that is no view."""
        return tuple([tuple([i for i in s.writes if self.roots[i] == i]) for s in self.steps])

    @functools.cached_property
    def kept(self) -> tuple[int, ...]:
        """The buffers that are needed at the end, each once."""
        roots = [self.roots[i] for i, value in enumerate(self.values) if value.kept]
        return tuple([i for i in dict.fromkeys(roots) if not self.values[i].resident])

    @functools.cached_property
    def resident_bytes(self) -> int:
        """Bytes of parameters, state and inputs: there before, during and after the program."""
        chosen = [i for i, v in enumerate(self.values) if v.resident and v.view_of is None]
        return sum(self.sizes[i] for i in chosen)

    def cost(self, schedule: Iterable[int]) -> int:
        """Nanoseconds, as the cost model says."""
        return sum(self.steps[i].cost for i in schedule)

    @functools.cached_property
    def once(self) -> int:
        """What the program costs without a budget, in nanoseconds."""
        return self.cost(range(self.count)) if self.form is None else self.form.plain

    def ordered(self, order: Sequence[int]) -> Workload:
        """The same with its steps in another order."""
        chosen = (*order, *range(self.count, len(self.steps)))
        steps = tuple([self.steps[i] for i in chosen])
        return Workload(self.values, steps, self.spares, self.form)


def _verify_values(values: Sequence[Value]) -> None:
    for i, value in enumerate(values):
        what = f"value {i} ({value.label!r})"
        if value.bytes < 0:
            raise MemoryPlanError(f"{what} has {value.bytes} bytes")
        if value.view_of is not None and not 0 <= value.view_of < i:
            raise MemoryPlanError(
                f"{what} is a view of value {value.view_of}, not listed before it"
            )
    _verify_donors(values)


def _verify_donors(values: Sequence[Value]) -> None:
    donors: dict[int, str] = {}
    kept = {_root(values, i) for i, value in enumerate(values) if value.kept}
    for i, value in enumerate(values):
        what = f"value {i} ({value.label!r})"
        if value.donor is None:
            continue
        if not 0 <= value.donor < len(values) or not values[value.donor].resident:
            raise MemoryPlanError(f"{what} takes over value {value.donor}, which is not resident")
        donor = values[value.donor]
        if not value.kept or value.view_of is not None or donor.view_of is not None:
            raise MemoryPlanError(f"{what} takes over {donor.label!r}: one is a view, or not kept")
        if value.bytes != donor.bytes:
            raise MemoryPlanError(f"{what} takes over {donor.label!r}, their bytes differ")
        if value.donor in kept:
            raise MemoryPlanError(f"{what} takes over {donor.label!r}, which is itself kept")
        if value.donor in donors:
            raise MemoryPlanError(f"{what} and {donors[value.donor]} take over {donor.label!r}")
        donors[value.donor] = what


def _root(values: Sequence[Value], i: int) -> int:
    base = values[i].view_of
    return i if base is None else _root(values, base)


def _verify_step(step: Step, values: Sequence[Value]) -> None:
    what = f"step {step.label!r}"
    for i in (*step.reads, *step.writes):
        if not 0 <= i < len(values):
            raise MemoryPlanError(f"{what} names value {i}; the program has {len(values)}")
    for i in step.writes:
        if values[i].resident:
            raise MemoryPlanError(f"{what} writes the resident value {values[i].label!r}")
        if i in step.reads:
            raise MemoryPlanError(f"{what} reads {values[i].label!r}, which it writes itself")
    if step.scratch < 0:
        raise MemoryPlanError(f"{what} has {step.scratch} bytes of scratch")
    for written, read in step.in_place:
        if written not in step.writes or read not in step.reads:
            raise MemoryPlanError(f"{what} says in place for values that it does not use")
