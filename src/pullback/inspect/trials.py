"""What preflight tries: train on one batch, take one step, change one sample, move the weights."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import PullbackError
from pullback.inspect.held import Held
from pullback.inspect.probe import Probe, norm
from pullback.ir.array import Array, concrete, numbers_of
from pullback.ir.types import Numbers, float16, float64, is_float
from pullback.optim.optimizer import Optimizer
from pullback.train.state import TrainState, completed, copied, marks, trained_part
from pullback.train.step import TrainStep
from pullback.transforms.derivatives import hvp, vjp
from pullback.transforms.tree import flatten, map_leaves

Loss = Callable[..., Any]

ENOUGH = 0.05
"""A run whose loss falls by less than this share has a symptom (TheDeepChecker)."""
LEAST = 50
"""Steps before that is said."""
SHORT = 10
"""Steps of a run whose last loss is taken as it is."""
JUMP = -0.5
"""log10 of the share of a weight that a sound first step changes at most."""
WRONG = 1e-3
"""A derivative is wrong beyond this relative error (gradcheck)."""

# ---- training on one batch ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Descent:
    """Some steps, with the losses before each."""

    losses: tuple[float, ...]

    @property
    def start(self) -> float:
        return self.losses[0]

    @property
    def end(self) -> float:
        """The mean of the last losses."""
        raise NotImplementedError

    @property
    def is_finite(self) -> bool:
        return all(map(math.isfinite, self.losses))

    @property
    def fall(self) -> float:
        """(start - end) / |start|; -∞ where a loss is not finite."""
        if not self.is_finite:
            return -math.inf
        return (self.start - self.end) / max(abs(self.start), 1e-12)

    @property
    def rises(self) -> float:
        """Share of the first 20 steps after which the loss was higher."""
        pairs = list(itertools.pairwise(self.losses[:21]))
        return sum(not b <= a for a, b in pairs) / max(len(pairs), 1)


@dataclass(frozen=True, slots=True)
class Fitted(Descent):
    """Steps on one batch."""

    ratio: float
    """The largest ‖update‖/‖parameter‖ of a weight in the first 20 steps."""
    mover: str
    """Which weight it was."""
    silent: frozenset[str]
    """Parameters whose gradient was exactly 0 in every step but the first."""
    broke: TrainState | None = None
    """The state before a step that was not finite."""

    @property
    def end(self) -> float:
        """The mean of the last three losses; of a short run the last."""
        return float(np.mean(self.losses[-3 if len(self.losses) >= SHORT else -1 :]))

    def lags(self, other: Fitted) -> bool:
        """Whether after as many steps the loss fell by less than half of what the other's did."""
        count = min(len(self.losses), len(other.losses))
        mine, others = [(x.losses[0] - x.losses[count - 1]) for x in (self, other)]
        return not mine >= others / 2

    @property
    def is_sound(self) -> bool:
        """The loss fell, never rose, and no weight jumped."""
        return self.fall >= ENOUGH and self.rises == 0 and self.ratio <= 10**JUMP


def overfit(
    step: TrainStep,
    state: TrainState,
    batch: Sequence[Any],
    steps: int,
    seconds: float,
    least: int = LEAST,
) -> Fitted:
    """Up to `steps` steps on the same batch, until the loss is lower by nine tenths of its size.

    After `seconds` of processor time beyond the first step it ends as soon as the loss is lower by
    `ENOUGH`, or after `least` steps.
    """
    losses: list[float] = []
    ratio, mover = 0.0, ""
    seen: set[str] = set()
    zero = [not np.any(x.numpy()) for x in flatten(trained_part(state.model))[0]]
    names: tuple[str, ...] = ()
    until: float | None = None
    broke: TrainState | None = None
    for i in range(steps):
        state, metrics = step(state, *batch)
        until = until or time.process_time() + seconds  # the first step compiles
        losses.append(float(metrics.loss))
        names = metrics.names.paths
        if i:
            seen |= {n for n, x in zip(names, metrics.norms.tolist(), strict=True) if x != 0}
        if i < 20:
            shares = zip(names, metrics.ratios.tolist(), strict=True)
            told = zip(shares, zero, strict=True)  # of what began at 0 the first step is all
            weights = [(x, name) for (name, x), began in told if "weight" in name and not began]
            ratio, mover = max([(ratio, mover), *weights])
        fallen = losses[0] - losses[-1] >= 0.9 * abs(losses[0])
        if broke is None and bool(metrics.skipped) and step._recipe.compute != float16:
            broke = copied(state)  # as it was: the step is not applied
        if not math.isfinite(losses[-1]) or (i and fallen):
            break
        lower = losses[0] - losses[-1] >= ENOUGH * abs(losses[0])
        if time.process_time() > until and (lower or i >= least):
            break
    return Fitted(tuple(losses), ratio, mover, frozenset(names) - seen, broke)


def first_samples(batch: Sequence[Any], size: int, count: int) -> tuple[Any, ...]:
    """The first `count` of the samples of a batch of `size`."""

    def cut(x: Any) -> Any:
        numbers = numbers_of(x)
        return numbers[:count] if numbers.shape[:1] == (size,) else x

    found: tuple[Any, ...] = map_leaves(cut, tuple(batch))
    return found


