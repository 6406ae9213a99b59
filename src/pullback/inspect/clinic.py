"""`Clinic`: remedies are tried on copies of a run's beginning, and told with what they did."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pullback.inspect.case import KEPT, Case, is_gone
from pullback.inspect.edits import edited
from pullback.inspect.findings import AS_IT_IS, NO_TRIAL, Finding, Remedy, Severity
from pullback.inspect.heldout import SHARE, TAKEN, HeldOut, Renewed, held_out, mean_loss
from pullback.inspect.initial import rescaled
from pullback.inspect.seen import USUAL_RATE, single
from pullback.inspect.trials import ENOUGH, Descent
from pullback.ir.array import numbers_of
from pullback.ir.types import Numbers, float32, float64, is_float
from pullback.ops.operators import constant
from pullback.optim.adaptive import adam
from pullback.optim.optimizer import Optimizer
from pullback.train.state import copied, trained_part
from pullback.train.step import TrainStep
from pullback.transforms.tree import flatten, map_leaves

STEPS = 40
MOST = 200
"""Steps of a trial where the run came to grief only later."""
SECONDS = 4.0
"""The longest time of one trial, after its program is compiled."""
AGAIN = 1.0
"""The same where the whole run is made once more without a doubt."""
ALIKE = 0.6
"""Correlation of two orders that have little to do with each other, below."""
CLEARLY = 0.25
"""What a remedy must show where the run has no symptom, or no rule has seen anything, as a share of
the loss at the start; and it must end at less than half."""
BETTER = 0.1
"""A remedy helps where the loss ends lower by this share of where it began (diagnoses, N8); by
half of it where it also ends at less than half."""


@dataclass(frozen=True, slots=True)
class Trial(Descent):
    """Some steps from the beginning of a run, changed in one way."""

    @property
    def end(self) -> float:
        """The mean of the last losses; ∞ where one is not finite."""
        return float(np.mean(self.losses[-5:])) if self.is_finite else math.inf

    @property
    def round(self) -> float:
        """The mean of so many last losses as there may be different batches."""
        return float(np.mean(self.losses[-KEPT:])) if self.is_finite else math.inf

    def effect(self, other: Trial) -> float:
        """By how much it ends lower than `other`, as a share of where that began, to 1; or 0."""
        if not self.is_finite:
            return 0.0
        learns = self.end <= self.start - BETTER * abs(self.start)
        holds = self.end <= self.start + BETTER * abs(self.start) and self.end < abs(other.end) / 2
        if not (learns or holds):
            return 0.0
        if not math.isfinite(other.end):
            return 1.0
        scale = min(abs(self.start), abs(other.start))  # weights too large make the other one huge
        gain = (other.end - self.end) / max(scale, 1e-12)
        least = BETTER / 2 if 0 <= self.end < other.end / 2 else BETTER
        return min(gain, 1.0) if gain >= least else 0.0

    def __str__(self) -> str:
        end = f"{self.end:.3g}" if self.is_finite else "not finite"
        return f"{self.losses[0]:.3g} -> {end}"


class Clinic:
    """Copies of the beginning of a run, trained for some steps on its own first batches.

    The run itself is not touched: a trial has copies of the state and of the batches.
    """

    def __init__(self, case: Case) -> None:
        assert case.job is not None
        assert case.job.optimizer is not None
        self._case = case
        self._job, self._optimizer = case.job, case.job.optimizer
        self._steps: dict[Any, TrainStep] = {}
        self._known: dict[Remedy, Trial] = {}
        self._again: dict[str, tuple[float, int]] = {}
        grief = case.course.grief
        self._steps_of_trial = min(max(STEPS, 3 * grief // 2), MOST)

    @property
    def own(self) -> Trial:
        """The run as it is."""
        return self.trial(AS_IT_IS)

    def beside(self, remedy: Remedy) -> Trial:
        """The run as it is, for as many steps as with the remedy."""
        return self.trial(replace(AS_IT_IS, steps=remedy.steps))

    def trial(self, remedy: Remedy) -> Trial:
        """What becomes of the run with a remedy."""
        if remedy not in self._known:
            program = self._program(remedy)
            trial = self._train(program, remedy, self._batches(remedy))
            scale = self._case.targets_scale if remedy.scales else 1.0
            self._known[remedy] = Trial(tuple([scale * x for x in trial.losses]))
        return self._known[remedy]

    @property
    def loop(self) -> Trial:
        """The run itself, as many steps of it as a trial has."""
        return Trial(tuple(self._case.course.losses[: len(self.own.losses)].tolist()))

    @functools.cached_property
    def onward(self) -> tuple[Trial, Trial]:
        """From the present: with the first steps of the optimiser once more; as it stands."""
        state = copied(self._case.state_with(self._case.now[0]))
        model = single(state.model)
        fresh = self._begin.replace(
            model=model, key=state.key, network_state=state.network_state
        ).replace(optimizer=self._optimizer.init(trained_part(model)))
        first, still = (
            _trained(self._program(AS_IT_IS), self._begun(fresh, x), self._case.batches, 2 * STEPS)
            for x in (1.0, 0.0)
        )
        return first, still

    @functools.cached_property
    def ordered(self) -> tuple[float, float]:
        """The loss of the first batches after three rounds of them: in their order, and mixed."""
        batches = self._case.batches
        begun, program = self._begun(self._begin, 1.0), self._program(AS_IT_IS)
        found = []
        for given in (batches, _mixed(batches)):
            trial, state = _walked(program, begun, given, 3 * len(batches))
            found.append(_judged(program, state, batches) if trial.is_finite else math.inf)
        return found[0], found[1]

    def renumbered(self, place: int) -> tuple[float, float]:
        """Of targets that are numbers of classes: is what they say of others a matter of numbers?

        After `MOST` steps on three quarters of the batches the loss of the others / the variance of
        the numbers: as the classes are numbered, and the least with them in another order.
        """
        batches = [flatten(each) for each in self._case.batches]
        y = np.concatenate([numbers_of(columns[place]).ravel() for columns, _ in batches])
        count, held = int(y.max()) + 1, len(batches) // SHARE
        left = []
        for order in _numberings(count):
            given: list[Any] = []
            for columns, structure in batches:
                old = numbers_of(columns[place])
                new = order[old.astype(np.int64)].astype(old.dtype)
                given.append(structure.unflatten([*columns[:place], new, *columns[place + 1 :]]))
            program = self._program(AS_IT_IS)
            trial, state = _walked(program, self._begun(self._begin, 1.0), given[held:], MOST)
            end = _judged(program, state, given[:held]) if trial.is_finite else math.inf
            left.append(end / float(order[y.astype(np.int64)].var()))
        return left[0], min(left[1:], default=math.inf)

    @functools.cached_property
    def by_heart(self) -> Trial:
        """One batch again and again, with the optimiser of the run."""
        return self._train(self._program(AS_IT_IS), AS_IT_IS, self._case.batches[:1])

    @functools.cached_property
    def by_adam(self) -> Trial:
        """One batch again and again, with an optimiser that is known to do."""
        return _trained(self._adam, self._by_adam, self._case.batches[:1], STEPS)

    @functools.cached_property
    def _adam(self) -> TrainStep:
        return self._job.step(ADAM)

    @property
    def _by_adam(self) -> Any:
        state = self._begin
        return state.replace(optimizer=ADAM.init(trained_part(state.model)))

    @functools.cached_property
    def _held(self) -> tuple[Sequence[Any], Sequence[Any]]:
        """Of the first batches some that are held out, and the others."""
        batches = self._case.batches
        return batches[-(KEPT // SHARE) :], batches[: -(KEPT // SHARE)]

    def renewed(self) -> Renewed | None:
        """None where batches are few, the value of the loss means little, or the state is gone."""
        case = self._case
        now = case.state_with(case.now[0])
        if len(case.batches) < KEPT or case.means_little or is_gone(now):
            return None
        begun, steps = self._by_adam, min(case.course.count, MOST)
        present = begun.replace(model=single(now.model), network_state=now.network_state)
        start, run = [mean_loss(self._adam, x, self._held[0]) for x in (begun, present)]
        if "adam" not in self._again:
            trial, after = _walked(self._adam, begun, self._held[1], steps, AGAIN)
            end = mean_loss(self._adam, after, self._held[0]) if trial.is_finite else math.inf
            self._again["adam"] = end, len(trial.losses)
        constant = case.course.baseline
        known = min(start, constant) if math.isfinite(constant) else start
        return Renewed(known, run, *self._again["adam"])

    def renewed_with(self, remedy: Remedy, steps: int) -> float:
        """The same, with the optimiser of the run: the loss of the batches that are held out."""
        if remedy.said not in self._again:
            program, begun = self._program(remedy), self._begun(self._begin, remedy.rate)
            trial, after = _walked(program, begun, self._held[1], steps, AGAIN)
            end = _judged(program, after, self._held[0]) if trial.is_finite else math.inf
            self._again[remedy.said] = end, steps
        return self._again[remedy.said][0]

    @functools.cached_property
    def held_out(self) -> HeldOut | None:
        """Training on some of the examples, and what it is worth for others."""
        case, step, state = self._case, self._job.program, self._begin
        if step is None:
            step, state = self._program(AS_IT_IS), self._begun(state, 1.0)
        return held_out(step, state, case.batches, case.baseline)

    def can_hold_out(self, share: float) -> bool:
        """Whether it is known already, or takes at most this share of the steps so far."""
        return self.has_held_out or self._case.affords(TAKEN / share)

    @property
    def has_held_out(self) -> bool:
        """Whether it is known already."""
        return "held_out" in vars(self)

    @property
    def is_calm(self) -> bool:
        """Whether a run with a symptom has none where it is tried again, for fewer steps."""
        return bool(self._case.symptom) and self.own.fall >= ENOUGH

    # ---- one trial ----

    @property
    def _begin(self) -> Any:
        """The state before the first step; what is kept in half precision is tried in float32."""
        state = self._case.initial
        return state.replace(model=single(state.model))

    def _train(self, step: TrainStep, remedy: Remedy, batches: Sequence[tuple[Any, ...]]) -> Trial:
        state = self._begin
        if remedy.initialises:
            state = state.replace(model=rescaled(self._case.first, state.model))
        state = self._begun(state, remedy.rate)
        return _trained(step, state, batches, max(self._steps_of_trial, remedy.steps))

    def _begun(self, state: Any, rate: float) -> Any:
        """The state with a factor of the updates in it."""
        return state.replace(optimizer=(state.optimizer, constant(rate, float32)))

    def _program(self, remedy: Remedy) -> TrainStep:
        """The step of the run, with a factor of its updates in the optimiser's state."""
        key = remedy.clip, remedy.keeps, remedy.edit
        if key not in self._steps:
            job = self._job if remedy.clip is None else replace(self._job, clip=remedy.clip)
            if remedy.edit is not None:
                probe = self._case.first.probe
                job = replace(job, loss_fn=edited(probe, remedy.edit(probe)), has_aux=False)
            self._steps[key] = job.step(_with_factor(self._optimizer, remedy.keeps))
        return self._steps[key]

    def _batches(self, remedy: Remedy) -> Sequence[tuple[Any, ...]]:
        batches = self._case.batches
        if remedy.standardises:
            inputs = self._case.numeric_inputs
            batches = [tuple(_standard(x, i in inputs) for i, x in enumerate(b)) for b in batches]
        if remedy.scales:
            batches = self._case.scaled_targets()
        return _mixed(batches) if remedy.mixes else batches


