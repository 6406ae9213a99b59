"""The Jacobian of each layer at the batch: how it stretches what passes, forward and back.

Singular values by Golub & Kahan's bidiagonalisation (1965) from products with J and Jᵀ alone, the
mean square by Hutchinson's estimator (1990). J is that of the whole batch: block-diagonal where
samples do not mix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback._public import public
from pullback._settings import override
from pullback.compile.driver import uncompiled
from pullback.inspect.flow import distinct
from pullback.inspect.paths import require_parameters
from pullback.inspect.probe import Layer, Probe
from pullback.inspect.seeing.figures import Dots, Figure, Series
from pullback.inspect.seeing.views import View
from pullback.ir.array import Array, concrete
from pullback.ir.graph import Graph, depends_on, needed_nodes
from pullback.ir.types import Numbers, float64
from pullback.transforms.derivatives import linearize, vjp
from pullback.transforms.walk import inline

STEPS = 20
PROBES = 8
TINY = 1e-6
"""What float32 leaves of a vector that is 0."""

Product = Callable[[Numbers], Numbers]


@dataclass(frozen=True, slots=True)
class LayerJacobian:
    """Of the map from what a layer reads to what the next layer reads."""

    name: str
    largest: float
    """σ_max."""
    smallest: float
    """An estimate of σ_min, never below it; exact where the layer has at most `STEPS` inputs."""
    mean_square: float
    """‖J‖²/n, the mean of the squared singular values: by how much a random cotangent grows."""
    stable_rank: float
    """‖J‖² / σ_max²: how many directions carry the signal."""

    @property
    def rms(self) -> float:
        """√ mean square: 1 is the isometry (Pennington et al. 2017)."""
        return math.sqrt(self.mean_square)


@dataclass(frozen=True, repr=False)
class LayerJacobians(View):
    """The layers in forward order."""

    layers: tuple[LayerJacobian, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        rows = tuple(x.name for x in self.layers)
        series = (
            Series("least", "-", tuple(x.smallest for x in self.layers)),
            Series("rms", "o", tuple(x.rms for x in self.layers), joined=True),
            Series("most", "+", tuple(x.largest for x in self.layers)),
        )
        return (Dots("Jacobian of each layer", rows, series, "singular value", band=(0.5, 2.0)),)


@public
def layer_jacobians(
    loss_fn: Callable[..., Any], model: Any, *batch: Any, seed: int = 0
) -> LayerJacobians:
    """How each layer stretches: σ_max, σ_min, the mean squared singular value, the stable rank.

    A layer is the map from what its product reads to what that of the next layer reads, with
    activation, normalisation and skip; of the last one, and where the next does not follow on it,
    the product with its bias. `smallest` is an estimate from above. Each layer costs 28 products
    with its Jacobian. Layers inside a loop (`scan`) are not seen.

    >>> import numpy as np
    >>> import pullback as pb
    >>> q = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0]
    >>> def loss(w, x):
    ...     return pb.sum((x @ w) ** 2)
    >>> seen = layer_jacobians(loss, q, np.eye(8)).layers[0]
    >>> round(seen.largest, 6), round(seen.smallest, 6), round(seen.rms, 1)
    (1.0, 1.0, 1.0)
    """
    f = uncompiled(loss_fn)
    require_parameters(model)
    with override(check=0):
        probe = Probe(f, (model, *batch))
        rng = np.random.default_rng(seed)
        names = distinct([x.name for x in probe.layers])
        following = [*probe.layers[1:], None]
        return LayerJacobians(
            tuple(
                _seen(probe, name, layer, after, rng)
                for name, layer, after in zip(names, probe.layers, following, strict=True)
            )
        )


def _seen(
    probe: Probe, name: str, layer: Layer, after: Layer | None, rng: np.random.Generator
) -> LayerJacobian:
    forth, back, size, out = _products(probe, layer, after)
    if out < size:  # the null space of J is no singular value
        values = singular_values(back, forth, rng.standard_normal(out))
    else:
        values = singular_values(forth, back, rng.standard_normal(size))
    squares = [float(np.sum(forth(rng.choice([-1.0, 1.0], size)) ** 2)) for _ in range(PROBES)]
    square, largest = float(np.mean(squares)), float(values[0])
    rank = square / largest**2 if largest else 0.0
    return LayerJacobian(name, largest, float(values[-1]), square / size, rank)


def _products(probe: Probe, layer: Layer, after: Layer | None) -> tuple[Product, Product, int, int]:
    """J·v and Jᵀ·u of a layer at the numbers of the probe, and the sizes of v and u."""
    x, target = layer.signal, layer.z
    if after is not None and after.signal in depends_on(probe.nodes, [x]) and after.signal is not x:
        target = after.signal
    moved = depends_on(probe.nodes, [x])
    nodes = tuple(
        node
        for node in needed_nodes(probe.nodes, [target])
        if any(y in moved for y in node.outputs) and x not in set(node.outputs)
    )
    inner = {y for node in nodes for y in node.outputs}
    outside = dict.fromkeys(y for node in nodes for y in node.inputs if y not in inner)
    given = {y: concrete(probe.numbers(y)) for y in outside}
    graph = Graph(tuple(outside), nodes, (target,))

    def f(value: Array) -> Array:
        return inline(graph, [value if y is x else given[y] for y in outside])[0]

    at = given[x]
    _, push = linearize(f, at)
    out, pull = vjp(f, at)

    def forth(v: Numbers) -> Numbers:
        dot = push(concrete(v.reshape(at.shape).astype(at.dtype)))
        return np.asarray(dot.numpy().astype(float64)).ravel()

    def back(u: Numbers) -> Numbers:
        (bar,) = pull(concrete(u.reshape(out.shape).astype(out.dtype)))
        return np.asarray(bar.numpy().astype(float64)).ravel()

    return forth, back, at.size, out.size


def singular_values(forth: Product, back: Product, start: Numbers) -> Numbers:
    """Estimates of the singular values of J, largest first, from `STEPS` products with J and Jᵀ.

    Golub & Kahan's bidiagonalisation, each vector made orthogonal to all before it. The largest is
    near σ_max from below, the smallest above σ_min; with as many steps as inputs all are exact.
    """
    v = start / np.linalg.norm(start)
    rights: list[Numbers] = [v]
    lefts: list[Numbers] = []
    alphas: list[float] = []
    betas: list[float] = []
    for _ in range(min(STEPS, start.size)):
        u = _orthogonal(forth(rights[-1]), lefts)
        alpha = float(np.linalg.norm(u))
        alphas.append(alpha)
        if alpha <= TINY * alphas[0] or alpha == 0:
            break
        lefts.append(u / alpha)
        w = _orthogonal(back(lefts[-1]), rights)
        beta = float(np.linalg.norm(w))
        if beta <= TINY * alphas[0]:
            break
        betas.append(beta)
        rights.append(w / beta)
    count = len(alphas)
    bidiagonal = np.diag(alphas) + np.diag(betas[: count - 1], 1)
    return np.linalg.svd(bidiagonal, compute_uv=False)


def _orthogonal(x: Numbers, basis: list[Numbers]) -> Numbers:
    for _ in range(2):  # once more for what rounding left (Kahan, in Parlett 1980)
        for each in basis:
            x = x - each * float(each @ x)
    return x
