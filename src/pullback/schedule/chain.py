"""Kernels that run one after the other inside one iteration of a parallel domain.

Between two kernels a large value goes to main memory and back. Where each outer iteration reads of
it only what that iteration wrote, the kernels can take turns on one part after another, and the
value shrinks to a part that stays in the cache of one core: the scores of attention for one head,
or for some queries of one head. The kernels are the same, over fewer indices, so the bits are too.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

from pullback._trusted import trusted
from pullback.ir.types import TensorType
from pullback.ops.contract import Contract
from pullback.schedule.cuts import THIN, Clash, Cut, Level, cut_alike, share, taken, without
from pullback.schedule.epilogue import join_epilogues
from pullback.schedule.kernels import Buffer, Call, Chain, Kernel, Schedule, Window
from pullback.schedule.walks import (
    Reach,
    Role,
    Walk,
    cut,
    has_parts,
    rows_and_columns,
    walk_of,
)

WORTH = 256 * 1024
"""Bytes of a value that does not stay in a core's cache from one kernel to the next."""
FITS = 256 * 1024
"""Bytes that the values of one iteration may take: half of a core's second-level cache."""
MOST = 4 * 1024 * 1024
"""Bytes that they may take where the thinnest parts are larger than that."""
PARALLEL = 4
"""Iterations that must be left to share among threads."""


def chained(schedule: Schedule) -> Schedule:
    """`schedule` with kernels chained where that keeps large values out of main memory."""
    return _Chains(schedule).schedule()


def why_apart(schedule: Schedule) -> dict[int, str]:
    """For each value between two kernels of a finished schedule, why these are no chain."""
    chains, reasons = _Chains(schedule), {}
    for buffer in sorted(chains.maker.keys() & chains.readers.keys()):
        size = schedule.buffers[buffer].type.nbytes
        if buffer in chains.outside:
            reasons[buffer] = "it is a result"
        elif size < WORTH:
            reasons[buffer] = f"its {size} bytes stay in the cache"
        else:
            reasons[buffer] = (
                chains._try(buffer) or "one of them cannot run on a part of an operand"
            )
    return reasons


@trusted(frozen=True, slots=True, eq=False)
class _Plan:
    """Kernels to chain, how each is cut, and the buffers that become scratch.

    The cut of a kernel may be that of an equal one, on other buffers.
    """

    members: tuple[int, ...]
    cuts: tuple[Cut, ...]
    levels: tuple[Level, ...]
    local: frozenset[int]

    def cut(self, member: int) -> Cut:
        return self.cuts[self.members.index(member)]

    @property
    def serial(self) -> list[int]:
        """The levels along which some kernel adds up."""
        every = range(len(self.levels))
        return [i for i in every if any(each.sums(i) for each in self.cuts)]

    @property
    def parallel(self) -> list[int]:
        serial = self.serial
        return [i for i in range(len(self.levels)) if i not in serial]

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple([level.count for level in self.levels])

    @property
    def iterations(self) -> int:
        return math.prod(self.levels[i].count for i in self.parallel)


@trusted(frozen=True, slots=True)
class _Form:
    """A kernel's walk: the number that all equal ones have, and the buffers that it reaches."""

    number: int
    buffers: tuple[int, ...]


