"""`Case`: what the rules of a run look at, each thing computed when the first of them asks."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.data.fingerprint import fingerprint
from pullback.errors import PullbackError, Site
from pullback.inspect.answers import is_reward
from pullback.inspect.around import Around
from pullback.inspect.baseline import Baseline, class_error
from pullback.inspect.course import FIRST, NEVER, Course
from pullback.inspect.findings import Finding
from pullback.inspect.handmade import Handmade
from pullback.inspect.probe import Probe
from pullback.inspect.reference import STEPS, Beside, beside
from pullback.inspect.seen import Seen, Subject, is_half
from pullback.inspect.variance import variance_ratio
from pullback.ir.array import DONATED, Array, concrete, numbers_of
from pullback.ir.types import Numbers, float32, float64, is_float
from pullback.optim.optimizer import Optimizer
from pullback.train.function import UserFunction, drawn
from pullback.train.metrics import Names
from pullback.train.precision import PRECISIONS
from pullback.train.source import arguments as parts
from pullback.train.state import TrainState, copied, trained_part
from pullback.train.step import TrainStep, train_step
from pullback.transforms.tree import Tree, flatten, map_leaves, paths

__all__ = ["Case", "Job", "Told", "Visit", "parts"]

KEPT = 16
"""Batches at the beginning that are kept for trials."""
DOUBTS = 8
"""Steps that are computed again, at the most, in a run that often comes back to its beginning."""
HANDED = 3
"""Steps of a loop without `train_step` that are computed again."""


class Visit(Seen):
    """A model and a batch of a run that is under way; its symptom is that of the run."""

    def __init__(self, subject: Subject, course: Course) -> None:
        super().__init__(subject)
        self._course = course

    @property
    def symptom(self) -> str:
        return str(self._course.symptom)


@dataclass(frozen=True)
class Job:
    """What the run computes: the loss, and how it is made smaller."""

    loss_fn: Any
    optimizer: Optimizer | None
    accumulate: int = 1
    clip: float | None = None
    precision: str = "fp32"
    has_aux: bool = False
    program: TrainStep | None = None
    """The step of the run itself, which is compiled already."""

    @classmethod
    def of(cls, step: TrainStep) -> Job:
        recipe = step._recipe
        names = {dtype: name for name, dtype in PRECISIONS.items()}
        return cls(
            recipe.loss.call,
            recipe.optimizer,
            recipe.accumulate,
            recipe.clip,
            names[recipe.compute],
            recipe.has_aux,
            step,
        )

    @property
    def is_plain(self) -> bool:
        """Whether the loss of a step is `loss_fn` as it stands: whole, in the model's precision."""
        return self.accumulate == 1 and self.precision in ("fp32", "fp64")

    def step(self, optimizer: Optimizer) -> TrainStep:
        """The same step with another optimiser."""
        return train_step(
            self.loss_fn,
            optimizer,
            accumulate=self.accumulate,
            clip=self.clip,
            precision=self.precision,
            has_aux=self.has_aux,
        )


@dataclass(frozen=True)
class Told:
    """What a loop without `train_step` tells of a step, in the form of `Metrics`."""

    loss: Any
    norms: Numbers
    ratios: Numbers
    names: Names

    @property
    def sizes(self) -> Numbers:
        """(2, parameters), as the first rows of those of `Metrics`."""
        return np.stack([self.norms, self.ratios])


@dataclass(frozen=True, eq=False)
class Handed:
    """One of the first steps of a loop without `train_step`: numbers of what is trained."""

    step: int
    state: Any
    """Before the step."""
    before: list[Numbers]
    after: list[Numbers]
    grads: list[Numbers]
    batch: list[Numbers]

    @property
    def moved(self) -> list[Numbers]:
        return [x - y for x, y in zip(self.after, self.before, strict=True)]


