"""A schedule as one native function that every thread runs, and the memory it runs in."""

from __future__ import annotations

import ctypes
import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from pullback.backend.cache import ObjectCache, load
from pullback.backend.calling_back import FUNCTION
from pullback.backend.donation import Donation, checks_first, first_overwriting, separate, settled
from pullback.backend.image import ARENA, Image
from pullback.backend.jit import Library, assembly
from pullback.backend.main import Emitter, is_worth_threads, write_main, write_steps
from pullback.backend.storage import Spare, spare_parts, workload
from pullback.backend.target import Target
from pullback.backend.threads import Team, team, thread_count
from pullback.backend.written import CALLBACK, STATUS, Written
from pullback.errors import MemoryPlanError, PullbackError
from pullback.ir.types import Numbers, TensorType
from pullback.schedule.kernels import Kernel, Schedule
from pullback.schedule.memory import Lifetimes, Plan, lifetimes, packed
from pullback.schedule.packing import aligned, pack
from pullback.schedule.parts import parts_of
from pullback.schedule.picture import bytes_text
from pullback.schedule.planner.driver import Planner
from pullback.schedule.planner.forms import Forms
from pullback.schedule.planner.order import frugal_order
from pullback.schedule.workload import Form, Workload

ALIGNMENT = 64


# ---- code -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Code:
    """The kernels of a schedule in the order they run, the plan of their memory, their text.

    A kernel that runs more than once is there more than once.

    `donors` gives for an output's buffer that of the donated input whose memory it takes over.
    `guard` is the first kernel that overwrites donated memory, where a kernel before it may fail.
    """

    schedule: Schedule
    kernels: tuple[Written, ...]
    donors: Mapping[int, int]
    plan: Plan
    planner: Planner
    """Plans for other budgets."""
    text: str
    target: Target
    threads: int
    scratch: int
    """Bytes of one thread."""
    guard: int | None

    @functools.cached_property
    def assembly(self) -> str:
        return assembly(self.text, self.target)


Alternative = tuple[str, Schedule]
"""What a program does, written otherwise, and in which way."""


def write_code(
    schedule: Schedule,
    threads: int | None = None,
    pairs: Mapping[int, int] | None = None,
    names: Sequence[str] = (),
    memory: int | None = None,
    forms: Callable[[], Iterable[Alternative]] = tuple,
    target: Target | None = None,
) -> Code:
    """The code of a schedule. `pairs`: output → donated input, by their places.

    With `memory`, kernels run again where all that the program holds would be more bytes than that,
    or it takes one of the `forms` that need less; raises `MemoryPlanError` where no schedule fits.
    A `target` that is given may be another machine's.
    """
    target = target or Target.chosen()

    def draft(schedule: Schedule) -> _Draft:
        return _Draft.of(schedule, threads, pairs or {}, names, target)

    began = time.perf_counter()
    first = draft(schedule)
    drafts = [first]

    def others() -> list[Workload]:
        for text, form in forms():
            drafts.append(draft(form).instead(text, first.workload))
        return [each.workload for each in drafts[1:]]

    planner = Forms(first.workload, others)
    if memory is None:
        plan = packed(first.ordered, pack(first.ordered.buffers), began)
    else:
        plan = planner.fit(memory)
    chosen = next(each for each in drafts if each.workload is plan.lifetimes.workload)
    return chosen.code(plan, planner)


@dataclass(frozen=True, eq=False)
class _Draft:
    """The kernels of a schedule, written, before it is decided which of them runs when."""

    emitter: Emitter
    donation: Donation
    kernels: tuple[Written, ...]
    spare: list[Spare]
    threads: int
    scratch: int
    order: tuple[int, ...]
    ordered: Lifetimes
    """The lifetimes in the order that holds least."""

    @classmethod
    def of(
        cls,
        schedule: Schedule,
        threads: int | None,
        pairs: Mapping[int, int],
        names: Sequence[str],
        target: Target,
    ) -> _Draft:
        donation = separate(schedule, pairs)
        emitter = Emitter.begin(target)
        kernels = tuple([emitter.write(kernel) for kernel in donation.schedule.kernels])
        if donation.donors:
            order = checks_first(donation.schedule, kernels)
            kernels = tuple([kernels[i] for i in order])
            donation = donation.ordered(order)
        spare = spare_parts(donation.schedule, kernels)
        count, scratch, lives = _lives(donation, kernels, threads, names, spare)
        with_copies = settled(donation, lives)
        if with_copies is not donation:
            copies = with_copies.schedule.kernels[len(kernels) :]
            kernels += tuple([emitter.write(kernel) for kernel in copies])
            donation = with_copies
            count, scratch, lives = _lives(donation, kernels, threads, names, spare)
        best = frugal_order(lives)
        ordered = best.in_order()
        return cls(emitter, donation, kernels, spare, count, scratch, best.schedule, ordered)

    @property
    def workload(self) -> Workload:
        return self.ordered.workload

    def instead(self, text: str, plain: Workload) -> _Draft:
        """The same as another form of a program."""
        workload = replace(self.workload, form=Form(text, plain.once))
        return replace(self, ordered=replace(self.ordered, workload=workload))

    def code(self, plan: Plan, planner: Planner) -> Code:
        runs = [self.order[k] if k < len(self.order) else k for k in plan.schedule]
        schedule, kernels, emitter = self.donation.schedule, self.kernels, self.emitter
        whole, n = schedule.kernels, len(kernels)
        chosen = tuple([whole[k] if k < n else _part(whole, self.spare[k - n]) for k in runs])
        schedule = replace(schedule, kernels=chosen)
        every = zip(runs, chosen, strict=True)
        kernels = tuple([kernels[k] if k < n else emitter.write(part) for k, part in every])
        assert all(kernel.scratch <= self.scratch for kernel in kernels)
        may_fail = any(kernel.checks for kernel in kernels)
        guard = first_overwriting(plan, schedule) if may_fail else None
        donors, target = self.donation.donors, emitter.target
        text = write_main(emitter.module, target, kernels, plan, guard)
        return Code(
            schedule,
            kernels,
            donors,
            plan,
            planner,
            text,
            target,
            self.threads,
            self.scratch,
            guard,
        )