class _Chains:
    def __init__(self, schedule: Schedule) -> None:
        self.given = schedule
        self.kernels = schedule.kernels
        self.sizes = [buffer.type.nbytes for buffer in schedule.buffers]
        self.parted = [has_parts(kernel) for kernel in self.kernels]
        self.products = [_product(kernel) for kernel in self.kernels]
        self.walks: dict[int, Walk] = {}
        """Of those that a plan has been sought for."""
        self.forms: dict[int, _Form] = {}
        self.numbers: dict[Hashable, int] = {}
        self.reads = [kernel.reads() for kernel in self.kernels]
        self.writes = [kernel.writes() for kernel in self.kernels]
        self.maker: dict[int, int] = {}
        self.readers: dict[int, list[int]] = {}
        for i in range(len(self.kernels)):
            self.maker |= dict.fromkeys(self.writes[i], i)
            for buffer in self.reads[i]:
                self.readers.setdefault(buffer, []).append(i)
        self.outside = {*schedule.inputs, *schedule.outputs}
        self.plans: dict[int, _Plan] = {}
        self.chosen: dict[_Plan, None] = {}
        self.known: dict[Hashable, tuple[_Plan | str, list[int]]] = {}
        self.chains: dict[int, Chain] = {}

    def schedule(self) -> Schedule:
        for buffer in self._large():
            self._try(buffer)
        for plan in self.chosen:
            made = _Body(self.given, self.walks, plan).chain()
            if made is None:
                for i in plan.members:
                    del self.plans[i]
            else:
                self.chains[plan.members[-1]] = made
        if not self.plans:
            return self.given
        return replace(self.given, kernels=tuple(self._ordered()))

    def _large(self) -> list[int]:
        """Buffers worth to be scratch, the largest first."""
        sizes, inside = self.sizes, self.maker.keys() & self.readers.keys()
        chosen = [i for i in inside if sizes[i] >= WORTH and i not in self.outside]
        return sorted(chosen, key=lambda i: (-sizes[i], i))

    def _try(self, buffer: int) -> str | None:
        """Chain all the kernels that touch a buffer, with those they are chained with already.

        Says why it does not; None where it does.
        """
        touching = {self.maker[buffer], *self.readers[buffer]}
        members = set(touching)
        for i in touching:
            if i in self.plans:
                members.update(self.plans[i].members)
        for i in members:
            if not self.parted[i]:
                return f"kernel {i} has no independent parts"
        if all(self.products[i] is None for i in members):
            return "no product is among them"
        plan = self._known_plan(tuple(sorted(members)))
        if isinstance(plan, str):
            return plan
        if buffer not in plan.local:
            return "a kernel that is no part of it reads the value"
        if not self._is_convex(plan.members):
            return "a kernel between them needs one of them and is needed by another"
        for old in {self.plans[i] for i in plan.members if i in self.plans}:
            del self.chosen[old]
        self.chosen[plan] = None
        self.plans.update(dict.fromkeys(plan.members, plan))
        return None

    # ---- how to cut ----

    def _known_plan(self, members: tuple[int, ...]) -> _Plan | str:
        """The plan of these kernels, or why there is none: that of equal ones, as in another layer,
        where it is known.
        """
        forms = [self._form(i) for i in members]
        buffers = dict.fromkeys([buffer for form in forms for buffer in form.buffers])
        key = self._key(members, forms, buffers)
        known = self.known.get(key)
        if known is None:
            made = self._plan(members)
            self.known[key] = made, list(buffers)
            return made
        plan, given = known
        if isinstance(plan, str):
            return plan
        renamed = dict(zip(given, buffers, strict=True))
        local = frozenset([renamed[b] for b in plan.local])
        return _Plan(members, plan.cuts, plan.levels, local)

    def _form(self, i: int) -> _Form:
        """What the plan of a kernel depends on."""
        form = self.forms.get(i)
        if form is None:
            walk, product, writes = walk_of(self.kernels[i]), self.products[i], self.writes[i]
            assert walk is not None
            self.walks[i] = walk
            reaches = [(x.offset, x.steps, x.buffer in writes) for x in walk.reaches]
            made = None if product is None else (product.op, product.outputs[0].dtype)
            key = walk.axes, tuple(reaches), made
            number = self.numbers.setdefault(key, len(self.numbers))
            form = self.forms[i] = _Form(number, tuple([x.buffer for x in walk.reaches]))
        return form

    def _key(
        self, members: Sequence[int], forms: Sequence[_Form], buffers: Iterable[int]
    ) -> Hashable:
        """All that the plan of these kernels depends on, their buffers numbered as they are met."""
        inside = set(members)
        numbers = {b: i for i, b in enumerate(buffers)}
        seen = [
            (self.sizes[b], b in self.outside, inside.issuperset(self.readers.get(b, ())))
            for b in numbers
        ]
        kernels = [(form.number, *[numbers[b] for b in form.buffers]) for form in forms]
        return tuple(kernels), tuple(seen)

    def _plan(self, members: tuple[int, ...]) -> _Plan | str:
        """The plan with the most iterations, of those that begin with the batches of a product.

        Or why there is none.
        """
        best: _Plan | None = None
        reason = ""
        for seed in members:
            if self.products[seed] is None:
                continue
            batches = _batches(self.walks[seed])
            plan = self._from(seed, members, list(batches))
            if isinstance(plan, str):
                reason = plan
                continue
            if len(plan.levels) >= len(batches):
                return plan
            if best is None or plan.iterations > best.iterations:
                best = plan
        return best or reason

    def _from(
        self, seed: int, members: tuple[int, ...], parts: list[tuple[int, int]]
    ) -> _Plan | str:
        """The plan that begins with parts of the seed, without those that not all share."""
        while parts:
            plan = self._cut(seed, members, parts, len(parts))
            if isinstance(plan, _Plan):
                plan = self._in_blocks(seed, plan, parts)
                if self._scratch(plan) > MOST:
                    return f"an iteration would need {self._scratch(plan)} bytes, more than {MOST}"
                if plan.iterations < PARALLEL:
                    return f"it would have {plan.iterations} iterations, fewer than {PARALLEL}"
                return plan
            if plan.level is None:
                break
            del parts[plan.level]
        return "they share no index by which all can be cut"

    def _cut(
        self, seed: int, members: tuple[int, ...], parts: list[tuple[int, int]], free: int
    ) -> _Plan | Clash:
        """All members cut like the seed; only the parts after `free` ones may cut tiles."""
        walks = {i: self.walks[i] for i in members}
        made = {buffer for i in members for buffer in self.writes[i]}
        shared = {buffer for i in members for buffer in self.reads[i]} & made
        users: dict[int, list[int]] = {buffer: [] for buffer in shared}
        for i in members:
            for buffer in (self.reads[i] | self.writes[i]) & shared:
                users[buffer].append(i)
        levels = tuple([Level(count, i >= free) for i, (_, count) in enumerate(parts)])
        cuts = cut_alike(walks, users, levels, (seed, taken(walks[seed], parts)))
        if isinstance(cuts, Clash):
            return cuts
        for i, each in cuts.items():
            if not self._allowed(i, each, shared):
                return Clash(len(parts) - 1)
        local = [
            b for b in shared if b not in self.outside and set(self.readers[b]) <= set(members)
        ]
        return _Plan(members, tuple([cuts[i] for i in members]), levels, frozenset(local))

    def _allowed(self, i: int, each: Cut, shared: set[int]) -> bool:
        """Tiles stay thick; what is summed up in turns is read by none of the others."""
        product = self.products[i]
        if product is None:
            return True
        whole = rows_and_columns(product, [axis.size for axis in each.walk.axes])
        rest = rows_and_columns(product, each.sizes)
        if whole is None or rest is None:
            return False
        if any(left < min(THIN, size) for left, size in zip(rest, whole, strict=True)):
            return False
        if not any(each.sums(level) for level in range(len(each.axes))):
            return True
        whole_sums = product.outputs[0].dtype.itemsize >= 4 and rest != (1, 1)
        return whole_sums and each.sums_in_order and not self.writes[i] & shared

    def _in_blocks(self, seed: int, plan: _Plan, parts: list[tuple[int, int]]) -> _Plan:
        """Also cut along rows of the products, until an iteration fits in the cache."""
        free = len(parts)
        for axis in self._rows_of(seed, plan):
            over = -(-self._scratch(plan) // FITS)
            if over <= 1:
                break
            for count in _divisors(plan.cut(seed).sizes[axis], over):
                finer = self._cut(seed, plan.members, [*parts, (axis, count)], free)
                if isinstance(finer, _Plan):
                    plan, parts = finer, [*parts, (axis, count)]
                    break
        return plan

    def _rows_of(self, seed: int, plan: _Plan) -> list[int]:
        """The tiled axes of the seed, the outermost of its result first."""
        walk = plan.cut(seed).walk
        result = walk.reaches[-1]
        tiled = [i for i, axis in enumerate(walk.axes) if axis.role is Role.TILED and axis.size > 1]
        return sorted(tiled, key=lambda i: -result.steps[i])

    def _scratch(self, plan: _Plan) -> int:
        """The most bytes of an iteration's values alive at once."""
        live = most = 0
        for i in plan.members:
            live += self._bytes(self.writes[i] & plan.local, plan)
            most = max(most, live)
            dying = [b for b in self.reads[i] & plan.local if max(self.readers[b]) == i]
            live -= self._bytes(dying, plan)
        return most

    def _bytes(self, buffers: Iterable[int], plan: _Plan) -> int:
        return sum(share(plan.counts, self.sizes[b]) for b in buffers)

    # ---- order ----

    def _is_convex(self, members: Sequence[int]) -> bool:
        """Whether nothing that needs a member is needed by another."""
        if self._between(members):
            return False
        inside, limit = set(members), members[-1]
        others = [plan.members for plan in self.chosen if plan.members[-1] > limit]
        for other in sorted(others):
            if other[0] <= limit:  # what lies behind all of these leads nowhere back
                limit = max(limit, other[-1])
        pending = [k for i in members for k in self._followers(i) if k not in inside]
        seen = set(pending)
        while pending:
            i = pending.pop()
            unit = self.plans[i].members if i in self.plans else (i,)
            for k in {k for each in unit for k in self._followers(each)} - seen:
                if k in inside:
                    return False
                if k <= limit:
                    seen.add(k)
                    pending.append(k)
        return True

    def _between(self, members: Sequence[int]) -> int:
        """The kernels that need a member and are needed by another, as bits, chains aside."""
        before = after = inside = 0
        for i in members:
            before |= self.reach[0][i]
            after |= self.reach[1][i]
            inside |= 1 << i
        return before & after & ~inside

    @functools.cached_property
    def reach(self) -> tuple[list[int], list[int]]:
        """For each kernel those it needs and those that need it, directly or through others: bit i
        for kernel i."""
        count = len(self.kernels)
        before, after = [0] * count, [0] * count
        for i in range(count):
            for buffer in self.reads[i]:
                k = self.maker.get(buffer, i)
                if k != i:
                    before[i] |= before[k] | 1 << k
        for i in reversed(range(count)):
            for k in self._followers(i):
                if k != i:
                    after[i] |= after[k] | 1 << k
        return before, after

    def _followers(self, i: int) -> list[int]:
        return [k for buffer in self.writes[i] for k in self.readers.get(buffer, ())]

    def _ordered(self) -> list[Kernel]:
        """Chains and kernels, each after those it needs, as near to the given order as may be."""
        last = [self.plans[i].members[-1] if i in self.plans else i for i in range(len(self.reads))]
        needs: dict[int, set[int]] = {unit: set() for unit in last}
        for i, unit in enumerate(last):
            makers = [self.maker[b] for b in self.reads[i] if b in self.maker]
            needs[unit].update([last[k] for k in makers if last[k] != unit])
        followers: dict[int, list[int]] = {}
        for unit, before in needs.items():
            for k in before:
                followers.setdefault(k, []).append(unit)
        waiting = {unit: len(before) for unit, before in needs.items()}
        ready = sorted([unit for unit, count in waiting.items() if not count])
        result: list[Kernel] = []
        while ready:
            unit = heapq.heappop(ready)
            result.append(self.chains[unit] if unit in self.plans else self.kernels[unit])
            for k in followers.get(unit, ()):
                waiting[k] -= 1
                if not waiting[k]:
                    heapq.heappush(ready, k)
        return result


class _Body:
    """The schedule inside a chain."""

    def __init__(self, given: Schedule, walks: Mapping[int, Walk], plan: _Plan) -> None:
        self.given, self.walks, self.plan = given, walks, plan
        self.order = [*plan.parallel, *plan.serial]
        self.buffers: list[Buffer] = []
        self.number: dict[object, int] = {}
        self.windows: dict[int, Window] = {}

    def chain(self) -> Chain | None:
        """None where a kernel cannot run on a part of its operands."""
        plan = self.plan
        kernels = [self._cut(i, each) for i, each in zip(plan.members, plan.cuts, strict=True)]
        body = tuple([kernel for kernel in kernels if kernel is not None])
        if len(body) < len(kernels):
            return None
        written = {buffer for kernel in body for buffer in kernel.writes()}
        inputs = tuple([i for i in self.windows if i not in written])
        outputs = tuple([i for i in self.windows if i in written])
        return Chain(
            tuple([plan.levels[i].count for i in plan.parallel]),
            tuple([plan.levels[i].count for i in plan.serial]),
            join_epilogues(Schedule(body, tuple(self.buffers), inputs, outputs)),
            tuple([self.windows[i] for i in (*inputs, *outputs)]),
        )

    def _cut(self, i: int, each: Cut) -> Kernel | None:
        reaches = [self._moved(reach, each) for reach in self.walks[i].reaches]
        kernel = cut(self.given.kernels[i], each.sizes, reaches)
        if isinstance(kernel, Call) and any(each.sums(level) for level in self.order):
            return replace(kernel, adds=True)
        return kernel

    def _moved(self, reach: Reach, each: Cut) -> Reach:
        steps, given = each.steps(reach), self.given.buffers[reach.buffer]
        if reach.buffer not in self.plan.local:
            ordered = tuple([steps[i] for i in self.order])
            window = Window(reach.buffer, ordered)
            number = self._number(window, given)
            self.windows[number] = window
            return Reach(number, reach.offset, reach.steps)
        counts = self.plan.counts
        digits = sorted(zip(steps, counts, strict=True), reverse=True)
        part = TensorType((share(counts, given.type.size),), given.type.dtype)
        return Reach(
            self._number(reach.buffer, Buffer(part, given.value)),
            without(reach.offset, digits),
            tuple([without(step, digits) for step in reach.steps]),
        )

    def _number(self, key: object, buffer: Buffer) -> int:
        if key not in self.number:
            self.number[key] = len(self.buffers)
            self.buffers.append(buffer)
        return self.number[key]


def _batches(walk: Walk) -> list[tuple[int, int]]:
    """The independent axes of a kernel and their sizes."""
    every = enumerate(walk.axes)
    return [(i, axis.size) for i, axis in every if axis.role is Role.FREE and axis.size > 1]


def _product(kernel: Kernel) -> Call | None:
    return kernel if isinstance(kernel, Call) and isinstance(kernel.op, Contract) else None


def _divisors(n: int, wanted: int) -> list[int]:
    """The divisors of `n` above 1: the smallest that is enough, then those that are not."""
    every = [d for d in range(2, n + 1) if n % d == 0]
    return [d for d in every if d >= wanted][:1] + [d for d in reversed(every) if d < wanted]
