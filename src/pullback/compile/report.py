"""What the memory of a program costs: the values it saves, other budgets, the largest batch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html import escape

from pullback._public import public
from pullback.compile.budget import parse_bytes
from pullback.compile.signature import Dynamic, Signature
from pullback.errors import ArgumentError, MemoryPlanError
from pullback.ir.types import TensorType
from pullback.schedule.memory import Plan, Step, Workload
from pullback.schedule.picture import bytes_text
from pullback.schedule.planner.driver import Planner

POINTS = 12
"""Budgets of a sweep."""

SOME = 32
"""Examples more, from which the memory of one of many is guessed."""

Batched = Callable[[Sequence[str], int], Planner]
"""The plans of the same program for another batch."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A value that the forward pass makes and the backward pass reads."""

    label: str
    bytes: int
    start: int
    """The first and past-the-last step of its life, in the schedule."""
    end: int
    layer: str
    source: str
    """The user's line that it comes from."""
    again: int
    """Nanoseconds that it would take to compute it again when it is read, as the cost model says;
    what that reads and is gone by then is computed again too."""

    def __str__(self) -> str:
        return (
            f"{bytes_text(self.bytes):>10}  {self.again / 1000:10.1f} µs  "
            f"{self.start:5}-{self.end - 1:<5}  {self.label}  {self.layer}  {self.source}"
        ).rstrip()


@dataclass(frozen=True, slots=True)
class Point:
    """A budget that can be met: what the plan for it holds, and how much longer it takes."""

    budget: int
    peak_bytes: int
    slowdown: float

    def __str__(self) -> str:
        return (
            f"{bytes_text(self.budget):>10}  {bytes_text(self.peak_bytes):>10}  "
            f"{self.slowdown:8.2%}"
        )


