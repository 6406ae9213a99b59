"""What a program asks of memory, and the exact plan that serves it.

A `Workload` lists values and the steps (kernels) that read and write them. A schedule is a list
of step numbers, in which a step may stand more than once: each run makes new instances of what it
writes, and a read is bound to the latest. `lifetimes` and `evaluate` are the only judges of how
many bytes a schedule needs; planners propose, these two decide.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pullback._settings import settings
from pullback.errors import MemoryPlanError
from pullback.schedule.packing import Intervals, Packing, aligned, pack, require_disjoint
from pullback.schedule.picture import draw_svg, draw_table, draw_text
from pullback.schedule.workload import Step as Step
from pullback.schedule.workload import Value as Value
from pullback.schedule.workload import Workload as Workload

# ---- lifetimes ------------------------------------------------------------------------------


class Instance(NamedTuple):
    """One life of a value (None: scratch): written at step `start`, last needed at `end - 1`."""

    value: int | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """An output that could not take over its donor, whose old value step `step` still reads.

    It lives in the arena, and is copied over the donor when the program ends.
    """

    value: int
    donor: int
    step: int


@dataclass(frozen=True, eq=False)
class Lifetimes:
    """The instances that a schedule makes, and the buffers they share.

    `storage` gives for each instance the number of its buffer, or `~donor`. `reads` and `writes`
    give for each step of the schedule the instances, or `~value` for a resident one. The `kept`
    instances are there at the end.
    """

    workload: Workload
    schedule: tuple[int, ...]
    instances: tuple[Instance, ...]
    storage: tuple[int, ...]
    buffers: Intervals
    reads: tuple[tuple[int, ...], ...]
    writes: tuple[tuple[int, ...], ...]
    kept: frozenset[int]
    conflicts: tuple[Conflict, ...]

    @property
    def max_live(self) -> int:
        """The most arena bytes alive at once: a lower bound on the arena."""
        return self.buffers.max_live

    @property
    def cost(self) -> int:
        return self.workload.cost(self.schedule)

    def in_order(self) -> Lifetimes:
        """The same for the workload with its steps in the order of the schedule, a permutation."""
        ordered, every = self.workload.ordered(self.schedule), tuple(range(len(self.schedule)))
        return replace(self, workload=ordered, schedule=every)


def lifetimes(workload: Workload, schedule: Sequence[int] | None = None) -> Lifetimes:
    """Bind each read to the instance it sees, and let instances share buffers where they may.

    A step that runs again writes all its outputs again. One that nobody reads any more lives for
    that step alone; of one that is read later the earlier instance ends with its own last read.

    Raises `MemoryPlanError`, naming step and value, for a schedule that cannot run.
    """
    chosen = tuple(range(workload.count) if schedule is None else schedule)
    return _Sharing(_Binding(workload, chosen)).result()


class _Binding:
    """The instances of a schedule, in the order they are written, and who reads them."""

    def __init__(self, workload: Workload, schedule: tuple[int, ...]) -> None:
        self.workload, self.schedule = workload, schedule
        self.values: list[int | None] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.reads: list[tuple[int, ...]] = []
        self.writes: list[tuple[int, ...]] = []
        self.latest: dict[int, int] = {}
        self.resident_read: dict[int, int] = {}
        self.has_run: set[int] = set()
        _verify_schedule(workload, schedule)
        for position, index in enumerate(schedule):
            if index not in self.has_run:
                self.has_run.add(index)
                self.resident_read.update(dict.fromkeys(workload.steps[index].guards, position))
            self.reads.append(tuple([self._read(i, position) for i in workload.reads[index]]))
            made = [self._write(i, position) for i in workload.writes[index]]
            if workload.steps[index].scratch:
                made.append(self._write(None, position))
            self.writes.append(tuple(made))
        for i in workload.kept:
            if i not in self.latest:
                raise MemoryPlanError(f"no step of the schedule makes {workload.values[i].label!r}")
            self.ends[self.latest[i]] = len(schedule)
        self.kept = frozenset([self.latest[i] for i in workload.kept])

    def _read(self, root: int, position: int) -> int:
        if self.workload.values[root].resident:
            self.resident_read[root] = position
            return ~root
        if root not in self.latest:
            raise _read_too_early(self.workload, self.schedule, root, position)
        instance = self.latest[root]
        self.ends[instance] = position + 1
        return instance

    def _write(self, value: int | None, position: int) -> int:
        instance = len(self.values)
        self.values.append(value)
        self.starts.append(position)
        self.ends.append(position + 1)
        if value is not None:
            self.latest[value] = instance
        return instance


def _verify_schedule(workload: Workload, schedule: Sequence[int]) -> None:
    seen = set()
    for position, index in enumerate(schedule):
        if not 0 <= index < len(workload.steps):
            raise MemoryPlanError(
                f"step {position} of the schedule is {index}; the program has {len(workload.steps)}"
            )
        step = workload.steps[index]
        if index in seen and not step.repeatable:
            raise MemoryPlanError(f"step {position} runs {step.label!r} again; it has side effects")
        seen.add(index)


def _read_too_early(
    workload: Workload, schedule: Sequence[int], root: int, position: int
) -> MemoryPlanError:
    step = workload.steps[schedule[position]]
    value = next(i for i in step.reads if workload.roots[i] == root)
    producers = [s.label for s in workload.steps if root in s.writes]
    made = f"run {producers[0]!r} before it" if producers else "no step makes it"
    error = MemoryPlanError(
        f"step {position} ({step.label!r}) reads {workload.values[value].label!r}, "
        "which no earlier step has made",
        hint=made,
    )
    error.locate("schedule", workload.values[value].site)
    return error


class _Sharing:
    """Buffers for instances: an output takes over an input that dies where the kernel allows it."""

    def __init__(self, binding: _Binding) -> None:
        self.binding, self.workload = binding, binding.workload
        self.storage: list[int] = []
        self.buffers: list[tuple[int, int, int]] = []
        self.conflicts: list[Conflict] = []
        for position, made in enumerate(binding.writes):
            taken: set[int] = set()
            for instance in made:
                self.storage.append(self._store(instance, position, taken))

    def result(self) -> Lifetimes:
        binding = self.binding
        columns = zip(binding.values, binding.starts, binding.ends, strict=True)
        return Lifetimes(
            self.workload,
            binding.schedule,
            tuple([Instance(*row) for row in columns]),
            tuple(self.storage),
            Intervals.of(self.buffers),
            tuple(binding.reads),
            tuple(binding.writes),
            binding.kept,
            tuple(self.conflicts),
        )

    def _store(self, instance: int, position: int, taken: set[int]) -> int:
        """The buffer that the instance lives in: the donor's, a dying input's, or a new one."""
        binding = self.binding
        step = self.workload.steps[binding.schedule[position]]
        value = binding.values[instance]
        end = binding.ends[instance]
        if value is None:
            return self._new(position, end, aligned(step.scratch))
        if self._takes_donor(value, instance, position, step):
            donor = self.workload.values[value].donor
            assert donor is not None
            return ~donor
        size = self.workload.sizes[value]
        for written, read in step.in_place:
            victim = self._dying(self.workload.roots[read], position)
            if written != value or victim is None:
                continue
            buffer = self.storage[victim]
            start, _, room = self.buffers[buffer]
            if room == size and buffer not in taken:
                taken.add(buffer)
                self.buffers[buffer] = (start, end, size)
                return buffer
        return self._new(position, end, size)

    def _new(self, start: int, end: int, size: int) -> int:
        self.buffers.append((start, end, size))
        return len(self.buffers) - 1

    def _dying(self, root: int, position: int) -> int | None:
        """The instance of `root` that this step reads, if nobody needs it afterwards."""
        if self.workload.values[root].resident:
            return None
        index = self.workload.reads[self.binding.schedule[position]].index(root)
        instance = self.binding.reads[position][index]
        dies = self.binding.ends[instance] == position + 1 and instance not in self.binding.kept
        return instance if dies else None

    def _takes_donor(self, value: int, instance: int, position: int, step: Step) -> bool:
        """Whether the old state has been read for the last time when the new one is written."""
        donor = self.workload.values[value].donor
        if donor is None or self.binding.latest[value] != instance:
            return False
        last = self.binding.resident_read.get(donor, -1)
        safe = any(w == value and self.workload.roots[r] == donor for w, r in step.in_place)
        if last < position or (last == position and safe):
            return True
        self.conflicts.append(Conflict(value, donor, last))
        return False


# ---- the plan -------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where bytes lie: at `offset` in the arena, or in the buffer of a resident value."""

    offset: int
    resident: int | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """One life of a value in the arena, as reports show it."""

    label: str
    bytes: int
    offset: int
    start: int
    end: int
    value: Value | None
    kept: bool

    @property
    def layer(self) -> str:
        return "" if self.value is None else self.value.site.scope

    @property
    def source(self) -> str:
        """The user's line that the value comes from."""
        frame = None if self.value is None else self.value.site.frame
        return "" if frame is None else str(frame)


