"""Gradients from values alone, beside backpropagation: what they cost, and how far off they are.

Finite differences move one parameter at a time: two evaluations of the loss for each, so O(P·C) for
P parameters where backpropagation is O(C). Evolution strategies (Salimans et al. 2017) move all at
once in random directions: the error of N pairs is about √(P/N) of the gradient itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback._public import public
from pullback.compile import compile
from pullback.errors import ArgumentError
from pullback.inspect.paths import require_parameters
from pullback.ir.array import Array, concrete, numbers_of
from pullback.ir.types import Numbers, float64, is_float
from pullback.optim.hyperparameters import require_count, require_positive
from pullback.transforms.derivatives import value_and_grad
from pullback.transforms.tree import flatten

Loss = Callable[..., Any]
BOUND = 20_000
"""Evaluations that finite differences take without being told to."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A gradient, and what it took to find it."""

    name: str
    gradient: tuple[Numbers, ...]
    """float64, of each floating array of the model in order."""
    evaluations: int
    """Of the loss."""
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Estimates of one gradient. `print(comparison)` is a table; the first is backpropagation."""

    estimates: tuple[Estimate, ...]
    parameters: int

    def cosine(self, i: int) -> float:
        """Between an estimate and the first."""
        a, b = [_flat(self.estimates[k].gradient) for k in (0, i)]
        size = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(a @ b) / size if size else math.nan

    def error(self, i: int) -> float:
        """‖estimate - first‖ / ‖first‖."""
        a, b = [_flat(self.estimates[k].gradient) for k in (0, i)]
        size = float(np.linalg.norm(a))
        return float(np.linalg.norm(b - a)) / size if size else math.nan

    def __str__(self) -> str:
        rows = [
            f"gradient of {self.parameters} parameters",
            f"{'':22}{'evaluations':>12}{'seconds':>10}{'beside it':>11}{'cosine':>9}{'error':>10}",
        ]
        first = self.estimates[0].seconds
        for i, x in enumerate(self.estimates):
            rows.append(
                f"{x.name:22}{x.evaluations:>12}{x.seconds:>10.2g}{x.seconds / first:>10.3g}x"
                f"{self.cosine(i):>9.4f}{self.error(i):>10.2g}"
            )
        return "\n".join(rows)

    def __repr__(self) -> str:
        return str(self)


@public
def finite_differences(
    loss_fn: Loss, model: Any, *batch: Any, step: float = 1e-5, bound: int = BOUND
) -> Estimate:
    """∂L/∂θᵢ ≈ (L(θ + h·eᵢ) - L(θ - h·eᵢ)) / 2h for every parameter, in float64.

    The error is O(h²) plus the rounding of L divided by h. Raises `ArgumentError` where it would
    take more evaluations than `bound`, or `step` is not positive.

    >>> import pullback as pb
    >>> finite_differences(lambda w: pb.sum(w * w), pb.ones(2)).gradient[0].round(6).tolist()
    [2.0, 2.0]
    """
    require_positive(step=step)
    point = _Point(loss_fn, model, batch)
    if 2 * point.size > bound:
        raise ArgumentError(
            f"{2 * point.size} evaluations of the loss for {point.size} parameters",
            hint=f"bound={2 * point.size} allows them; evolution_strategy takes any number",
        )
    begin, slopes = time.perf_counter(), np.zeros(point.size)
    for i in range(point.size):
        away = np.zeros(point.size)
        away[i] = step
        slopes[i] = (point.at(away) - point.at(-away)) / (2 * step)
    seconds = time.perf_counter() - begin
    return Estimate("finite differences", point.split(slopes), 2 * point.size, seconds)


@public
def evolution_strategy(
    loss_fn: Loss, model: Any, *batch: Any, pairs: int = 128, sigma: float = 1e-3, seed: int = 0
) -> Estimate:
    """Σ (L(θ + σε) - L(θ - σε))·ε / 2σN over N antithetic pairs, ε ~ N(0, 1), in float64.

    Its mean is the gradient of the loss smoothed by a Gaussian of width σ. Of a loss that is
    linear within σ the relative error is √((P + 1)/N), and the cosine with the gradient about
    1/√(1 + (P + 1)/N): a hundred pairs say little about a million parameters.

    Raises `ArgumentError` unless `pairs` and `sigma` are positive.
    """
    require_count(pairs=pairs)
    require_positive(sigma=sigma)
    point, rng = _Point(loss_fn, model, batch), np.random.default_rng(seed)
    begin, slopes = time.perf_counter(), np.zeros(point.size)
    for _ in range(pairs):
        away = rng.standard_normal(point.size)
        change = point.at(sigma * away) - point.at(-sigma * away)
        slopes += change / (2 * sigma * pairs) * away
    seconds = time.perf_counter() - begin
    return Estimate(f"evolution, {pairs} pairs", point.split(slopes), 2 * pairs, seconds)


@public
def gradient_estimators(
    loss_fn: Loss, model: Any, *batch: Any, pairs: Sequence[int] = (16, 128), seed: int = 0
) -> Comparison:
    """Backpropagation, finite differences and evolution strategies on one loss, in float64.

    All evaluate the same compiled loss; the seconds are without compilation. `evaluations` of
    backpropagation is 1: one pass forward and one back. Finite differences are left out where they
    would take more than 20 000.

    Raises `ArgumentError` for a model without floating arrays.
    """
    point = _Point(loss_fn, model, batch)
    found = [point.backpropagated()]
    if 2 * point.size <= BOUND:
        found.append(finite_differences(loss_fn, model, *batch))
    found += [evolution_strategy(loss_fn, model, *batch, pairs=n, seed=seed) for n in pairs]
    return Comparison(tuple(found), point.size)


class _Point:
    """A loss around the parameters of a model, as a function of one flat vector."""

    def __init__(self, loss_fn: Loss, model: Any, batch: Sequence[Any]) -> None:
        require_parameters(model)
        self._leaves, self._structure = flatten(model)
        self._floating = [i for i, x in enumerate(self._leaves) if is_float(x.dtype)]
        self._start = _flat([_wide(self._leaves[i]) for i in self._floating])
        self._batch = tuple(_wide(x) if is_float(numbers_of(x).dtype) else x for x in batch)
        self.size = self._start.size

        def loss(floating: list[Array]) -> Any:
            leaves = list(self._leaves)
            for i, x in zip(self._floating, floating, strict=True):
                leaves[i] = x
            return loss_fn(self._structure.unflatten(leaves), *self._batch)

        self._loss = compile(loss)
        self._both = compile(value_and_grad(loss))
        self.at(np.zeros(self.size))  # compiles

    def at(self, away: Numbers) -> float:
        return float(self._loss(self._arrays(away)))

    def backpropagated(self) -> Estimate:
        here = self._arrays(np.zeros(self.size))
        self._both(here)  # compiles
        begin = time.perf_counter()
        _, grads = self._both(here)
        seconds = time.perf_counter() - begin
        return Estimate("backpropagation", tuple(_wide(g) for g in grads), 1, seconds)

    def split(self, flat: Numbers) -> tuple[Numbers, ...]:
        shapes = [self._leaves[i].shape for i in self._floating]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        return tuple(
            part.reshape(shape)
            for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)
        )

    def _arrays(self, away: Numbers) -> list[Array]:
        return [concrete(x) for x in self.split(self._start + away)]


def _wide(x: Any) -> Numbers:
    return numbers_of(x, float64)


def _flat(parts: Sequence[Numbers]) -> Numbers:
    return np.concatenate([x.ravel() for x in parts])