@dataclass(frozen=True, eq=False)
class MemoryReport(Plan):
    """The plan of a compiled function's memory, and what other budgets would cost."""

    planner: Planner = field(kw_only=True)
    """Plans for other budgets."""
    batched: Batched | None = None

    @classmethod
    def of(cls, plan: Plan, planner: Planner, batched: Batched | None) -> MemoryReport:
        return cls(plan.lifetimes, plan.packing, plan.seconds, batched, planner=planner)

    @functools.cached_property
    def turn(self) -> int:
        """The step of the program with which the backward pass begins; 0 where there is none."""
        return Planner(self.lifetimes.workload).stack.turn

    def _repr_html_(self) -> str:
        """In a notebook: the table, and the arena."""
        return f"<pre>{escape(str(self))}</pre>{self.picture()}"

    @property
    def least_bytes(self) -> int:
        """The smallest budget for which a plan was found."""
        return self.planner.least.peak_bytes

    @public
    def saved(self) -> list[Saved]:
        """The values that are held from the forward pass for the backward one, largest first."""
        lives = self.lifetimes
        back = next((t for t, k in enumerate(self.schedule) if k >= self.turn), len(self.schedule))
        found = []
        for holding, i in zip(self.holdings, self._in_arena(), strict=True):
            value = lives.instances[i].value
            if value is not None and holding.start < back < holding.end - 1:
                price = self._price(value, back)
                found.append(
                    Saved(
                        holding.label,
                        lives.workload.sizes[value],
                        holding.start,
                        holding.end,
                        holding.layer,
                        holding.source,
                        price,
                    )
                )
        return sorted(found, key=lambda x: (-x.bytes, x.start))

    @public
    def sweep(self, budgets: Sequence[int | str] = ()) -> list[Point]:
        """What other budgets cost: by default from the smallest that is possible to what a program
        without a budget takes. Budgets that cannot be met are left out; with more bytes a program
        never takes longer.

        Raises `ArgumentError` for a budget that is no number of bytes.
        """
        chosen = [parse_bytes(each) for each in budgets]
        if not chosen:
            least, most = self.least_bytes, self.planner.full.peak_bytes
            chosen = [least + (most - least) * k // (POINTS - 1) for k in range(POINTS)]
        plans = self.planner.sweep(chosen)
        return [Point(b, plans[b].peak_bytes, plans[b].slowdown) for b in sorted(plans)]

    @public
    def largest_batch(self, budget: int | str, of: str | Sequence[str] = ()) -> int:
        """The largest batch with which the program can hold a budget, recomputing what it must.

        `of` names the arguments whose leading axis is the batch; by default these are all that are
        single arrays with at least one axis and not donated. The function is traced for each size
        that is tried, and never run.

        Raises `ArgumentError` where their leading axes differ, or none has one; `MemoryPlanError`
        where not even one example fits.
        """
        limit = parse_bytes(budget)
        names = (of,) if isinstance(of, str) else tuple(of)
        if self.batched is None:
            raise ArgumentError("this plan is of no function that could be traced again")
        batched = self.batched

        @functools.cache
        def planner(size: int) -> Planner:
            return batched(names, size)

        return largest(planner, limit)

    def _in_arena(self) -> list[int]:
        return [i for i, buffer in enumerate(self.lifetimes.storage) if buffer >= 0]

    def _price(self, value: int, position: int) -> int:
        """What it costs to make a value again when the backward pass begins."""
        workload, lives = self.lifetimes.workload, self.lifetimes
        maker = workload.maker
        alive = [x.value for x in lives.instances if x.start < position < x.end]
        there = {i for i in alive if i is not None and i != value}
        total, seen, pending = 0, set[int](), [value]
        while pending:
            step = workload.maker_from(pending.pop(), there)
            if step in seen:
                continue
            seen.add(step)
            total += workload.steps[step].cost
            pending += [i for i in workload.reads[step] if i in maker and i not in there]
        return total


def largest(planner: Callable[[int], Planner], limit: int) -> int:
    """The largest batch whose planner finds a plan of at most `limit` bytes.

    Raises `MemoryPlanError` where not even one example fits.
    """
    if not planner(1).fits(limit) and planner(1).least.peak_bytes > limit:
        one = bytes_text(planner(1).least.peak_bytes)
        raise MemoryPlanError(f"one example takes {one}, more than {bytes_text(limit)}")
    first, some = (planner(size).full.peak_bytes for size in (1, 1 + SOME))
    whole = 1 + max(SOME * (limit - first) // max(some - first, SOME), 0)  # without recomputation

    @functools.cache
    def scaled(size: int) -> Planner:
        parts = planner(whole).workload, planner(2 * whole).workload
        between = _between(*parts, (size - whole) / whole)
        return planner(size) if between is None else Planner(between)

    guess = _last(lambda size: size == 1 or scaled(size).fits(limit), whole, whole)
    return _last(lambda size: size == 1 or planner(size).fits(limit), guess, 1)


def _between(one: Workload, two: Workload, share: float) -> Workload | None:
    """A workload whose sizes and times are those of one and, to a share, of the way to another.

    None where they differ in more than that.
    """
    alike = len(one.values) == len(two.values) and len(one.steps) == len(two.steps)
    if not alike or any(map(_differ, one.steps, two.steps)):
        return None

    def mixed(a: int, b: int) -> int:
        return max(math.ceil(a + share * (b - a)), 0)

    values = [
        replace(a, bytes=mixed(a.bytes, b.bytes))
        for a, b in zip(one.values, two.values, strict=True)
    ]
    steps = [
        replace(a, cost=mixed(a.cost, b.cost), scratch=mixed(a.scratch, b.scratch))
        for a, b in zip(one.steps, two.steps, strict=True)
    ]
    return Workload(tuple(values), tuple(steps), one.spares)


def _differ(a: Step, b: Step) -> bool:
    return (a.reads, a.writes, a.in_place) != (b.reads, b.writes, b.in_place)


def _last(fits: Callable[[int], bool], guess: int, stride: int) -> int:
    """The last number that fits, looked for from a guess outwards; 1 does."""
    low = guess
    high: int | None = None
    while not fits(low):
        low, high, stride = max(low - stride, 1), low, 2 * stride
    while high is None:
        if fits(low + stride):
            low, stride = low + stride, 2 * stride
        else:
            high = low + stride
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def with_batch(
    signature: Signature, names: Sequence[str], donated: Sequence[int], of: Sequence[str], size: int
) -> Signature:
    """The signature with another size of the leading axis of some arguments."""
    chosen = [names.index(name) for name in of if name in names]
    if len(chosen) < len(of):
        wrong = next(name for name in of if name not in names)
        raise ArgumentError(f"{wrong!r} names no argument; they are {', '.join(names)}")
    dynamic = [i for k, (i, _) in enumerate(signature.dynamic) if k not in donated]
    chosen = chosen or [i for i in dynamic if _leading(signature.arguments[i])]
    sizes = {name: _leading(signature.arguments[i]) for i in chosen for name in (names[i],)}
    if not sizes or None in sizes.values() or len(set(sizes.values())) > 1:
        raise ArgumentError(
            f"the leading axes of {', '.join(sizes) or 'the arguments'} are no batch: "
            f"{', '.join(map(str, sizes.values())) or 'none is an array'}",
            hint='say which arguments have it, as largest_batch("1 GB", of=("x", "y"))',
        )
    changed = {i: _resized(signature.arguments[i], size) for i in chosen}
    arguments = [changed.get(i, x) for i, x in enumerate(signature.arguments)]
    return replace(signature, arguments=tuple(arguments))


def _leading(argument: object) -> int | None:
    """The size of the leading axis of an argument that is one array."""
    if not isinstance(argument, Dynamic) or not argument.is_leaf:
        return None
    kind = argument.kinds[0]
    return kind.shape[0] if isinstance(kind, TensorType) and kind.shape else None


def _resized(argument: object, size: int) -> Dynamic:
    assert isinstance(argument, Dynamic)
    kind = argument.kinds[0]
    assert isinstance(kind, TensorType)
    return replace(argument, kinds=(kind.reshaped((size, *kind.shape[1:])),))
