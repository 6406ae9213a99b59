"""`Doctor`: looks at a run while it goes on. `watch`: trains for some steps and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from pullback._public import public
from pullback.compile import compile
from pullback.errors import ArgumentError, PullbackError
from pullback.inspect.around import Around
from pullback.inspect.birth import births, marked
from pullback.inspect.case import HANDED, KEPT, Case, Job, parts
from pullback.inspect.causes import place, rooted
from pullback.inspect.course import FIRST, NEVER, STRIDE
from pullback.inspect.findings import Finding, Severity
from pullback.inspect.looks import examined, facts
from pullback.inspect.report import Report
from pullback.inspect.response import passes_on
from pullback.inspect.rules import RULES, rule
from pullback.inspect.rules.graph import LOOP04
from pullback.inspect.rules.near import foretold
from pullback.inspect.seeing.views import View
from pullback.inspect.seen import single
from pullback.inspect.showing import views_of
from pullback.ir.array import Array, float_of
from pullback.optim.momentum import sgd
from pullback.optim.optimizer import Optimizer
from pullback.train.state import TrainState, copied, trained_part
from pullback.train.step import TrainStep, train_step
from pullback.transforms.tree import Tree

EVERY = 50
LONGEST = 20
"""While all is well the looks become rarer, up to one in so many times `every` steps."""


class Doctor:
    """Looks at a run while it goes on: what goes wrong, where, why, and what was seen to help.

    Given to `fit`, it is told of every step:

        doctor = pb.inspect.Doctor()
        pb.train.fit(step, state, data, epochs=3, doctor=doctor)
        print(doctor.report())

    In a loop of your own it is told by you. `step` is that of `pb.train.train_step`:

        doctor.begin(step, state)
        for batch in data:
            state, metrics = step(state, *batch)
            doctor.see(state, batch, metrics)

    or there is a loss function, and gradients that you have computed:

        doctor.begin(loss_fn, model, optimizer)
        for batch in data:
            loss, grads = pb.value_and_grad(loss_fn)(model, *batch)
            ...
            doctor.see(model, batch, loss=loss, grads=grads)

    At the first step it looks for facts: cuts, hazards, leaks, wrong derivatives. After that it
    keeps the losses and, of some steps, the sizes of gradients and updates, and looks at them
    after 20 and 50 steps and at each `every`-th, more rarely while all is well. Only a run with a
    symptom (a loss that does not fall, rises, stands at that of a constant output, or is not
    finite) is examined: its beginning and its present are played again, and with `remedies` the
    remedy is tried on a copy before it is told. A step that was not finite is played again to name
    the operation that made the number.

    Nothing that it is given is changed, and a run has the same bits with it and without. `intended`
    are ids of rules that alarm nobody. `seconds` is what it has cost, the looks included.

    Raises `ArgumentError` for an unknown id and an `every` below 1.
    """

    def __init__(
        self, *, every: int = EVERY, intended: Sequence[str] = (), remedies: bool = True
    ) -> None:
        for each in intended:
            rule(each)
        if every < 1:
            raise ArgumentError(f"every is a number of steps, not {every}")
        self._every = every
        self._intended = tuple(intended)
        self._remedies = remedies
        self._step: Any = None
        self._case: Case | None = None
        self._facts: list[Finding] = []
        self._is_known = False
        """Whether the facts were looked for."""
        self._signs: list[Finding] = []
        self._born: list[Finding] = []
        self._drawn: list[Finding] = []
        self._told: dict[tuple[str, str], int] = {}
        """What was told, and after how many steps."""
        self._skipped: list[str] = []
        self._due = 1
        self._looked = 0
        self._idle = 0
        """Steps to come of which only the loss is noted."""
        self._left = 0
        """Steps from the one after them to the next look."""
        self._hear: Callable[[float], None]
        self._note: Callable[[Any], None]
        self._kind: Any = TrainState
        """The type of the states that were seen to be one."""
        self._state: Any = None
        self._batch: Any = ()
        self._began = 0.0
        self.seconds = 0.0
        """What the looks have cost so far."""
        self.costs: dict[str, float] = {}
        """Of these seconds the share of the facts, of the signs of the course, of births."""

    def begin(
        self,
        step: Callable[..., Any],
        state: Tree,
        optimizer: Optimizer | None = None,
        *,
        network_state: Tree = None,
        key: Array | None = None,
        made: Callable[..., Any] | None = None,
    ) -> None:
        """Before the first step: the step and its state, or a loss function and a model.

        With a loss function, `optimizer` is what the loop of your own uses, where it is to be
        judged; `network_state` and `key` are what the loss takes. `made` is what the loop does with
        a batch, as `lambda x, y: step(state, x, y)`, which returns the new model first: it is
        traced, never run, when a report is asked for, to name a line of it or where its code
        speaks of keys.
        What it keeps outside of itself is not fit for more steps then. Copies the state.
        """
        self._began = time.perf_counter()
        self._step = step
        if isinstance(step, TrainStep):
            job = Job.of(step)
        elif isinstance(state, TrainState):
            job = None
        else:
            if optimizer is not None and passes_on(optimizer, trained_part(single(state))):
                optimizer = None
            job = Job(step, optimizer)
            model = state
            state = TrainState.create(
                single(model), optimizer or sgd(1.0), network_state=network_state, key=key
            ).replace(model=model)
        self._case = Case(job, state, isinstance(step, TrainStep), self._remedies)
        self._case.made = made
        self._case.around = None if made is None else Around.of(made)
        self._hear, self._note = self._case.course.hear, self._case.course.note
        self.seconds += time.perf_counter() - self._began

    def see(
        self,
        state: Tree,
        batch: Any,
        metrics: Any = None,
        *,
        loss: Any = None,
        grads: Tree = None,
    ) -> str:
        """After a step: what it returned. Returns what is new and wrong, as text, or "".

        In a loop without `train_step`, `state` is the model after the step, and `loss` and `grads`
        are given in place of `metrics`.

        Raises `ArgumentError` for `metrics` with anything but a `TrainState`.
        """
        idle = self._idle
        if idle and metrics is not None:  # of a tiny step each line here is a part in a thousand
            self._idle = idle - 1
            self._state, self._batch = state, batch
            self._hear(float_of(metrics.loss))
            return ""
        return self._seen(state, batch, metrics, loss, grads)

    def _seen(self, state: Tree, batch: Any, metrics: Any, loss: Any, grads: Tree) -> str:
        left = self._left
        if left and metrics is not None:  # one of those whose sizes are noted, and no more
            self._state, self._batch = state, batch
            self._hear(float_of(metrics.loss))
            self._note(metrics.sizes)
            ahead = min(left, STRIDE)
            self._idle, self._left = ahead - 1, left - ahead
            return ""
        case = self._case
        if case is None or metrics is None or type(state) is not self._kind:
            case, state, metrics = self._checked(state, batch, metrics, loss, grads)
        count, due = case.course.add(metrics), self._due
        self._state, self._batch = state, batch
        if count <= KEPT:
            case.keep(batch)
        told = ""
        if count >= due:
            told, due = self._look(case), self._due
        if case.course.has_begun:
            ahead = min(STRIDE - count % STRIDE, due - count)
            self._idle, self._left = ahead - 1, due - count - ahead
        return told

    def _checked(
        self, state: Any, batch: Any, metrics: Any, loss: Any, grads: Tree
    ) -> tuple[Case, Any, Any]:
        """The case, and of a loop without `train_step` its state and metrics."""
        case = self._required()
        if metrics is None:
            return case, case.state_with(state), case.told(state, batch, loss, grads)
        if not isinstance(state, TrainState):
            raise ArgumentError(
                f"with metrics, state is the TrainState that the step returned, not "
                f"{type(state).__name__}",
                hint="in a loop without train_step: doctor.see(model, batch, loss=..., grads=...)",
            )
        self._kind = type(state)
        return case, state, metrics

    def evaluated(self, row: Mapping[str, float]) -> str:
        """After an evaluation, with its numbers, `train_loss` and `validation_loss` among them."""
        case = self._required()
        case.rows.append(dict(row))
        case.calm = NEVER
        return ""

    def diverged(self, state: Tree, batch: Any, metrics: Any = None) -> str:
        """A step was not finite and not applied; `state` is the one before it. Plays it again."""
        case = self._required()
        self._idle = self._left = 0
        start = time.perf_counter()
        if metrics is None:
            case.course.hear(math.nan)
        else:
            case.course.add(metrics)
        case.course.is_broken = True
        if case.course.count == 1:
            case.keep(batch)
        self._state, self._batch = case.now = case.state_with(state), batch
        self._born = self._tried("births", lambda: self._births(case, state, batch))
        self._looked = case.course.count
        if not self._is_known:
            self._is_known = True
            self._facts = self._tried("facts", lambda: facts(case))
        self._signs = self._tried("signs", lambda: examined(case, self._facts))
        self.seconds += time.perf_counter() - start
        return self._new()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is known now, worst first."""
        return self._report().findings

    def report(self) -> Report:
        """All that is known, after one more look at the run as it is now."""
        case = self._required()
        unnamed = case.made is not None and bool(self._alarms())
        draws = case.around is not None and case.around.draws
        if self._looked < case.course.count or case.owes or case.promises or unnamed or draws:
            case.is_asked = True
            if unnamed:  # once more, with the lines of the step
                case.early, self._is_known = None, False
            self._look(case)
            case.is_asked = False
            self._idle = self._left = 0
        return self._report()

    def to_html(self, path: str | PathLike[str], views: Sequence[View] = ()) -> None:
        """Write the report as one page that needs no other file, with what there is to see.

        The loss with the steps of alarms, gradients layer by step, the size of updates, dead and
        saturated units, signal propagation, shares of residual paths; then `views`, every finding,
        and every rule with its thresholds. Raises `OSError` where it cannot be written.
        """
        report = self.report()
        told: dict[int, str] = {}
        for (rule_id, _), step in self._told.items():
            told[step] = f"{told[step]}, {rule_id}" if step in told else rule_id
        with np.errstate(all="ignore"):
            report.to_html(path, (*views_of(self._required(), told), *views))

    # ---- looking ----

    def _required(self) -> Case:
        if self._case is None:
            raise ArgumentError(
                "the doctor was not told of a run", hint="doctor.begin(step, state) before see"
            )
        return self._case

    def _look(self, case: Case) -> str:
        start = time.perf_counter()
        count, told = case.course.count, ""
        case.course.remember()
        if not case.course.keeps(case.calm) or case.is_asked:
            told = self._examine(case, count)
        self._looked, self._due = count, self._next(count)
        self.seconds += time.perf_counter() - start
        return told

    def _examine(self, case: Case, count: int) -> str:
        case.now = self._state, self._batch
        if not self._is_known:
            self._is_known = True
            self._facts = self._tried("facts", lambda: facts(case))
        if case.is_skipping and not self._born:
            self._born = self._tried("births", lambda: self._births(case, *case.now))
        if case.is_asked:
            self._drawn = self._tried("draws", lambda: list(LOOP04.standing(case)))
        if count > 1:
            self._signs = self._tried("signs", lambda: examined(case, self._facts))
        case.forget()
        return self._new()

    def _next(self, count: int) -> int:
        if count < HANDED and self._case is not None and not self._case.is_stepped:
            return HANDED
        if count < FIRST:
            return FIRST if self._every >= FIRST else count + self._every
        quiet = 1 if self._alarms() else max(1, count // (4 * self._every))
        return count - count % self._every + self._every * min(quiet, LONGEST)

    def _tried(self, what: str, look: Callable[[], list[Finding]]) -> list[Finding]:
        """What a look finds; one that fails says so in the report, and never ends a run."""
        start = time.perf_counter()
        try:
            with np.errstate(all="ignore"):
                return look()
        except PullbackError as error:
            self._skipped.append(f"{what}: {error.what}")
            return []
        finally:
            self.costs[what] = self.costs.get(what, 0.0) + time.perf_counter() - start

    def _births(self, case: Case, state: Any, batch: Any) -> list[Finding]:
        """Who made the number: in the loss and its gradient, or else in the step around them."""
        state, batch = copied(case.state_with(state)), parts(batch)  # evidence outlives the state
        found: list[Finding] = []
        if case.job is not None and case.job.is_plain:
            visit = case.visit(state, batch)
            loss = compile(visit.loss) if case.is_stepped else visit.loss
            found += births(loss, state.model, *batch).findings
        if not found and (case.job is None or case.is_stepped):
            found += births(self._step, state, *batch).findings
        if case.job is None or case.course.count == 1:
            return found
        return marked(found, lambda birth: foretold(case.first.probe, birth))

    # ---- what is told ----

    def _alarms(self) -> list[Finding]:
        return [x for x in self._found() if x.severity is not Severity.INFO]

    def _found(self) -> list[Finding]:
        return [*self._born, *self._facts, *self._drawn, *self._signs]

    def _new(self) -> str:
        """The alarms that were not told before."""
        fresh = []
        for each in self._report().alarms if self._alarms() else ():
            if not each.explained_by and (each.id, each.what) not in self._told:
                self._told[each.id, each.what] = self._required().course.count
                fresh.append(each)
        if not fresh:
            return ""
        assert self._case is not None
        return str(Report(f"doctor  step {self._case.course.count}", tuple(fresh)))

    def _report(self) -> Report:
        case = self._required()
        found = self._found()
        meant = [x for x in found if x.id in self._intended]
        report = Report.of(self._title(case), rooted([x for x in found if x not in meant]))
        return replace(
            report,
            findings=tuple(sorted(report.findings, key=place)),
            declared=(*report.declared, *meant),
            summary=self._summary(case),
            checks=RULES,
        )

    def _title(self, case: Case) -> str:
        took = time.perf_counter() - self._began
        share = self.seconds / took if took else 0.0
        return f"doctor  {case.course.count} steps  {self.seconds:.2g} s of its own ({share:.0%})"

    def _summary(self, case: Case) -> str:
        course = case.course
        said = [f"loss {course.start:.4g} -> {course.end:.4g}"] if course.count else []
        said += [f"{what} {seconds:.2g} s" for what, seconds in self.costs.items()]
        return "  ".join([*said, *[f"skipped {x}" for x in self._skipped]])


@public
def watch(
    model: Any,
    loss_fn: Callable[..., Any],
    data: Iterable[Any],
    optimizer: Optimizer,
    *,
    steps: int = 200,
    every: int = EVERY,
    accumulate: int = 1,
    clip: float | None = None,
    precision: str = "fp32",
    network_state: Any = None,
    key: Array | None = None,
    has_aux: bool = False,
    intended: Sequence[str] = (),
    remedies: bool = True,
) -> Report:
    """Train a copy of `model` for up to `steps` steps under a `Doctor`, and report.

    `data` gives batches, again and again; the other arguments are those of `train_step`,
    `TrainState.create` and `Doctor`. A step that is not finite ends the run. `report.findings` has
    the first cause first; `report.alarms` is empty for a healthy run. One small batch in every step
    is an alarm, DAT05, unless it is meant.

    Raises as `train_step` and `TrainState.create` do, and `ArgumentError` for data without batches.

    >>> import pullback as pb
    >>> keys = pb.random.split(pb.random.key(0), 3)
    >>> model = pb.nn.MLP(4, 3, 16, 2, key=keys[0])
    >>> x, y = pb.random.normal(keys[1], (32, 4)), pb.random.randint(keys[2], (32,), 0, 3)
    >>> def loss(model, x, y):
    ...     return pb.nn.cross_entropy(model(x), y)
    >>> watch(model, loss, [(x, y)], pb.optim.adam(1e-2), steps=60, intended=["DAT05"]).alarms
    ()
    """
    doctor = Doctor(every=every, intended=intended, remedies=remedies)
    step = train_step(
        loss_fn,
        optimizer,
        accumulate=accumulate,
        clip=clip,
        precision=precision,
        has_aux=has_aux,
    )
    state = TrainState.create(
        model, optimizer, network_state=network_state, key=key, precision=precision
    )
    doctor.begin(step, state)
    done = 0
    while done < steps:
        before = done
        for batch in data:
            state, metrics = step(state, *parts(batch))
            done += 1
            if bool(metrics.skipped) and precision != "fp16":
                doctor.diverged(state, batch, metrics)
                return doctor.report()
            doctor.see(state, batch, metrics)
            if done == steps:
                break
        if done == before:
            raise ArgumentError("the data gave no batch")
    return doctor.report()