def _part(kernels: Sequence[Kernel], spare: Spare) -> Kernel:
    whole, number = spare
    return parts_of(kernels[whole])[number]


def _lives(
    donation: Donation,
    kernels: Sequence[Written],
    threads: int | None,
    names: Sequence[str],
    spare: Sequence[Spare],
) -> tuple[int, int, Lifetimes]:
    """How many threads run the kernels, the scratch of each, and the lifetimes in order."""
    count = 1 if threads is None and not is_worth_threads(kernels) else threads or thread_count()
    scratch = aligned(max((kernel.scratch for kernel in kernels), default=0) + ALIGNMENT)
    donors, all_scratch = donation.donors, scratch * count
    asked = workload(donation.schedule, kernels, donors, all_scratch, names, True, spare)
    return count, scratch, lifetimes(asked)


# ---- programs -------------------------------------------------------------------------------


class Memory:
    """Bytes for a program, aligned. `allocate` is where all but inputs and outputs come from."""

    def allocate(self, count: int) -> Numbers:
        try:
            memory = np.empty(count + ALIGNMENT, np.uint8)
        except MemoryError:
            raise MemoryPlanError(
                f"the system refuses {bytes_text(count)} for what lies between a program's "
                "arguments and its results",
                hint='memory="500 MB", say, recomputes values to hold less',
            ) from None
        start = -memory.ctypes.data % ALIGNMENT
        return memory[start : start + count]


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a program runs, the types of its outputs, and how to write its code again."""

    image: Image
    library: Library
    types: Sequence[TensorType]
    write: Callable[[], Code]


def _loaded(schedule: Schedule | None, threads: int | None, code: Code | None) -> Loaded:
    if code is None:
        assert schedule is not None
        code = write_code(schedule, threads)
    known = code
    library = load(code.text, ["program"], code.target, ObjectCache.chosen())
    types = [code.schedule.buffers[buffer].type for buffer in code.schedule.outputs]
    return Loaded(Image.of(code), library, types, lambda: known)


Slots = tuple[tuple[int, int], ...]
"""Places in the table of pointers, and the offset in bytes that each adds."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive inputs, and where in the table their pointers stand: slots, of whom, offsets."""

    first: int
    count: int
    slots: Numbers
    owners: Numbers
    offsets: Numbers


