"""A training step as a chain of blocks, and the schedules that its optimal reversals are.

Forward steps are cut where few bytes cross; what reads a block's values in the backward pass runs
with it. Blocks of the same form are one type, whose options are made once. The chain is a model:
what it proposes is run through with all that it left out, and judged by `evaluate`.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pullback.errors import Phase
from pullback.schedule.memory import Step, Value, Workload, lifetimes
from pullback.schedule.planner.options import Block, Steps, options
from pullback.schedule.planner.reversal import BACK, PASS, Option, Reversal, Stage, substrings

Schedule = tuple[int, ...]

Figures = tuple[int, int, int, int]
"""What an option costs besides, what it saves, the most that it holds forward and backward."""

SLOTS = 500
"""Into how many slots the memory is divided; sizes are rounded up."""

LONGEST = 400
"""Blocks of a chain, at most."""

WORK = 50_000
"""Rows that a reversal may add up, less than a second: with the square of the number of blocks
where all are equal, with its cube where no two are."""

CHOICES = 24
"""How many options of a block are tried."""

SHARES = (1.25, 1.15, 1.08, 1.04, 1.0, 0.96, 0.92, 0.85, 0.75)
"""Shares of the slots to reverse in: what the model leaves out may be more or less."""


@dataclass(frozen=True)
class Span:
    """Steps `first … last - 1` forward, and in the backward pass `back … end - 1`."""

    first: int
    last: int
    back: int
    end: int


@dataclass(frozen=True)
class Form:
    """A type of block: its options, and what each holds, in bytes."""

    block: Block
    choices: tuple[Steps, ...]
    figures: tuple[Figures, ...]
    peak: int
    """The most bytes of a run forward for its output alone."""


class Stack:
    """The blocks of a workload."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.maker = {i: k for k, made in enumerate(workload.writes) for i in made}
        self.readers: dict[int, list[int]] = {}
        for k, read in enumerate(workload.reads):
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

    def schedules(self, room: int) -> Iterator[Schedule]:
        """Proposals for `room` bytes of arena, the least that is recomputed first."""
        unit = max(-(-room // SLOTS), 1)
        reversal = Reversal(self._stages(unit), int(SLOTS * max(SHARES)))
        least = reversal.least()
        if least is None:
            return
        slots = sorted({max(int(SLOTS * share), least) for share in SHARES}, reverse=True)
        for count in slots:
            if count <= reversal.slots:
                yield play(self, reversal, count)

    # ---- the blocks ----

    def _spans(self) -> list[Span]:
        if not self.turn:
            return []
        edges = [0, *self._cuts(), self.turn]
        back, spans = self.turn, []
        for first, last in reversed(list(itertools.pairwise(edges))):
            made = (i for k in range(first, last) for i in self.workload.writes[k])
            reads = [k for i in made for k in self.readers.get(i, ()) if k >= self.turn]
            end = max([back, *[k + 1 for k in reads]])
            end = len(self.workload.steps) if first == 0 else end
            spans.append(Span(first, last, back, end))
            back = end
        return spans[::-1]

    def _cuts(self) -> list[int]:
        """Where no more bytes cross between forward steps than right before and after."""
        change = [0] * (self.turn + 1)
        for i, readers in self.readers.items():
            last = max([k for k in readers if k < self.turn], default=-1)
            if last > self.maker[i]:
                change[self.maker[i] + 1] += self.workload.sizes[i]
                change[last + 1] -= self.workload.sizes[i]
        crossing, total = [], 0
        for each in change:
            total += each
            crossing.append(total)
        inner = range(2, self.turn - 1)
        low = [p for p in inner if crossing[p] <= min(crossing[p - 1], crossing[p + 1])]
        return [p for p in low if crossing[p]]

    @functools.cached_property
    def crossings(self) -> list[set[int]]:
        """For each block what it or one before it makes, and a forward step after it reads."""
        last = {
            i: max([k for k in readers if k < self.turn], default=-1)
            for i, readers in self.readers.items()
        }
        sets = []
        for span in self.spans:
            made = {i for i, k in self.maker.items() if k < span.last}
            sets.append({i for i in made if last.get(i, -1) >= span.last})
        return sets

    # ---- types ----

    @functools.cached_property
    def forms(self) -> list[Form]:
        known: dict[object, Form] = {}
        forms = []
        for span in self.spans:
            part = self._part(span)
            key = part.steps, part.values
            if key not in known:
                known[key] = _form(part, span.last - span.first)
            forms.append(known[key])
        return forms

    def _part(self, span: Span) -> Workload:
        """A block alone. Equal blocks give equal parts.

        What it reads from outside is resident; between its forward and its backward steps one step
        more stands for the blocks that follow, and one at the end for those before it.
        """
        forward, backward = range(span.first, span.last), range(span.back, span.end)
        inside = {*forward, *backward}
        number: dict[int, int] = {}
        for k in (*forward, *backward):
            for i in (*self.workload.reads[k], *self.workload.writes[k]):
                number.setdefault(i, len(number))
        steps = [
            *[self._step(k, number) for k in forward],
            self._reader(forward, inside, number),
            *[self._step(k, number) for k in backward],
            self._reader(backward, inside, number),
        ]
        return Workload(tuple([self._value(i, inside) for i in number]), tuple(steps))

    def _value(self, i: int, inside: set[int]) -> Value:
        """A donor's memory is outside the arena."""
        apart = self.workload.values[i].donor is not None
        size = 0 if apart else self.workload.sizes[i]
        return Value("", size, resident=self.maker.get(i) not in inside)

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

    def _reader(self, steps: Iterable[int], inside: set[int], number: dict[int, int]) -> Step:
        """Reads what others read of what these steps make."""
        made = [i for k in steps for i in self.workload.writes[k]]
        kept = set(self.workload.kept)
        wanted = [i for i in made if i in kept or not inside.issuperset(self.readers.get(i, ()))]
        return Step("", tuple([number[i] for i in wanted]), ())

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
    for k, step in enumerate(workload.steps):
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
    later = {i for read in part.reads[count + 1 :] for i in read}
    block = Block(
        tuple([step.cost if step.repeatable else None for step in part.steps[:count]]),
        tuple([tuple([i for i in part.reads[k] if i in made]) for k in range(count)]),
        part.writes[:count],
        dict(enumerate(part.sizes)),
        frozenset(later & made),
    )
    choices = _spread(options(block))
    alone = lifetimes(part, range(count + 1)).max_live
    return Form(block, tuple(choices), tuple([_figures(part, count, x) for x in choices]), alone)


def _spread(found: Sequence[Steps]) -> list[Steps]:
    """At most `CHOICES` of them, the first and the last among them."""
    if len(found) <= CHOICES:
        return list(found)
    places = {round(k * (len(found) - 1) / (CHOICES - 1)) for k in range(CHOICES)}
    return [found[k] for k in sorted(places)]


def _figures(part: Workload, count: int, again: Steps) -> Figures:
    """What an option holds, exactly, with its recomputations as late as can be."""
    run = Run(part)
    run.forward(range(count + 1))
    passed_on = set(part.reads[count])
    run.drop({i for k in again for i in part.writes[k]} - passed_on)
    run.forward(range(count + 1, len(part.steps)))
    lives = lifetimes(part, run.made)
    live = lives.buffers.live_bytes(len(run.made))
    cost = lives.cost - sum(step.cost for step in part.steps)
    saved, forward = int(live[count]), int(live[: count + 1].max())
    return cost, saved, forward, int(live[count + 1 :].max(initial=0))


# ---- schedules ------------------------------------------------------------------------------


class Run:
    """A schedule in the making: what is missing when a step runs is made again right before it."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.maker = {i: k for k, made in enumerate(workload.writes) for i in made}
        self.present: set[int] = set()
        self.made: list[int] = []

    def forward(self, steps: Iterable[int]) -> None:
        for k in steps:
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
                stack.append(self.maker[missing[0]])
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
        made = [workload.writes[k] for k in range(span.first, span.last)]
        if act.kind == BACK:
            run.forward(range(span.back, span.end))
            run.drop(i for values in made for i in values)
            continue
        run.forward(range(span.first, span.last))
        if act.kind == PASS:
            gone = {i for values in made for i in values}
            if act.ends:
                gone |= stack.crossings[act.block - 1]
        else:
            gone = {i for k in form.choices[act.option] for i in made[k]}
        run.drop(gone - stack.crossings[act.block])
    return tuple(run.made)
