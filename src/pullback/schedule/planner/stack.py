"""A training step as a chain of blocks, and the schedules that its optimal reversals are.

Forward steps are cut where few bytes cross; what reads a block's values in the backward pass runs
with it. Blocks of the same form are one type, whose options are made once. The chain is a model:
what it proposes is run through with all that it left out, and judged by `evaluate`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pullback.errors import Phase
from pullback.schedule.memory import Lifetimes, Step, Value, Workload, lifetimes
from pullback.schedule.planner.alone import stored_alone
from pullback.schedule.planner.options import Block, options
from pullback.schedule.planner.refine import refine, without_dead_repeats
from pullback.schedule.planner.reversal import BACK, PASS, Option, Reversal, Stage, substrings

Schedule = tuple[int, ...]

Dropped = frozenset[int]
"""Values of a block that are not saved for its backward steps."""

Figures = tuple[int, int, int, int]
"""What an option costs besides, what it saves, the most that it holds forward and backward."""

SLOTS = 500
"""Into how many slots the memory is divided; sizes are rounded up."""

LONGEST = 400
"""Blocks of a chain, at most."""

NEAR = 3
"""Steps on each side of a cut, between which no fewer bytes cross."""

TRIFLE = 16
"""What takes so many times fewer bytes than a value crosses instead, if the value follows of it."""

WORK = 50_000
"""Rows that a reversal may add up, less than a second: with the square of the number of blocks
where all are equal, with its cube where no two are."""

CHOICES = 24
"""How many options of a block are tried."""

SHARES = (0.7, 1.25)
"""The least and the most slots to reverse in, as shares of those that there are."""


@dataclass(frozen=True)
class Span:
    """Steps `first … last - 1` forward, and in the backward pass `back … end - 1`.

    The `forward` steps of the block begin with spare ones, for values that follow of what crosses
    into it; it has `made` all that they make but what follows of what leaves it.
    """

    first: int
    last: int
    back: int
    end: int
    forward: tuple[int, ...]
    made: frozenset[int]

    @property
    def backward(self) -> range:
        return range(self.back, self.end)


@dataclass(frozen=True)
class Form:
    """A type of block: its options, and what each holds, in bytes."""

    block: Block
    choices: tuple[Dropped, ...]
    figures: tuple[Figures, ...]
    peak: int
    """The most bytes of a run forward for its output alone."""


class Stack:
    """The blocks of a workload."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.maker = workload.maker
        self.readers: dict[int, list[int]] = {}
        for k, read in enumerate(workload.reads[: workload.count]):
            for i in read:
                if i in self.maker:
                    self.readers.setdefault(i, []).append(k)
        self.turn = _turn(workload)
        self.spans = self._spans()

    @functools.cached_property
    def is_chain(self) -> bool:
        """Whether there are blocks, and not too many that differ."""
        if not 1 < len(self.spans) <= LONGEST:
            return False
        classes = substrings([id(form) for form in self.forms])
        lengths = {known: n for row in classes for n, known in enumerate(row)}
        return sum(lengths.values()) <= WORK

    def proposal(self, room: int) -> Lifetimes | None:
        """A proposal for `room` bytes of arena, found by bisection between `SHARES`: what the model
        leaves out may be more or less than it counts too much."""
        unit = max(-(-room // SLOTS), 1)
        reversal = Reversal(self._stages(unit), int(SLOTS * SHARES[1]))
        least, best = reversal.least(), None
        if least is None:
            return None
        low, high = max(int(SLOTS * SHARES[0]), least) - 1, reversal.slots + 1
        while high - low > 1:
            count = (low + high) // 2
            schedule = without_dead_repeats(self.workload, play(self, reversal, count))
            lives = stored_alone(lifetimes(self.workload, schedule), room)
            fits = lives.max_live <= room
            low, high = (count, high) if fits else (low, count)
            best = lives.schedule if fits else best
        return None if best is None else refine(self.workload, best, room)

    # ---- the blocks ----

    def _spans(self) -> list[Span]:
        if not self.turn:
            return []
        back, spans = self.turn, list[Span]()
        for first, last in reversed(list(itertools.pairwise([0, *self._cuts(), self.turn]))):
            follows = self._boundary(last)[1]
            forward = (*self._boundary(first)[1].values(), *range(first, last))
            made = {i for k in forward for i in self.workload.writes[k]}.difference(follows)
            reads = [k for i in made for k in self.readers.get(i, ()) if k >= self.turn]
            end = max([back, *[k + 1 for k in reads]])
            end = self.workload.count if first == 0 else end
            spans.append(Span(first, last, back, end, forward, frozenset(made)))
            back = end
        return spans[::-1]

    def _cuts(self) -> list[int]:
        """Where no more bytes cross between forward steps than right before and after."""
        sizes = self.workload.sizes
        crossing = [sum(sizes[i] for i in self._boundary(p)[0]) for p in range(self.turn)]
        inner = range(2, self.turn - 1)
        low = [p for p in inner if crossing[p] <= min(crossing[max(p - NEAR, 0) : p + NEAR + 1])]
        return [p for p in low if crossing[p]]

    @functools.cached_property
    def crossings(self) -> list[set[int]]:
        """For each block what crosses from it to the next."""
        return [self._boundary(span.last)[0] for span in self.spans]

    def _boundary(self, p: int) -> tuple[set[int], dict[int, int]]:
        """What crosses into forward step `p` from those before it, and what follows of that: the
        values that a spare step makes of it, and this step."""
        across, follows, sizes = set(self._alive[p]), dict[int, int](), self.workload.sizes
        for i in sorted(across):
            for spare, read in self.workload.shortcuts.get(i, ()):
                more = set(read) - across
                if sum(sizes[x] for x in more) * TRIFLE <= sizes[i]:
                    across |= more
                    across.discard(i)
                    follows[i] = spare
                    break
        return across, follows

    @functools.cached_property
    def _alive(self) -> list[set[int]]:
        """For each forward step what is made before it and read by it or by one after it."""
        alive: list[set[int]] = [set() for _ in range(self.turn + 1)]
        for i, readers in self.readers.items():
            last = max([k for k in readers if k < self.turn], default=-1)
            for p in range(self.maker[i] + 1, last + 1):
                alive[p].add(i)
        return alive

    # ---- types ----

    @functools.cached_property
    def forms(self) -> list[Form]:
        known: dict[object, Form] = {}
        forms = []
        for span in self.spans:
            part = self._part(span)
            key = part.steps, part.values
            if key not in known:
                known[key] = _form(part, len(span.forward))
            forms.append(known[key])
        return forms

    def _part(self, span: Span) -> Workload:
        """A block alone. Equal blocks give equal parts.

        What it reads from outside is resident; between its forward and its backward steps one step
        more stands for the blocks that follow, and one at the end for those before it.
        """
        inside = {*span.forward, *span.backward}
        makes = {i for k in inside for i in self.workload.writes[k]}
        spares, number = self._spares(span), self._numbers(span)
        steps = [
            *[self._step(k, number) for k in span.forward],
            self._reader(span.made, inside, number),
            *[self._step(k, number) for k in span.backward],
            self._reader(
                [i for k in span.backward for i in self.workload.writes[k]], inside, number
            ),
            *[self._step(k, number) for k in spares],
        ]
        values = tuple([self._value(i, i in makes) for i in number])
        return Workload(values, tuple(steps), len(spares))

    def _numbers(self, span: Span) -> dict[int, int]:
        """The values of a block, numbered in the order that its steps meet them."""
        number: dict[int, int] = {}
        for k in (*span.forward, *span.backward, *self._spares(span)):
            for i in (*self.workload.reads[k], *self.workload.writes[k]):
                number.setdefault(i, len(number))
        return number

    @functools.cached_property
    def values(self) -> list[tuple[int, ...]]:
        """For each block the values that its form numbers."""
        return [tuple(self._numbers(span)) for span in self.spans]

    def _spares(self, span: Span) -> list[int]:
        """The spare steps for what a block makes, but for those that it begins with."""
        ways = (way for i in span.made for way in self.workload.shortcuts.get(i, ()))
        return sorted({k for k, _ in ways}.difference(span.forward))

    def _value(self, i: int, made: bool) -> Value:
        """A donor's memory is outside the arena."""
        apart = self.workload.values[i].donor is not None
        return Value("", 0 if apart else self.workload.sizes[i], resident=not made)

    def _step(self, k: int, number: dict[int, int]) -> Step:
        step, roots = self.workload.steps[k], self.workload.roots
        return replace(
            step,
            label="",
            reads=tuple([number[i] for i in self.workload.reads[k]]),
            writes=tuple([number[i] for i in self.workload.writes[k]]),
            in_place=tuple([(number[w], number[roots[r]]) for w, r in step.in_place]),
            guards=frozenset(),
        )

    def _reader(self, made: Iterable[int], inside: set[int], number: dict[int, int]) -> Step:
        """Reads what others read of this."""
        kept = set(self.workload.kept)
        wanted = [i for i in made if i in kept or not inside.issuperset(self.readers.get(i, ()))]
        return Step("", tuple(sorted([number[i] for i in wanted])), ())

    def _stages(self, unit: int) -> list[Stage]:
        """The chain in slots of `unit` bytes."""

        def slots(size: int) -> int:
            return -(-size // unit)

        stages = []
        parts = zip(self.spans, self.forms, self.crossings, strict=True)
        for span, form, crossing in parts:
            output = sum(self.workload.sizes[i] for i in crossing)
            steps = self.workload.steps
            forward = sum(steps[k].cost for k in range(span.first, span.last))
            backward = sum(steps[k].cost for k in range(span.back, span.end))
            rows = [
                Option(forward + backward + cost, *map(slots, sizes))
                for cost, *sizes in form.figures
            ]
            cotangent = slots(self._cotangent(span.back))
            stages.append(Stage(forward, slots(output), cotangent, slots(form.peak), tuple(rows)))
        return stages

    def _cotangent(self, p: int) -> int:
        """Bytes made in the backward pass before step `p` and read from it on."""
        made = (i for k in range(self.turn, p) for i in self.workload.writes[k])
        late = (i for i in made if any(k >= p for k in self.readers.get(i, ())))
        return sum(self.workload.sizes[i] for i in late)


def _turn(workload: Workload) -> int:
    """Where the backward pass begins: most steps before it are forward, most after it are not.

    What is computed from gradients, as an optimiser does, is no part of the forward pass.
    """
    best = score = turn = 0
    later: set[int] = set()
    for k, step in enumerate(workload.steps[: workload.count]):
        sites = [workload.values[i].site for i in step.writes]
        forward = any(site.phase is Phase.FORWARD for site in sites)
        if not forward or not later.isdisjoint(workload.reads[k]):
            later.update(step.writes)
            forward = False
        if any(workload.values[i].kept for i in step.writes) or not sites:
            continue
        score += 1 if forward else -1
        if score > best:
            best, turn = score, k + 1
    return turn if score < best else 0  # nothing is backward


# ---- the options of a block -----------------------------------------------------------------


def _form(part: Workload, count: int) -> Form:
    """The options of a block whose first `count` steps are the forward ones."""
    made = {i for k in range(count) for i in part.writes[k]}
    later = {i for read in part.reads[count + 1 : part.count] for i in read}
    chosen = [*range(count), *range(part.count, len(part.steps))]
    short = part.shortcuts
    writes = [tuple([i for i in part.writes[k] if i not in short]) for k in range(count)]
    block = Block(
        tuple([part.steps[k].cost if part.steps[k].repeatable else None for k in chosen]),
        tuple([tuple([i for i in part.reads[k] if i in made]) for k in chosen]),
        (*writes, *part.writes[part.count :]),
        dict(enumerate(part.sizes)),
        frozenset(later & made),
    )
    dropped = [frozenset([i for s in again for i in block.writes[s]]) for again in options(block)]
    choices = _spread(dropped)
    alone = lifetimes(part, range(count + 1)).max_live
    return Form(block, tuple(choices), tuple([_figures(part, count, x) for x in choices]), alone)


def _spread(found: Sequence[Dropped]) -> list[Dropped]:
    """At most `CHOICES` of them, the first and the last among them."""
    if len(found) <= CHOICES:
        return list(found)
    places = {round(k * (len(found) - 1) / (CHOICES - 1)) for k in range(CHOICES)}
    return [found[k] for k in sorted(places)]


def _figures(part: Workload, count: int, dropped: Dropped) -> Figures:
    """What an option holds, exactly, with its recomputations as late as can be."""
    run = Run(part)
    run.forward(range(count + 1))
    passed_on = set(part.reads[count])
    run.drop(dropped - passed_on)
    run.forward(range(count + 1, part.count))
    lives = lifetimes(part, run.made)
    live = lives.buffers.live_bytes(len(run.made))
    cost = lives.cost - part.cost(range(part.count))
    saved, forward = int(live[count]), int(live[: count + 1].max())
    return cost, saved, forward, int(live[count + 1 :].max(initial=0))


# ---- schedules ------------------------------------------------------------------------------


class Run:
    """A schedule in the making: what is missing when a step runs is made again right before it."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.maker = workload.maker
        self.present: set[int] = set()
        self.made: list[int] = []

    def forward(self, steps: Iterable[int]) -> None:
        for k in steps:
            for spare in self.workload.rescued(k, self.present):
                self._run(spare)
            self._run(k)

    def drop(self, values: Iterable[int]) -> None:
        self.present.difference_update(values)

    def _run(self, target: int) -> None:
        stack = [target]
        while stack:
            k = stack[-1]
            read = self.workload.reads[k]
            missing = [i for i in read if i in self.maker and i not in self.present]
            if missing:
                stack.append(self.workload.maker_from(missing[0], self.present))
                continue
            stack.pop()
            self.made.append(k)
            self.present.update(self.workload.writes[k])


def play(stack: Stack, reversal: Reversal, slots: int) -> Schedule:
    """The schedule of an optimal reversal in so many slots."""
    workload = stack.workload
    run = Run(workload)
    for act in reversal.acts(slots):
        span, form = stack.spans[act.block], stack.forms[act.block]
        if act.kind == BACK:
            run.forward(span.backward)
            run.drop(span.made)
            continue
        run.forward(k for k in span.forward if not run.present.issuperset(workload.writes[k]))
        if act.kind == PASS:
            gone = set(span.made)
            if act.ends:
                gone |= stack.crossings[act.block - 1]
        else:
            values = stack.values[act.block]
            gone = {values[i] for i in form.choices[act.option]}
        run.drop(gone - stack.crossings[act.block])
    return tuple(run.made)