class Program:
    """A compiled schedule with its memory. One call runs all its kernels on all its threads.

    Calls take turns: who binds inputs, runs and takes outputs holds `lock`.
    """

    def __init__(
        self,
        schedule: Schedule | None = None,
        threads: int | None = None,
        code: Code | None = None,
        memory: Memory | None = None,
        loaded: Loaded | None = None,
    ) -> None:
        """From a schedule or its code; or from what was `loaded`, made of them before."""
        loaded = loaded or _loaded(schedule, threads, code)
        image, self._library, self._write = loaded.image, loaded.library, loaded.write
        self.image = image
        self.lock = threading.RLock()  # a signal handler that calls it again must not wait
        self._team: Team = team(image.threads)
        source = memory or Memory()
        self._arena = source.allocate(image.arena)
        self._scratch = source.allocate(image.scratch * image.threads)
        self._status = np.zeros((len(image.checks), 2), np.int64)
        self.callbacks = tuple([c.callback for c in image.checks if c.callback is not None])
        self._functions = [FUNCTION(callback) for callback in self.callbacks]
        self._slots: dict[int, list[tuple[int, int]]] = {}
        self._table = self._fill_table()
        self._pointers = memoryview(self._table)  # type: ignore[arg-type]
        self._argument = (ctypes.c_uint64 * 3)(
            self._table.ctypes.data, self._scratch.ctypes.data, image.scratch
        )
        self._entry = self._library.addresses["program"], ctypes.addressof(self._argument)
        self.sources: list[int | None] = list(image.sources)
        """For each output the input whose memory it lies in; None: memory of its own."""
        self.made = [
            (i, kind, self.slots_of(image.inputs + i))
            for i, kind in enumerate(loaded.types)
            if image.sources[i] is None
        ]
        """The outputs that need memory, their types, where their pointers stand."""

    # ---- what it was made from ----

    @functools.cached_property
    def code(self) -> Code:
        return self._write()

    @property
    def schedule(self) -> Schedule:
        return self.code.schedule

    @property
    def plan(self) -> Plan:
        return self.code.plan

    @property
    def kernels(self) -> tuple[Written, ...]:
        return self.code.kernels

    @property
    def text(self) -> str:
        return self.code.text

    # ---- pointers ----

    def _fill_table(self) -> Numbers:
        """Pointers to what lies in the arena, for good; slots for inputs and outputs."""
        table = np.zeros(1 + len(self.image.slots), np.uint64)
        arena, status = self._arena.ctypes.data, self._status.ctypes.data
        for slot, (home, offset) in enumerate(self.image.slots):
            if home == STATUS:
                table[slot] = status + offset
            elif home == ARENA:
                table[slot] = arena + offset
            elif home == CALLBACK:
                table[slot] = _address(self._functions[offset])
            else:
                self._slots.setdefault(home, []).append((slot, offset))
        return table

    def span(self, first: int, count: int) -> Span:
        """Inputs that are bound together."""
        rows = [
            (slot, i, offset)
            for i in range(count)
            for slot, offset in self._slots.get(first + i, ())
        ]
        slots, owners, offsets = np.array(rows, np.int64).reshape(-1, 3).T.copy()
        return Span(first, count, slots, owners, offsets.astype(np.uint64))

    def bind(self, i: int, numbers: Numbers) -> None:
        """Let input `i` be these numbers, row-major, until it is bound again."""
        self.point(self.slots_of(i), numbers)

    def bind_span(self, span: Span, addresses: Numbers) -> None:
        """Let consecutive inputs lie at these addresses."""
        self._table[span.slots] = addresses[span.owners] + span.offsets

    def slots_of(self, home: int) -> Slots:
        """Where the pointers to an input, or after these an output, stand in the table, and how
        far into it each points."""
        return tuple(self._slots.get(home, ()))

    def point(self, slots: Slots, numbers: Numbers) -> None:
        """Let these pointers show to numbers."""
        if slots:
            address = _start_of(numbers)
            pointers = self._pointers
            for slot, offset in slots:
                pointers[slot] = address + offset

    # ---- calls ----

    def run(self) -> None:
        """Run on what is bound. Raises what a kernel that failed has to say; donated inputs are
        then as they were."""
        try:
            self._team.run(*self._entry)
            failed = self.image.checks and np.count_nonzero(self._status)  # `any` takes 2 µs
        except BaseException:  # an interrupt, which comes when the job is done
            self._status[:] = 0
            raise
        if failed:
            self._fail()

    @functools.cached_property
    def _steps(self) -> Library:
        """The kernels one by one: code of its own, made when it is asked for."""
        emitter = Emitter.begin(self.code.target)
        kernels = [emitter.write(kernel) for kernel in self.schedule.kernels]
        names = [f"step{i}" for i in range(len(kernels))]
        text = write_steps(emitter.module, emitter.target, kernels)
        return load(text, names, self.code.target, ObjectCache.chosen())

    def stepwise(self) -> Iterator[float]:
        """Run on what is bound, kernel by kernel: the seconds of each. Raises as `run` does."""
        for i in range(len(self.kernels)):
            if i == self.code.guard and self._status.any():
                break
            address = self._steps.addresses[f"step{i}"]
            begin = time.perf_counter()
            self._team.run(address, self._entry[1])
            yield time.perf_counter() - begin
        if self.image.checks and self._status.any():
            self._fail()

    def __call__(self, inputs: Sequence[Numbers]) -> list[Numbers]:
        """The outputs from row-major inputs: in new arrays, or in the donated ones."""
        with self.lock:
            for i, numbers in enumerate(inputs):
                self.bind(i, numbers)
            made = {i: np.empty(kind.shape, kind.dtype) for i, kind, _ in self.made}
            for i, _, slots in self.made:
                self.point(slots, made[i])
            self.run()
        return [made[i] if k is None else inputs[k] for i, k in enumerate(self.sources)]

    def _fail(self) -> NoReturn:
        """Raise what the first kernel that failed has to say."""
        failed = int(np.flatnonzero(self._status[:, 0])[0])
        check, number = self.image.checks[failed], int(self._status[failed, 1])
        self._status[:] = 0
        error = check.error(number)
        if isinstance(error, PullbackError):
            error.locate(check.subject, check.site)
        raise error


def _start_of(numbers: Numbers) -> int:
    """Where an array lies. A view through the buffer protocol takes a sixth of the time of
    `__array_interface__`; what is empty, read-only or bfloat16 gives none."""
    if numbers.flags.writeable:
        try:
            return ctypes.addressof(ctypes.c_char.from_buffer(numbers))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            pass
    address: int = numbers.__array_interface__["data"][0]
    return address


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