# ---- one step -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """A step along u: the slope ⟨g, u⟩ and the curvature uᵀHu of the loss."""

    slope: float
    curvature: float

    @property
    def predicted(self) -> float:
        """The change of the loss to second order, -⟨g, u⟩ + uᵀHu / 2."""
        return -self.slope + self.curvature / 2

    @property
    def eta(self) -> float:
        """η*: the multiple of the step beyond which the loss rises, 2⟨g, u⟩ / uᵀHu; ∞ without."""
        if self.curvature <= 0:
            return math.inf
        return 2 * self.slope / self.curvature

    @property
    def factor(self) -> float:
        """By how much the step is longer than that."""
        return 0.0 if math.isinf(self.eta) else 1 / self.eta if self.eta else math.inf


def step_along(loss: Loss, model: Any, grads: Any, update: Any) -> Step:
    """The verdict on `model + update`; u is what is subtracted. One Hessian-vector product."""
    against = map_leaves(lambda x: -x, update)
    curved = hvp(loss, (model,), (against,))
    return Step(_inner(grads, against), _inner(against, curved))


def _inner(x: Any, y: Any) -> float:
    pairs = zip(flatten(x)[0], flatten(y)[0], strict=True)
    return sum(float(np.vdot(*[numbers_of(z, float64) for z in pair])) for pair in pairs)


def first_step(loss: Loss, model: Any, gradients: Sequence[Array], optimizer: Optimizer) -> Step:
    """The verdict on the optimiser's first step from `model`; `gradients` of what is trained."""
    chosen = marks(model)
    part = trained_part(model)
    structure = flatten(part)[1]
    grads = structure.unflatten(list(gradients))
    updates, _ = optimizer.update(grads, optimizer.init(part), part)
    return step_along(lambda p: loss(completed(p, model, chosen)), part, grads, updates)


# ---- the size of the batch ------------------------------------------------------------------


def copies_ratio(
    loss: Loss, model: Any, batch: Sequence[Any], once: float, size: int, copies: int
) -> float:
    """loss(copies of the batch) / loss(batch)."""

    def repeated(x: Any) -> Any:
        numbers = numbers_of(x)
        return np.concatenate([numbers] * copies) if numbers.shape[:1] == (size,) else x

    return float(loss(model, *map_leaves(repeated, tuple(batch)))) / once if once else math.nan


# ---- neighbours -----------------------------------------------------------------------------


def shattering(probe: Probe, seed: int = 0) -> float | None:
    """The mean cosine of ∂(r·f)/∂x at x and at x + 0.1‖x‖u, over the samples, u and r random."""
    graph = probe.network
    inputs = [] if graph is None else probe.inputs_of(graph)
    if graph is None or len(inputs) != 1 or not is_float(inputs[0].dtype):
        return None
    x, rng = probe.numbers(inputs[0]), np.random.default_rng(seed)
    f = probe.as_function(graph, inputs[0])
    rows = x.reshape(len(x), -1)
    u = rng.standard_normal(rows.shape)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    near = rows + 0.1 * lengths * u / np.linalg.norm(u, axis=1, keepdims=True)
    out, back = vjp(f, concrete(x.copy()))
    r = rng.standard_normal(out.shape).astype(out.dtype)
    (here,) = back(r)
    (there,) = vjp(f, concrete(near.astype(x.dtype).reshape(x.shape)))[1](r)
    a, b = here.numpy().reshape(len(x), -1), there.numpy().reshape(len(x), -1)
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    alive = sizes > 0
    return float(((a * b).sum(axis=1)[alive] / sizes[alive]).mean()) if alive.any() else None


# ---- a direction ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slope:
    """A derivative along a direction of length about √2: of the rules, and measured."""

    rule: float
    measured: float
    settled: bool
    """Whether two step lengths measure the same: no kink nearby."""

    @property
    def is_wrong(self) -> bool:
        error = abs(self.rule - self.measured)
        return self.settled and error > 1e-5 + WRONG * max(abs(self.rule), abs(self.measured))


def slope_along(
    loss: Loss, model: Any, batch: Sequence[Any], gradient: Sequence[Numbers], seed: int = 0
) -> Slope | None:
    """The gradient against central differences in float64, along itself plus a random direction.

    What cuts a derivative is held, as the rules hold it. None where the loss cannot be computed in
    float64.
    """
    leaves = flatten(model)[0]
    rng = np.random.default_rng(seed)
    g: list[Numbers] = [x.astype(float64) for x in gradient]
    noise = [np.asarray(rng.standard_normal(x.shape)) for x in g]
    lengths = _length(g), _length(noise)
    if not lengths[0]:
        return None
    v = [x / lengths[0] + y / lengths[1] for x, y in zip(g, noise, strict=True)]
    wide = map_leaves(_widened, tuple(batch))
    try:
        held = Held(loss, (map_leaves(_widened, model), *wide))
    except PullbackError:
        return None

    def at(t: float) -> float:
        return held(
            [
                _widened(x) + t * d if is_float(x.dtype) else _widened(x)
                for x, d in zip(leaves, v, strict=True)
            ]
        )

    def measured(h: float) -> float:
        return (at(h) - at(-h)) / (2 * h)

    rule = sum(float(np.vdot(x, d)) for x, d in zip(g, v, strict=True))
    first = Slope(rule, measured(1e-4), settled=True)
    if not first.is_wrong:
        return first
    short = measured(2e-5)
    settled = abs(first.measured - short) <= 1e-6 + 2e-4 * abs(short)
    return Slope(rule, short, settled)


def _length(parts: Sequence[Numbers]) -> float:
    return math.sqrt(sum(norm(x) ** 2 for x in parts))


def _widened(x: Any) -> Any:
    numbers = numbers_of(x)
    return numbers.astype(float64) if is_float(numbers.dtype) else numbers