class Case:
    """A run: its beginning, its course, its present."""

    def __init__(self, job: Job | None, state: Any, is_stepped: bool, tries: bool) -> None:
        self.job = job
        self.tries = tries
        self.is_stepped = is_stepped
        """Whether it is `train_step` that makes the steps."""
        self.course = Course()
        self.initial: Any = copied(state)
        self.batches: list[tuple[Any, ...]] = []
        """The first ones, copied."""
        self.marks: list[str] = []
        """Of each of these; equal for equal ones."""
        self.now: tuple[Any, Any] = (None, ())
        """The last state, and the batch of the step that returned it."""
        self.rows: list[Mapping[str, float]] = []
        """Of evaluations."""
        self.handed: list[Handed] = []
        """The first steps of a loop that hands its gradients over."""
        self.returns: list[int] = []
        """Steps of such a loop that began with the model of the first one."""
        self._doubts = 0
        """Steps that were taken for one of these, and were none."""
        self.made: Callable[..., Any] | None = None
        """Of such a loop what it does with a batch, and what stood around it, where it is told."""
        self.baseline: Baseline | None = None
        self.terms: Any = None
        """The parts of the loss before the first step, where something is added to it."""
        self.compared: Any = None
        """What became of the run with and without what is added, once that was tried."""
        self.decayed: Any = None
        """The same for the weight decay of the optimiser."""
        self.pull: tuple[float, float] = (0.0, 1.0)
        """`Exam.pull` of the optimiser before the first step."""
        self.loss_scale = 0.0
        """What the loss is of a mean over samples, where steps are as long as it is large."""
        self.suspicions: list[Finding] = []
        """What was measured at the beginning, and would explain a symptom."""
        self.early: list[Finding] | None = None
        """What the rules of the first steps found, once they are done."""
        self.calm = NEVER
        """What the run may do until it has to be looked at again."""
        self.clinic: Any = None
        """Where remedies are tried, once one is."""
        self.is_asked = False
        """Whether a report was asked for, which may take its time."""
        self.owes = False
        """Whether an experiment waits until it is small beside the run, or a report asked for."""
        self.promises = False
        """Whether an experiment waits for a report to be asked for, however long the run."""
        self.renumbered: list[Finding] | None = None
        """What OBJ02 found with other numbers for the classes, once there are enough batches."""
        self.is_warming: bool | None = None
        """Whether the steps still grew when a warm-up should have been over."""
        self.around: Around | None = None
        self._handmade: Handmade | None = None
        self._jump: float | None = None
        self._gradients: dict[tuple[int, int, str], list[Numbers]] = {}
        self._model: Any = getattr(self.initial, "model", None)

    @classmethod
    def at_start(cls, seen: Seen, precision: str) -> Case:
        """A run of which nothing is known but its beginning."""
        it = seen.subject
        assert it.optimizer is not None
        state = TrainState.create(
            seen.single,
            it.optimizer,
            network_state=it.network_state,
            key=it.key,
            precision=precision,
        )
        job = Job(it.loss_fn, it.optimizer, precision=precision, has_aux=it.has_aux)
        case = cls(job, state, is_stepped=True, tries=True)
        vars(case)["first"] = seen
        case.keep(it.batch)
        case.baseline = Baseline.of(seen.probe)
        return case

    def keep(self, batch: Any) -> None:
        """Have a copy of a batch."""
        kept = map_leaves(_copied, parts(batch))
        self.batches.append(kept)
        self.marks.append(fingerprint(kept))

    def forget(self) -> None:
        """Let go of what was computed for a look."""
        for name in ("first", "present", "beside"):
            vars(self).pop(name, None)

    # ---- visits ----

    @functools.cached_property
    def first(self) -> Visit:
        """The model before the first step, with the first batch."""
        return self.visit(self.initial, self.batches[0])

    @functools.cached_property
    def present(self) -> Visit | None:
        """The model as it is now, with the last batch; None where its memory was given away."""
        state, batch = self.now
        if is_gone(state):
            return None
        return self.visit(copied(state), parts(batch))  # evidence may outlive the state

    @functools.cached_property
    def beside(self) -> Beside | None:
        """The network as it is beside a linear map of its inputs; None where that is not known."""
        state = self.now[0]
        if self.job is None or is_gone(state) or self.means_little:
            return None
        model, steps = copied(self.state_with(state).model), min(self.course.count, STEPS)
        try:
            return beside(self.first.probe, model, self.batches, steps)
        except PullbackError:
            return None

    def visit(self, state: TrainState, batch: Sequence[Any]) -> Visit:
        assert self.job is not None
        key = state.key
        if key is not None and self.is_stepped:
            key = drawn(UserFunction.of(self.job.loss_fn, "loss_fn"), state)
        subject = Subject(
            state.model,
            self.job.loss_fn,
            tuple(batch),
            self.job.optimizer,
            state.network_state,
            key,
            self.job.has_aux,
            1.0,
        )
        return Visit(subject, self.course)

    # ---- measures ----

    @property
    def can_try(self) -> bool:
        """Whether remedies can be tried: what the run computes is known, and how it learns."""
        return self.tries and self.job is not None and self.job.optimizer is not None

    def affords(self, steps: float) -> bool:
        """Whether a run of so many steps bears an experiment now; if not, it is owed."""
        self.owes = not (self.is_asked or self.course.count >= steps)
        return not self.owes

    @property
    def is_skipping(self) -> bool:
        """Whether all the first steps of a run in float16 were skipped: no scale fits its loss."""
        ratios = self.course.ratios
        scaled = self.job is not None and self.job.precision == "fp16" and self.is_stepped
        return scaled and len(ratios) >= FIRST and not ratios.any()

    @functools.cached_property
    def is_half(self) -> bool:
        """Whether parameters are kept in half precision."""
        return is_half(self.initial.model)

    @functools.cached_property
    def weights(self) -> list[bool]:
        """Of each trained parameter whether it is a weight: a matrix that did not begin at 0."""
        return [x.ndim > 1 and bool(x.any()) for x in _numbers(trained_part(self.initial.model))]

    @property
    def jump(self) -> float:
        """The largest ‖update‖ / ‖weight‖ of the first steps; 0 where it is not known."""
        if self._jump is not None:
            return self._jump
        moved = self._early_ratios()
        found = float(moved.max()) if moved.size and np.isfinite(moved).all() else 0.0
        if len(moved) == FIRST:
            self._jump = found
        return found

    @property
    def jumper(self) -> str:
        """The name of the weight that moved so far."""
        moved = self._early_ratios()
        names = [x for x, w in zip(self.course.names, self.weights, strict=False) if w]
        return names[int(moved.max(axis=0).argmax())] if moved.size else ""

    def _early_ratios(self) -> Numbers:
        """(first steps, weights)"""
        early = self.course.ratios[:FIRST]
        if self.job is None or early.shape[1:] != (len(self.weights),):
            return np.zeros((0, 0))
        found: Numbers = early[:, self.weights]
        return found

    @property
    def typical_ratio(self) -> float:
        """The largest over the weights of the median ‖update‖ / ‖weight‖; 0 where not known."""
        ratios = self.course.ratios
        if self.job is None or ratios.shape[1:] != (len(self.weights),) or not any(self.weights):
            return 0.0
        return float(np.median(ratios[:, self.weights], axis=0).max())

    @property
    def first_ratio(self) -> float:
        """The same of the first steps: those of a run that has learnt all become short."""
        early = self._early_ratios()
        return float(np.median(early, axis=0).max()) if early.size else 0.0

    @property
    def symptom(self) -> str:
        """That of the course. The value of a surrogate says nothing as long as it is finite."""
        said = self.course.symptom
        return "" if said and self.course.is_finite and self.is_surrogate else said

    @functools.cached_property
    def is_surrogate(self) -> bool:
        """`Probe.is_surrogate` of the first step; known once, as the probe is not."""
        return self.first.probe.is_surrogate

    @functools.cached_property
    def means_little(self) -> bool:
        """Whether a lower loss need not be a better one: it is a surrogate, or made of rewards."""
        names = [self.first.probe.replay.names[x] for x in self.first.probe.replay.data]
        return self.is_surrogate or any(is_reward(x) for x in names)

    @functools.cached_property
    def inputs(self) -> list[int]:
        """The places in a batch of what the network reads."""
        probe = self.first.probe
        graph = probe.network or probe.graph
        order = [x for x in probe.replay.graph.inputs if x in probe.replay.data]
        read = set(probe.inputs_of(graph))
        return [i for i, x in enumerate(order) if x in read]

    @functools.cached_property
    def numeric_inputs(self) -> list[int]:
        """Those that are numbers, and no names of words."""
        probe = self.first.probe
        order = [x for x in probe.replay.graph.inputs if x in probe.replay.data]
        return [i for i in self.inputs if probe.is_numeric(order[i])]

    @functools.cached_property
    def targets(self) -> list[int]:
        """The places in a batch of numbers that the network does not read, but for yes and no."""
        probe = self.first.probe
        order = [x for x in probe.replay.graph.inputs if x in probe.replay.data]
        beside = {
            x
            for x in probe.integers_beside()
            if probe.is_numeric(x)
            and x.shape[:1] == (probe.batch,)
            and not np.isin(probe.numbers(x), (0, 1)).all()
        }
        return [i for i, x in enumerate(order) if x in beside]

    def unordered(self, place: int, least: float) -> float:
        """How much better the targets are predicted as classes than as numbers; ∞ if not known.

        How often the most likely class is wrong / a regression, rounded, both linear in the
        inputs, on every fourth of the first examples.
        """
        columns = [[numbers_of(x) for x in flatten(each)[0]] for each in self.batches]
        given = [i for i in self.inputs if is_float(columns[0][i].dtype)]
        if not given or sum(len(x[place]) for x in columns) < least:
            return math.inf
        rows = [[x[i].reshape(len(x[i]), -1) for i in given] for x in columns]
        x = np.concatenate([np.concatenate(each, axis=1) for each in rows]).astype(float64)
        y = np.concatenate([x[place].ravel() for x in columns])
        return math.inf if len(x) != len(y) else class_error(x, y.astype(np.int64))

    def scaled_targets(self) -> list[tuple[Any, ...]]:
        """The first batches, with targets of mean 0 and variance 1 over all of them."""
        batches = [list(each) for each in self.batches]
        for i in self.targets:
            columns = [numbers_of(each[i]).astype(float64) for each in batches]
            every = np.concatenate(columns)
            mean, std = every.mean(axis=0), every.std(axis=0)
            for each, column in zip(batches, columns, strict=True):
                scaled = (column - mean) / np.where(std > 0, std, 1.0)
                dtype = numbers_of(each[i]).dtype
                each[i] = scaled.astype(dtype if is_float(dtype) else float32)
        return [tuple(each) for each in batches]

    @functools.cached_property
    def targets_scale(self) -> float:
        """What a loss of scaled targets is worth in the units of the given ones."""
        if self.baseline is not None:
            given, scaled = map(self.baseline.loss, (self.batches, self.scaled_targets()))
            if math.isfinite(given / scaled):
                return given / scaled
        columns = [numbers_of(each[i]) for i in self.targets for each in self.batches]
        return float(np.mean([x.astype(float64).std() for x in columns])) if columns else 1.0

    def inputs_differ(self, probe: Probe) -> bool:
        """Whether the inputs of a batch are not all the same."""
        graph = probe.network or probe.graph
        inputs = [probe.numbers(x) for x in probe.inputs_of(graph)]
        return any((x != x[:1]).any() for x in inputs)

    # ---- a loop without train_step ----

    def state_with(self, model: Any) -> Any:
        """The state of a loop that has a model only."""
        if isinstance(model, TrainState) or not isinstance(self.initial, TrainState):
            return model
        return self.initial.replace(model=model)

    def told(self, model: Any, batch: Any, loss: Any, grads: Any) -> Told:
        """The metrics of a step after which the model is `model`."""
        before, self._model = self._model, model
        part = trained_part(model)
        after = _numbers(part)
        was = [] if is_gone(before) else _numbers(trained_part(before))
        slopes = [] if grads is None else _numbers(grads)
        moved = [x - y for x, y in zip(after, was, strict=False)]
        if len(slopes) == len(was) and was and len(self.handed) < HANDED:
            state = copied(self.state_with(before))
            given = [np.array(x) for x in _numbers(parts(batch))]
            number = self.course.count + 1
            self.handed.append(Handed(number, state, was, after, slopes, given))
        elif len(self.handed) == HANDED and was and self._doubts < DOUBTS > len(self.returns):
            is_back = self._is_back(was, after)
            if is_back and self._is_of_start(slopes, batch):
                self.returns.append(self.course.count + 1)
        return Told(
            loss,
            np.array([np.linalg.norm(g.ravel()) for g in slopes]),
            np.array([_ratio(d, x) for d, x in zip(moved, after, strict=False)]),
            Names(tuple(x.removeprefix(".") for x in paths(flatten(part)[1], ""))),
        )

    def _is_back(self, was: list[Numbers], after: list[Numbers]) -> bool:
        """Whether a step led as near to the beginning as the first one, from further away."""
        start, once = self.handed[0].before, _size(self.handed[0].moved)
        now, then = (_size([a - b for a, b in zip(x, start, strict=True)]) for x in (after, was))
        return 0 < now <= 2 * once and then > now

    def _is_of_start(self, grads: list[Numbers], batch: Any) -> bool:
        """Whether gradients are those of the model of the beginning: the step began with it."""
        try:
            visit = self.visit(self.handed[0].state, parts(batch))
            own = [g.numpy().astype(float64) for g in visit.trained_gradients()]
        except PullbackError:
            own = []
        apart = _size([a - b for a, b in zip(own, grads, strict=False)])
        found = len(own) == len(grads) and apart <= 1e-3 * _size(grads)
        self._doubts += not found
        return found

    @functools.cached_property
    def same_examples(self) -> bool:
        """Whether the second to fifth batch have the examples of the first, in another order."""
        if len(self.batches) < 5:
            return False
        first, *others = [_examples(each) for each in self.batches[:5]]
        return len(first) > 1 and all(first == each for each in others)

    @functools.cached_property
    def spread(self) -> float:
        """F of the column in which the first batches differ most: 1 by chance, 0 where unknown.

        Of few different batches it counts less.
        """
        known = dict(zip(self.marks, self.batches, strict=True))
        columns = [[numbers_of(x) for x in flatten(each)[0]] for each in known.values()]
        if len(columns) < 4:
            return 0.0
        found = [variance_ratio([each[i] for each in columns]) for i in range(len(columns[0]))]
        return max(found, default=0.0) * min(1.0, len(columns) / 8)

    @functools.cached_property
    def owed(self) -> list[tuple[list[Numbers], list[Numbers]]]:
        """Of the steps that were handed over the moves that the optimiser owes to their gradients:

        with the memory that it has by then, and with one made anew.
        """
        if self.job is None or self.job.optimizer is None or not self.handed:
            return []
        update, init = self.job.optimizer.update, self.job.optimizer.init
        memory, found = init(trained_part(self.handed[0].state.model)), []
        for each in self.handed:
            params = trained_part(each.state.model)
            leaves, structure = flatten(params)
            pairs = zip(each.grads, leaves, strict=True)
            grads = structure.unflatten([concrete(g.astype(x.dtype)) for g, x in pairs])
            fresh, _ = update(grads, init(params), params)
            going_on, memory = update(grads, memory, params)
            found.append((_numbers(going_on), _numbers(fresh)))
        return found

    def line(self, what: str) -> Site | None:
        """Where a step that was written by hand does something: a property of `Handmade`.

        It is traced when a report is asked for: a trace leaves its values in what the step keeps.
        """
        with contextlib.suppress(PullbackError):
            if self.made is not None and self.is_asked and self.batches and not self._handmade:
                part = trained_part(self.initial.model)
                self._handmade = Handmade(self.made, self.batches[0], part)
            site: Site | None = None if self._handmade is None else getattr(self._handmade, what)
            return site
        return None

    def gradient_of(self, handed: Handed, rows: slice | None = None) -> list[Numbers]:
        """The gradient of the loss before a step, computed again; with `rows` of these alone."""
        key = id(handed.state), handed.step, str(rows)
        if key not in self._gradients:
            batch = self.batches[handed.step - 1]
            if rows is not None:
                size = self.first.probe.batch
                batch = map_leaves(lambda x: x[rows] if x.shape[:1] == (size,) else x, batch)
            visit = self.visit(handed.state, batch)
            self._gradients[key] = [g.numpy().astype(float64) for g in visit.trained_gradients()]
        return self._gradients[key]


def is_gone(tree: Tree) -> bool:
    """Whether the memory of an array was given away."""
    return any(isinstance(x, Array) and x.trace == DONATED for x in flatten(tree)[0])


def _examples(batch: Any) -> set[str]:
    """What tells the examples of a batch apart; empty where its arrays have other lengths."""
    columns = [numbers_of(x) for x in flatten(batch)[0]]
    if not columns or any(x.shape[:1] != columns[0].shape[:1] or not x.ndim for x in columns):
        return set()
    return {fingerprint([x[i] for x in columns]) for i in range(len(columns[0]))}


def _numbers(tree: Tree) -> list[Numbers]:
    """Copies: the memory of the arrays may be given away."""
    leaves = flatten(tree)[0]
    return [numbers_of(x).astype(float64) for x in leaves]


def _size(arrays: Sequence[Numbers]) -> float:
    return math.sqrt(sum(float(np.vdot(x, x)) for x in arrays))


def _ratio(moved: Numbers, after: Numbers) -> float:
    size = float(np.linalg.norm(after.ravel()))
    return float(np.linalg.norm(moved.ravel())) / size if size else 0.0


def _copied(x: Any) -> Any:
    return np.array(numbers_of(x))