@dataclass(frozen=True, eq=False)
class Plan:
    """A schedule with a place for every byte; its peak is exact before anything runs."""

    lifetimes: Lifetimes
    packing: Packing
    seconds: float = field(default=0.0)

    @property
    def schedule(self) -> tuple[int, ...]:
        return self.lifetimes.schedule

    @property
    def resident_bytes(self) -> int:
        return self.lifetimes.workload.resident_bytes

    @property
    def arena_bytes(self) -> int:
        return self.packing.size

    @property
    def peak_bytes(self) -> int:
        """All the bytes the program holds: resident values and the arena."""
        return self.resident_bytes + self.arena_bytes

    @property
    def lower_bound(self) -> int:
        """The least arena for this schedule: the most bytes alive at once."""
        return self.lifetimes.max_live

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        return self.lifetimes.conflicts

    @property
    def slowdown(self) -> float:
        """The share of the time that the plan takes besides, by the cost model: steps that run
        again, and a form that is slower than the one without a budget."""
        once = self.lifetimes.workload.once
        return self.lifetimes.cost / once - 1 if once else 0.0

    @functools.cached_property
    def live_bytes(self) -> tuple[int, ...]:
        """Arena bytes alive during each step."""
        return tuple(self.lifetimes.buffers.live_bytes(len(self.schedule)).tolist())

    @property
    def peak_step(self) -> int:
        """The step of the schedule during which most bytes are alive."""
        live = self.live_bytes
        return live.index(max(live)) if live else 0

    @functools.cached_property
    def holdings(self) -> tuple[Holding, ...]:
        """Every life in the arena, in the order of the schedule."""
        chosen = [i for i, buffer in enumerate(self.lifetimes.storage) if buffer >= 0]
        return tuple([self._holding(i) for i in chosen])

    def at_peak(self) -> list[Holding]:
        """What is alive at the peak step, the largest first; of a shared buffer the later value."""
        step = self.peak_step
        alive = {x.offset: x for x in self.holdings if x.start <= step < x.end and x.bytes}
        return sorted(alive.values(), key=lambda x: (-x.bytes, x.offset))

    def reads(self, position: int) -> tuple[Place, ...]:
        """Where step `position` of the schedule finds each value it reads."""
        return tuple([self.place(i) for i in self.lifetimes.reads[position]])

    def writes(self, position: int) -> tuple[Place, ...]:
        """Where it writes each value that is no view, and last its scratch if it has any."""
        return tuple([self.place(i) for i in self.lifetimes.writes[position]])

    def result(self, value: int) -> Place:
        """Where a kept value lies when the program has ended."""
        root = self.lifetimes.workload.roots[value]
        if self.lifetimes.workload.values[root].resident:
            return Place(0, root)
        made = (i for i in self.lifetimes.kept if self.lifetimes.instances[i].value == root)
        return self.place(next(made))

    def freed(self) -> list[list[tuple[int, int]]]:
        """For each step, the ranges [begin, end) of the arena that nobody needs after it."""
        ranges: list[list[tuple[int, int]]] = [[] for _ in self.schedule]
        kept = {self.lifetimes.storage[i] for i in self.lifetimes.kept}
        buffers = self.lifetimes.buffers
        rows = zip(buffers.ends.tolist(), self.packing.offsets.tolist(), buffers.sizes, strict=True)
        for i, (end, offset, size) in enumerate(rows):
            if i not in kept and size:
                ranges[end - 1].append((offset, offset + int(size)))
        return ranges

    def table(self, rows: int = 20) -> str:
        """The sums, and the largest values alive at the peak, as text."""
        return draw_table(self, rows)

    def picture(self) -> str:
        """The arena, offset against time, as a self-contained SVG."""
        return draw_svg(self)

    def sketch(self, columns: int = 80, *, ascii: bool = False) -> str:
        """The arena, offset against time, as a few lines of text."""
        return draw_text(self, columns, ascii=ascii)

    def __str__(self) -> str:
        return self.table()

    @functools.cached_property
    def _offsets(self) -> list[int]:
        offsets: list[int] = self.packing.offsets.tolist()
        return offsets

    def place(self, instance: int) -> Place:
        """Where an instance lies; ~i stands for resident value i."""
        storage = instance if instance < 0 else self.lifetimes.storage[instance]
        return Place(0, ~storage) if storage < 0 else Place(self._offsets[storage])

    def _holding(self, index: int) -> Holding:
        instance, buffer = self.lifetimes.instances[index], self.lifetimes.storage[index]
        value = None if instance.value is None else self.lifetimes.workload.values[instance.value]
        step = self.lifetimes.workload.steps[self.schedule[instance.start]]
        return Holding(
            f"scratch of {step.label}" if value is None else value.label,
            int(self.lifetimes.buffers.sizes[buffer]),
            int(self.packing.offsets[buffer]),
            instance.start,
            instance.end,
            value,
            index in self.lifetimes.kept,
        )


def evaluate(workload: Workload, schedule: Sequence[int] | None = None) -> Plan:
    """The exact plan of a schedule (by default each step once, in order).

    Raises `MemoryPlanError` for a schedule that cannot run.
    """
    began = time.perf_counter()
    lives = lifetimes(workload, schedule)
    return packed(lives, pack(lives.buffers), began)


def packed(lives: Lifetimes, packing: Packing, began: float) -> Plan:
    """The plan of lifetimes and offsets, searched for since `began`."""
    if settings().check:
        require_disjoint(lives.buffers, packing)
    return Plan(lives, packing, time.perf_counter() - began)
