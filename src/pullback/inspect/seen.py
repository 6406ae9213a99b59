"""`Seen`: what the rules of preflight look at, each thing computed when the first of them asks."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pullback._settings import override
from pullback.errors import PullbackError
from pullback.inspect.answers import Answers, answers
from pullback.inspect.mixing import Leak, leak
from pullback.inspect.moments import Moments, Signal
from pullback.inspect.probe import Probe
from pullback.inspect.trials import (
    ENOUGH,
    Fitted,
    Slope,
    Step,
    first_samples,
    first_step,
    overfit,
    shattering,
    slope_along,
)
from pullback.ir.array import Array, concrete
from pullback.ir.types import bfloat16, float16, float32, float64
from pullback.ops.operators import zeros
from pullback.optim.adaptive import adam
from pullback.optim.optimizer import Optimizer
from pullback.train.function import UserFunction
from pullback.train.state import TrainState, marks
from pullback.train.step import train_step
from pullback.transforms.tree import Tree, flatten, map_leaves

USUAL_RATE = 3e-3
STEPS = 200
VALUES = 1 << 23
"""Numbers in a forward pass: with more, the loss of fewer samples is evaluated again."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What was handed to preflight."""

    model: Any
    loss_fn: Callable[..., Any]
    batch: tuple[Any, ...]
    optimizer: Optimizer | None
    network_state: Any
    key: Array | None
    has_aux: bool
    seconds: float

    @property
    def loss(self) -> Callable[..., Array]:
        """The loss alone, as a function of the model and the batch."""
        function = UserFunction.of(self.loss_fn, "loss_fn")
        named = function.named(self.network_state, self.key)
        function.require_state(self.network_state)
        function.require_fitting(self.batch, named)
        paired = function.takes_state or self.has_aux

        def loss(model: Any, *batch: Any) -> Any:
            result = function(model, *batch, **named)
            return result[0] if paired else result

        loss.__qualname__ = function.name
        function.sign(loss, "model")
        return loss


class Seen:
    """The probe of a loss, and what was tried with it."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.loss = subject.loss
        self.probe = Probe(self.loss, (subject.model, *subject.batch))

    @functools.cached_property
    def signals(self) -> list[Signal]:
        return Moments(self.probe).signals()

    # ---- training ----

    @property
    def is_half(self) -> bool:
        """Whether parameters are kept in half precision."""
        return is_half(self.subject.model)

    @property
    def single(self) -> Any:
        """The model, with float32 in place of half precision."""
        return single(self.subject.model)

    @property
    def precision(self) -> str:
        """That of a training in the precision of the model."""
        leaves = flatten(self.subject.model)[0]
        return "fp64" if all(x.dtype == float64 for x in leaves) else "fp32"

    @functools.cached_property
    def fitted(self) -> Fitted:
        """On one batch, with the user's optimiser if there is one."""
        return self._fit(self.subject.optimizer or adam(USUAL_RATE))

    @functools.cached_property
    def fitted_by_adam(self) -> Fitted:
        """On one batch, with an optimiser that is known to do."""
        return self.fitted if self.subject.optimizer is None else self._fit(adam(USUAL_RATE))

    def _fit(self, optimizer: Optimizer) -> Fitted:
        it, precision = self.subject, self.precision

        def state() -> TrainState:
            return TrainState.create(
                self.single,
                optimizer,
                network_state=it.network_state,
                key=it.key,
                precision=precision,
            )

        step = train_step(it.loss_fn, optimizer, has_aux=it.has_aux, precision=precision)
        with override(eager=True):  # to compile takes longer than the first steps of most models
            first = overfit(step, state(), self.part.batch, STEPS, it.seconds / 2, least=0)
        if first.is_sound:
            return first
        return overfit(step, state(), it.batch, STEPS, it.seconds)

    @property
    def blames_optimizer(self) -> bool:
        """Whether the user's optimiser fails where Adam does not."""
        own = self.subject.optimizer is not None and bool(self.symptom)
        return own and self.fitted_by_adam.fall >= ENOUGH

    @property
    def symptom(self) -> str:
        """What says that something is wrong, beside any threshold; empty where nothing does."""
        fall = self.fitted.fall
        if fall >= ENOUGH or (self.probe.is_surrogate and math.isfinite(fall)):
            return ""
        count = len(self.fitted.losses) - 1
        if fall == float("-inf"):
            return f"the loss of one batch is not finite after {count} steps"
        return f"in {count} steps on one batch the loss fell by {max(fall, 0):.1%}"

    @functools.cached_property
    def step(self) -> Step | None:
        """The first step of the user's optimiser."""
        it = self.subject
        if it.optimizer is None:
            return None
        return first_step(
            lambda model: self.loss(model, *it.batch),
            it.model,
            self.trained_gradients(),
            it.optimizer,
        )

    def trained_gradients(self) -> Sequence[Array]:
        chosen = marks(self.subject.model)
        leaves = flatten(self.subject.model)[0]
        floating = [mark for mark, x in zip(chosen, leaves, strict=True) if _is_floating(x)]
        return [g for g, mark in zip(_gradients(self.probe), floating, strict=True) if mark]

    # ---- probing ----

    @functools.cached_property
    def answers(self) -> list[Answers]:
        """What the loss makes of outputs that are made by hand."""
        return list(answers(self.part.probe))

    @functools.cached_property
    def part(self) -> Part:
        """So many samples that to evaluate the loss again is cheap; all where it cannot be cut."""
        it, whole = self.subject, Part(self.subject.batch, self.probe)
        values = sum(y.size for node in self.probe.nodes for y in node.outputs)
        count = max(2, self.probe.batch * VALUES // max(values, 1))
        if count >= self.probe.batch:
            return whole
        batch = first_samples(it.batch, self.probe.batch, count)
        try:
            probe = Probe(self.loss, (it.model, *batch))
        except PullbackError:
            return whole
        return Part(batch, probe) if math.isfinite(probe.loss) else whole

    @functools.cached_property
    def leak(self) -> Leak | None:
        return leak(self.part.probe)

    @functools.cached_property
    def shattering(self) -> float | None:
        return shattering(self.part.probe)

    @functools.cached_property
    def slope(self) -> Slope | None:
        leaves = flatten(self.subject.model)[0]
        grads = iter([g.numpy() for g in _gradients(self.part.probe)])
        whole = [next(grads) if _is_floating(x) else x.numpy() for x in leaves]
        return slope_along(self.loss, self.subject.model, self.part.batch, whole)


@dataclass(frozen=True, slots=True)
class Part:
    """Some samples of a batch, and the probe of the loss of these."""

    batch: tuple[Any, ...]
    probe: Probe


def _gradients(probe: Probe) -> list[Array]:
    """Of every floating parameter; 0 where nothing flows."""
    totals = probe.replay.totals
    return [
        concrete(totals[x].numpy()) if x in totals else zeros(x.type)
        for x in probe.replay.parameters
    ]


def _is_floating(x: Any) -> bool:
    return bool(x.dtype.kind in "fV")


def is_half(model: Tree) -> bool:
    """Whether parameters are kept in half precision."""
    return any(x.dtype in (float16, bfloat16) for x in flatten(model)[0])


def single(tree: Any) -> Any:
    """A tree with float32 in place of half precision."""
    return map_leaves(lambda x: x.astype(float32) if x.dtype in (float16, bfloat16) else x, tree)