ADAM = adam(USUAL_RATE)


def _trained(step: TrainStep, state: Any, batches: Sequence[tuple[Any, ...]], count: int) -> Trial:
    return _walked(step, state, batches, count)[0]


def _walked(
    step: TrainStep,
    state: Any,
    batches: Sequence[tuple[Any, ...]],
    count: int,
    seconds: float = SECONDS,
) -> tuple[Trial, Any]:
    """The steps, and the state after them."""
    state = copied(state)
    losses: list[float] = []
    until = math.inf
    for i in range(count):
        state, metrics = step(state, *batches[i % len(batches)])
        losses.append(float(metrics.loss))
        until = min(until, time.process_time() + seconds)  # the first step compiles
        finite = math.isfinite(losses[-1]) and math.isfinite(float(metrics.grad_norm))
        if not finite:
            losses[-1] = math.nan
            break
        if time.process_time() > until:
            break
    return Trial(tuple(losses)), state


def _with_factor(optimizer: Optimizer, keeps: bool) -> Optimizer:
    """The optimiser with a factor of its updates in its state: of any, that of the rate."""

    def init(params: Any) -> Any:
        return optimizer.init(params), constant(1.0, float32)

    def update(grads: Any, state: Any, params: Any) -> Any:
        inner, factor = state
        given = map_leaves(lambda p: p * 0, params) if keeps else params
        updates, inner = optimizer.update(grads, inner, given)
        return map_leaves(lambda u: u * factor.astype(u.dtype), updates), (inner, factor)

    return Optimizer(init, update)


