"""Kernels that run kernels: loops and choices, as functions that all threads call.

`void @name(ptr operands, i64 thread, i64 threads, ptr team, ptr scratch)`: each thread runs the
same loop, takes its share of each kernel in it, and waits at the end of each step. The operands of
the kernels inside go through a table on the thread's own stack: a row of an array is a pointer that
moves, and nothing is copied.

A carry is written where the one before it was read, if the body's plan finds that it may be;
otherwise two buffers take turns, so that the last one written is the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pullback.backend.assembly import Function, Module, Ssa, integer
from pullback.backend.crowd import Crowd
from pullback.backend.storage import workload
from pullback.backend.turns import SMALL
from pullback.backend.written import (
    CALLBACK,
    STATUS,
    WORKSPACE,
    Check,
    Exceeded,
    Nest,
    Placed,
    Written,
)
from pullback.ops.control import too_many_steps
from pullback.schedule.aliasing import Use
from pullback.schedule.kernels import Call, Choice, Kernel, Nested, Operand, Repeat, Schedule, Until
from pullback.schedule.memory import Plan, evaluate
from pullback.schedule.packing import aligned

FLAG = 64
"""Bytes of the workspace for the truth of a condition: a line of its own."""

STATUS_BYTES = 16
STEPS = 8
"""The steps that a loop of unknown length is taken to make."""

Write = Callable[[Kernel], Written]


def write_nested(kernel: Nested, name: str, module: Module, write: Write) -> Written:
    """Add the code of a kernel and of those inside it, which `write` writes."""
    writer: _Writer
    match kernel.form:
        case Repeat():
            writer = _Repeat(kernel, name, write, kernel.form)
        case Until():
            writer = _Until(kernel, name, write, kernel.form)
        case Choice():
            writer = _Choice(kernel, name, write, kernel.form)
    writer.write()
    writer.f.finish()
    module.add(writer.f)
    return writer.written()


# ---- a schedule inside a kernel -------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """A schedule inside, with its kernels and its plan; `table` is its first slot."""

    schedule: Schedule
    kernels: tuple[Written, ...]
    plan: Plan
    table: int
    checks: int
    """Checks of the parts before it."""
    callbacks: int
    """Callbacks of the parts before it."""

    @property
    def cost(self) -> int:
        return sum(kernel.cost for kernel in self.kernels)

    @property
    def slots(self) -> int:
        return sum(len(kernel.operands) for kernel in self.kernels)


class _Writer:
    """What loops and choices share: parts, pointers, calls."""

    def __init__(self, kernel: Nested, name: str, write: Write) -> None:
        self.kernel, self.name, self.write_kernel = kernel, name, write
        labels = [("ptr", "operands"), ("i64", "thread"), ("i64", "threads"), ("ptr", "team")]
        self.f = Function(name, [*labels, ("ptr", "scratch")])
        self.parts: list[_Part] = []
        self.own_checks: list[Check] = []
        self.in_place: list[tuple[int, int]] = []
        self.reserved = 0
        self.packed: dict[int, int] = {}
        """For kernels of the body with a packed operand where in the workspace that lies."""
        self.outer = (*kernel.inputs, *kernel.outputs)

    def write(self) -> None:
        raise NotImplementedError

    @property
    def cost(self) -> int:
        raise NotImplementedError

    def part(
        self, schedule: Schedule, donors: Mapping[int, int] | None = None, constants: int = 0
    ) -> _Part:
        fixed = schedule.inputs[:constants]
        kernels = tuple([self.write_kernel(_with_fixed(k, fixed)) for k in schedule.kernels])
        plan = evaluate(workload(schedule, kernels, donors))
        if plan.conflicts and donors:
            late = {conflict.value for conflict in plan.conflicts}
            kept = {value: donor for value, donor in donors.items() if value not in late}
            plan = evaluate(workload(schedule, kernels, kept))
        table = sum(part.slots for part in self.parts)
        checks = sum(len(k.checks) for part in self.parts for k in part.kernels)
        made = _Part(schedule, kernels, plan, table, checks, self.callbacks)
        self.parts.append(made)
        return made

    @property
    def callbacks(self) -> int:
        return sum(len(k.callbacks) for part in self.parts for k in part.kernels)

    def reserve(self, count: int) -> int:
        """The offset in the workspace of memory that lasts as long as the kernel."""
        offset = self.reserved
        self.reserved += aligned(count)
        return offset

    def open(self) -> None:
        """The beginning of the function, when all parts are known."""
        f = self.f
        operands = f.parameters[0]
        slots = sum(part.slots for part in self.parts)
        self.table = f.assign("ptr", f"alloca ptr, i64 {max(slots, 1)}, align 8")
        pointers = [
            f.load("ptr", f.at(operands, "ptr", integer(i)), 8)
            for i in range(len(self.outer) + 2 + self.callbacks)
        ]
        cut, end = len(self.kernel.inputs), len(self.outer)
        self.inputs, self.outputs = pointers[:cut], pointers[cut:end]
        self.workspace, self.status, *self.functions = pointers[end:]

    def run(self, part: _Part, pointers: Mapping[int, Ssa]) -> None:
        """Run a part whose inputs and outputs lie at `pointers`."""
        f = self.f
        _, thread, threads, team, scratch = f.parameters
        env = {**self._inner(part), **pointers}
        starts = [part.table]
        checks = [part.checks]
        for kernel in part.kernels:
            starts.append(starts[-1] + len(kernel.operands))
            checks.append(checks[-1] + len(kernel.checks))

        def operands(i: int) -> Ssa:
            before = part.callbacks + sum(len(k.callbacks) for k in part.kernels[:i])
            for j, operand in enumerate(part.kernels[i].operands):
                match operand.buffer:
                    case _ if j == 1 and part.kernels[i].packing is not None:
                        at = self.moved(self.workspace, self.packed[i])
                    case buffer if buffer == CALLBACK:
                        at = self.functions[before + operand.offset]
                    case buffer if buffer == STATUS:
                        at = self.moved(self.status, checks[i] * STATUS_BYTES + operand.offset)
                    case buffer if buffer == WORKSPACE:
                        place = part.plan.writes(i)[-1]
                        at = self.moved(self.workspace, self.reserved + place.offset)
                    case buffer:
                        at = self.moved(env[buffer], operand.offset)
                f.store(at, f.at(self.table, "ptr", integer(starts[i] + j)), 8)
            return f.at(self.table, "ptr", integer(starts[i]))

        Crowd(f, thread, threads, team, scratch).run(part.kernels, part.plan, operands)

    def _inner(self, part: _Part) -> dict[int, Ssa]:
        """Where the values lie that only this part knows."""
        pointers = {}
        for i, kernel in enumerate(part.schedule.kernels):
            for buffer, place in zip(sorted(kernel.writes()), part.plan.writes(i), strict=False):
                if place.resident is None:
                    pointers[buffer] = self.moved(self.workspace, self.reserved + place.offset)
        return pointers

    def wait(self) -> None:
        _, _, threads, team, _ = self.f.parameters
        self.f.call("barrier", "void", team, threads)

    def moved(self, pointer: Ssa, count: int) -> Ssa:
        return pointer if count == 0 else self.f.at(pointer, "i8", integer(count))

    def written(self) -> Written:
        operands = [Placed(x.buffer, x.layout.offset * x.dtype.itemsize) for x in self.outer]
        kernels = [kernel for part in self.parts for kernel in part.kernels]
        arena = max((part.plan.arena_bytes for part in self.parts), default=0)
        checks = [check for kernel in kernels for check in kernel.checks]
        functions = [Placed(CALLBACK, i) for i in range(self.callbacks)]
        return Written(
            self.name,
            (*operands, Placed(WORKSPACE, 0), Placed(STATUS, 0), *functions),
            iterations=1,
            scratch=max((kernel.scratch for kernel in kernels), default=0),
            checks=(*checks, *self.own_checks),
            cost=self.cost,
            use=replace(Use.of(self.kernel), in_place=tuple(self.in_place)),
            nested=Nest(
                workspace=max(aligned(self.reserved + arena), FLAG),
                alone=sum(part.cost for part in self.parts) < SMALL,
            ),
        )


# ---- a choice -------------------------------------------------------------------------------


class _Choice(_Writer):
    def __init__(self, kernel: Nested, name: str, write: Write, form: Choice) -> None:
        super().__init__(kernel, name, write)
        self.branches = [self.part(form.if_true), self.part(form.if_false)]

    @property
    def cost(self) -> int:
        return max(branch.cost for branch in self.branches)

    def write(self) -> None:
        self.open()
        f = self.f
        truth = f.load("i8", self.inputs[0], 1)
        for branch, predicate in zip(self.branches, ("icmp ne", "icmp eq"), strict=True):
            with f.when(f.compare(predicate, truth, integer(0, "i8"))):
                schedule = branch.schedule
                known = dict(zip(schedule.inputs, self.inputs[1:], strict=True))
                known |= dict(zip(schedule.outputs, self.outputs, strict=True))
                self.run(branch, known)


# ---- carries --------------------------------------------------------------------------------


@dataclass
class _Carry:
    """Where a carry is read, where it is written, and the buffer whose turn is next."""

    outer: Operand
    result: Operand
    spare: int | None
    """The offset of its second buffer in the workspace; None where one buffer will do."""
    read: Ssa = field(init=False)
    write: Ssa = field(init=False)
    next: Ssa = field(init=False)


class _Loop(_Writer):
    """A loop over a body with carries. Pointers that change stand in memory of the thread."""

    body: _Part
    carries: list[_Carry]

    def carried(self, body: Schedule, constants: int, count: int) -> None:
        """Plan the body: which carries may stay in their buffer."""
        inputs = body.inputs[constants : constants + count]
        donors = dict(zip(body.outputs, inputs, strict=False))
        self.body = self.part(body, donors, constants)
        self.packed = {
            i: self.reserve(kernel.packing.size)
            for i, kernel in enumerate(self.body.kernels)
            if kernel.packing is not None
        }
        taken = self.body.plan.lifetimes.workload.values
        given = self.kernel.inputs[constants:]
        self.carries = []
        for i, output in enumerate(body.outputs[:count]):
            stays = taken[output].donor == inputs[i]
            outer, result = given[i], self.kernel.outputs[i]
            spare = None if stays else self.reserve(body.buffers[output].type.nbytes)
            self.carries.append(_Carry(outer, result, spare))
            once = sum(x.buffer == outer.buffer for x in self.kernel.inputs) == 1
            if stays and once and outer.layout.offset == 0:
                self.in_place.append((result.buffer, outer.buffer))

    def begin(self, constants: int, ends_in_spare: bool) -> None:
        """Carries are read from outside at first; the last of an even number ends in the spare."""
        self._pack()
        for i, carry in enumerate(self.carries):
            home = self.outputs[i]
            spare = home if carry.spare is None else self.moved(self.workspace, carry.spare)
            first, second = (spare, home) if ends_in_spare else (home, spare)
            carry.read, carry.write, carry.next = (
                self._variable(x) for x in (self.inputs[constants + i], first, second)
            )

    def _pack(self) -> None:
        """Bring constants into the order in which products of the body read them."""
        f = self.f
        _, thread, threads, team, scratch = f.parameters
        crowd = Crowd(f, thread, threads, team, scratch)
        known = dict(zip(self.body.schedule.inputs, self.inputs, strict=False))
        for i, place in self.packed.items():
            packing = self.body.kernels[i].packing
            assert packing is not None
            operands = f.assign("ptr", "alloca ptr, i64 2, align 8")
            source = self.moved(known[packing.source.buffer], packing.source.offset)
            f.store(source, operands, 8)
            target = self.moved(self.workspace, place)
            f.store(target, f.at(operands, "ptr", integer(1)), 8)
            crowd.call(packing.name, packing.iterations, operands)
        if self.packed:
            self.wait()

    def _variable(self, pointer: Ssa) -> Ssa:
        variable = self.f.assign("ptr", "alloca ptr, align 8")
        self.f.store(pointer, variable, 8)
        return variable

    def pointers(self, constants: int) -> dict[int, Ssa]:
        """Where the body finds constants and carries, and puts the carries."""
        f, schedule = self.f, self.body.schedule
        known = dict(zip(schedule.inputs, self.inputs[:constants], strict=False))
        for i, carry in enumerate(self.carries):
            known[schedule.inputs[constants + i]] = f.load("ptr", carry.read, 8)
            known[schedule.outputs[i]] = f.load("ptr", carry.write, 8)
        return known

    def turn(self) -> None:
        """What was written is read next, and the buffers take turns."""
        f = self.f
        for carry in self.carries:
            write, following = (f.load("ptr", x, 8) for x in (carry.write, carry.next))
            for value, variable in (
                (write, carry.read),
                (following, carry.write),
                (write, carry.next),
            ):
                f.store(value, variable, 8)

    def end(self) -> None:
        """Copy the carries that did not end where the results belong."""
        f = self.f
        thread = f.parameters[1]
        with f.when(f.compare("icmp eq", thread, integer(0))):
            for carry, home in zip(self.carries, self.outputs, strict=False):
                last = f.load("ptr", carry.read, 8)
                with f.when(f.compare("icmp ne", last, home)):
                    count = integer(carry.result.type.nbytes)
                    copied = Ssa("i1", "false")
                    f.call("llvm.memcpy.p0.p0.i64", "void", home, last, count, copied)


def _with_fixed(kernel: Kernel, buffers: Sequence[int]) -> Kernel:
    """A kernel that knows which of its operands are the same in each step."""
    if not isinstance(kernel, Call):
        return kernel
    fixed = [i for i, x in enumerate(kernel.inputs) if x.buffer in buffers]
    return replace(kernel, fixed=tuple(fixed))


# ---- a loop of known length -----------------------------------------------------------------


class _Repeat(_Loop):
    def __init__(self, kernel: Nested, name: str, write: Write, form: Repeat) -> None:
        super().__init__(kernel, name, write)
        self.form = form
        self.carried(form.body, form.constants, form.carries)

    @property
    def cost(self) -> int:
        return self.form.length * self.body.cost

    def write(self) -> None:
        self.open()
        f, form = self.f, self.form
        self.begin(form.constants, ends_in_spare=form.length % 2 == 0)
        with f.loop(integer(0), integer(form.length)) as loop:
            row = loop.index
            if form.reverse:
                row = f.binary("sub", integer(form.length - 1), row)
            self.run(self.body, self.pointers(form.constants) | self._rows(row))
            self.turn()
            self.wait()
        if form.length == 0:
            self.end()

    def _rows(self, row: Ssa) -> dict[int, Ssa]:
        f, form, schedule = self.f, self.form, self.body.schedule
        fixed = form.constants + form.carries
        buffers = (*schedule.inputs[fixed:], *schedule.outputs[form.carries :])
        bases = (*self.inputs[fixed:], *self.outputs[form.carries :])
        known = {}
        for buffer, base in zip(buffers, bases, strict=True):
            size = schedule.buffers[buffer].type.nbytes
            known[buffer] = f.at(base, "i8", f.binary("mul", row, integer(size)))
        return known


# ---- a loop of unknown length ---------------------------------------------------------------


class _Until(_Loop):
    def __init__(self, kernel: Nested, name: str, write: Write, form: Until) -> None:
        super().__init__(kernel, name, write)
        self.form = form
        self.flag = self.reserve(FLAG)
        self.condition = self.part(form.condition)
        self.carried(form.body, form.constants, len(form.body.outputs))
        if form.max_steps is not None:
            limit = form.max_steps
            message = too_many_steps(limit)
            check = Check("while", kernel.site, Exceeded(message))
            self.own_checks.append(check)

    @property
    def cost(self) -> int:
        return STEPS * (self.condition.cost + self.body.cost)

    def write(self) -> None:
        self.open()
        f, form = self.f, self.form
        self.begin(form.constants, ends_in_spare=False)
        steps = f.assign("ptr", "alloca i64, align 8")
        f.store(integer(0), steps, 8)
        flag = self.moved(self.workspace, self.flag)
        with f.repeat() as go_on_if:
            known = self.pointers(form.constants)
            seen = [known[buffer] for buffer in self.body.schedule.inputs]
            condition = self.condition.schedule
            at = dict(zip(condition.inputs, seen, strict=True))
            self.run(self.condition, at | {condition.outputs[0]: flag})
            self.wait()
            go_on_if(f.compare("icmp ne", f.load("i8", flag, 1), integer(0, "i8")))
            count = f.load("i64", steps, 8)
            if form.max_steps is not None:
                go_on_if(self._below(count, form.max_steps))
            f.store(f.binary("add", count, integer(1)), steps, 8)
            self.run(self.body, known)
            self.turn()
            self.wait()
        self.end()

    def _below(self, count: Ssa, limit: int) -> Ssa:
        """Whether another step is allowed; one that is not is a failure."""
        f = self.f
        inner = sum(len(kernel.checks) for part in self.parts for kernel in part.kernels)
        over = f.compare("icmp sge", count, integer(limit))
        first = f.compare("icmp eq", f.parameters[1], integer(0))
        with f.when(f.binary("and", over, first)):
            f.store(integer(1), self.moved(self.status, inner * STATUS_BYTES), 8)
        return f.compare("icmp slt", count, integer(limit))