def _judged(step: TrainStep, state: Any, batches: Sequence[tuple[Any, ...]]) -> float:
    """The mean loss of batches, by steps of length 0; infinite where one is not finite."""
    still = state.replace(optimizer=(state.optimizer[0], constant(0.0, float32)))
    after = _trained(step, still, batches, len(batches))
    return float(np.mean(after.losses)) if after.is_finite else math.inf


def _numberings(count: int) -> list[Numbers]:
    """0 to count - 1 as they are, and in up to three orders that have little to do with that."""
    rng, own = np.random.default_rng(0), np.arange(count)
    drawn = [rng.permutation(count) for _ in range(50)]
    others = {tuple(x.tolist()) for x in drawn if abs(np.corrcoef(x, own)[0, 1]) < ALIKE}
    return [own, *[np.array(x) for x in sorted(others)[:: max(1, len(others) // 3)][:3]]]


# ---- batches --------------------------------------------------------------------------------


def _standard(x: Any, is_input: bool) -> Any:
    """Inputs with mean 0 and variance 1, feature by feature."""
    numbers = numbers_of(x)
    if not is_input or numbers.ndim < 2:
        return x
    wide = numbers.astype(float64)
    axis = 0 if numbers.ndim == 2 else None
    std = wide.std(axis=axis)
    scaled = (wide - wide.mean(axis=axis)) / np.where(std > 0, std, 1.0)
    return scaled.astype(numbers.dtype if is_float(numbers.dtype) else float32)


def _mixed(batches: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The examples of all batches in another order."""
    sizes = {len(flatten(batch)[0][0]) for batch in batches}
    if len(sizes) != 1:
        return list(batches)
    (size,) = sizes
    order = np.random.default_rng(0).permutation(size * len(batches))

    def mix(i: int) -> Any:
        rows = order[i * size : (i + 1) * size]
        return lambda *xs: np.concatenate([numbers_of(x) for x in xs])[rows]

    first, *rest = batches
    return [map_leaves(mix(i), first, *rest) for i in range(len(batches))]


# ---- findings with their remedy -------------------------------------------------------------


def tried(clinic: Clinic, finding: Finding) -> Finding:
    """The finding with the best of its remedies as it was tried.

    A warning that no remedy bears out becomes a note; a note whose remedy is far better, a warning.
    """
    remedies = finding.remedies or finding.rule.remedies
    if not remedies or NO_TRIAL in remedies or finding.severity.is_error:
        return finding
    best = max(remedies, key=lambda x: clinic.trial(x).effect(clinic.beside(x)))
    trial, own = clinic.trial(best), clinic.beside(best)
    effect = trial.effect(own)
    told = f"{best.said}: tried for {len(trial.losses)} steps: loss {trial} (yours: {own})"
    numbers = {**finding.numbers, "tried": [best.said, trial.end, own.end]}
    noted = finding.severity is Severity.INFO
    if noted and not (effect >= CLEARLY and trial.end < own.end / 2):
        return finding
    if not effect and clinic.is_calm:
        return finding  # what went wrong in the run did not do so here: nothing is shown
    if not effect:
        notes = (*finding.notes, told)
        severity = finding.severity if finding.stands else Severity.INFO
        return replace(finding, severity=severity, notes=notes, numbers=numbers)
    severity = Severity.WARN if noted else finding.severity
    return replace(finding, severity=severity, fix=told, effect=effect, numbers=numbers)
