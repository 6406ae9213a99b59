"""Who carries the gradient: shares of the ways at each merge, the number of branches passed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback._public import public
from pullback._settings import override
from pullback.compile.driver import uncompiled
from pullback.errors import ArgumentError
from pullback.inspect.flow import Flow, Merge, distinct
from pullback.inspect.seeing.figures import Dots, Figure, HeatMap, Series, Shares
from pullback.inspect.seeing.views import View
from pullback.inspect.tape import Replay
from pullback.ir.array import Array, concrete
from pullback.ir.graph import Graph, Node
from pullback.ir.types import Numbers, float64, is_float
from pullback.ops.operators import zeros
from pullback.ops.pointwise import Add, Subtract
from pullback.transforms.graphs import TRANSFORMS
from pullback.transforms.reverse import Reverse
from pullback.transforms.tree import flatten_arrays


def played(loss_fn: Callable[..., Any], args: Sequence[Any], asking: str) -> Replay:
    """A loss of a model and a batch, evaluated and pulled back."""
    f = uncompiled(loss_fn)
    require_parameters(args[0])
    with override(check=0):
        replay = Replay(f, args, (0,))
    replay.require_loss("the function", asking, "reduce it with pb.mean or pb.sum")
    return replay


def require_parameters(model: Any) -> None:
    leaves, _ = flatten_arrays(model, "model")
    if not any(is_float(x.dtype) for x in leaves):
        raise ArgumentError(
            "the model has no parameters: no floating array is in it",
            hint="a model is a container of arrays: a pb.nn.Module, a dict, a list",
        )


# ---- shares ---------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class PathShares(View):
    """At each merge the share that each way has of the gradient, in forward order."""

    merges: tuple[Merge, ...]

    @property
    def residual(self) -> tuple[Merge, ...]:
        """The merges x + f(x)."""
        return tuple(x for x in self.merges if x.is_residual)

    @property
    def figures(self) -> tuple[Figure, ...]:
        rows = distinct([x.name for x in self.merges])
        parts = tuple(tuple((way.name, way.share) for way in x.ways) for x in self.merges)
        told = "<part, whole> / |whole|^2 of the gradient; a row adds up to 1"
        return (Shares("who carries the gradient", rows, parts, told),)


@public
def path_shares(loss_fn: Callable[..., Any], model: Any, *batch: Any) -> PathShares:
    """Which way carries the gradient where there are several: skip or branch, query, key or value.

    Wherever a value is read more than once its gradient is a sum. Reverse mode adds the parts up;
    here they are compared with the sum: ⟨part, whole⟩ / ‖whole‖². A branch that starts at 0 has
    share 0, the identity beside it 1. Merges without parameters on a way are left out, and what
    lies inside a loop (`scan`) is not seen.

    Raises `ShapeError` where the loss is not one scalar, `ArgumentError` without parameters.

    >>> import pullback as pb
    >>> def loss(w, x):
    ...     return pb.sum((x + pb.tanh(x @ w)) ** 2)
    >>> seen = path_shares(loss, pb.zeros((3, 3)), pb.ones((2, 3)))
    >>> seen.merges
    ()
    >>> def deeper(w, x):
    ...     x = x @ w[0]
    ...     return pb.sum((x + pb.tanh(x @ w[1])) ** 2)
    >>> seen = path_shares(deeper, [pb.eye(3), pb.zeros((3, 3))], pb.ones((2, 3)))
    >>> [(way.name, way.share) for way in seen.merges[0].ways]
    [('identity', 1.0), ('[1]', 0.0)]
    """
    return PathShares(tuple(Flow(played(loss_fn, (model, *batch), "path_shares")).merges))


# ---- number of branches ---------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class PathLengths(View):
    """The gradient where the residual stream begins, by the number of branches it came through."""

    names: tuple[str, ...]
    """The residual blocks in forward order."""
    parts: tuple[Numbers, ...]
    """`parts[k]` came through exactly k branches; they add up to `gradient`."""
    gradient: Numbers

    @property
    def shares(self) -> tuple[float, ...]:
        """⟨part, gradient⟩ / ‖gradient‖²: they add up to 1."""
        square = float(np.vdot(self.gradient, self.gradient))
        return tuple(float(np.vdot(x, self.gradient)) / square for x in self.parts)

    @property
    def norms(self) -> tuple[float, ...]:
        return tuple(float(np.linalg.norm(x)) for x in self.parts)

    @property
    def mean(self) -> float:
        """The mean number of branches, weighted with the norms."""
        return float(np.average(range(len(self.parts)), weights=self.norms))

    @property
    def figures(self) -> tuple[Figure, ...]:
        rows = tuple(f"{k} branches" for k in range(len(self.parts)))
        series = (Series("norm", "o", self.norms, joined=True),)
        title = f"the gradient by path length, {len(self.names)} residual blocks"
        return (Dots(title, rows, series, "norm of the part that came through so many"),)


@public
def gradient_by_length(
    loss_fn: Callable[..., Any], model: Any, *batch: Any, longest: int | None = None
) -> PathLengths:
    """The gradient at the first residual block, by how many branches f of x + f(x) it came through.

    Exact: the cotangent is a polynomial in t, a branch multiplies by t, and the coefficient of t^k
    is the gradient through k branches. (Veit et al. 2016 sampled such paths: in a ResNet of 110
    layers most of the gradient comes through 10 to 34.) It costs a backward pass for each k;
    `longest` leaves out those beyond.

    Raises `ArgumentError` where the loss has no residual block, and as `path_shares`.
    """
    replay = played(loss_fn, (model, *batch), "gradient_by_length")
    blocks = [x for x in Flow(replay).merges if x.is_residual]
    if not blocks:
        raise ArgumentError(
            "the loss has no residual block, x + f(x) with parameters in f",
            hint="pb.inspect.path_shares shows what merges it has",
        )
    count = len(blocks) if longest is None else min(longest, len(blocks))
    walk = _ByLength(replay)
    parts = walk.parts({x.meets: x.value for x in blocks if x.meets}, blocks[0].value, count)
    total = replay.totals[blocks[0].value].numpy().astype(float64)
    return PathLengths(distinct([x.name for x in blocks]), tuple(parts), total)


class _ByLength(Reverse):
    """Reverse mode with a cotangent for each number of branches."""

    def __init__(self, replay: Replay) -> None:
        graph = replay.reverse.graph
        numbers = [concrete(replay.numbers(x)) for x in graph.inputs]
        floating = [i for i, x in enumerate(graph.inputs) if is_float(x.dtype)]
        super().__init__(graph, numbers, floating, TRANSFORMS)

    def parts(self, skips: dict[Node, Array], at: Array, longest: int) -> list[Numbers]:
        """The cotangent of `at` by the number of branches, 0 to `longest`."""
        loss = self.graph.outputs[0]
        total: dict[Array, dict[int, Array]] = {loss: {0: zeros(loss.type) + 1}}
        for node in reversed(self.graph.nodes):
            if any(y is at for y in node.outputs):
                break
            received = [total.pop(y, {}) for y in node.outputs]
            for k in sorted({k for each in received for k in each}):
                bars = tuple(each.get(k) for each in received)
                for x, bar in self._cotangents(node, bars):
                    through = k + (node in skips and x is not skips[node])
                    if through <= longest:
                        parts = total.setdefault(x, {})
                        parts[through] = parts[through] + bar if through in parts else bar
        found = total.get(at, {})
        none = np.zeros(at.shape)
        return [
            found[k].numpy().astype(float64) if k in found else none for k in range(longest + 1)
        ]


# ---- terms of a loss ------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class TermCosines(View):
    """The terms of a loss: how large their gradients are, and whether they pull together."""

    names: tuple[str, ...]
    norms: tuple[float, ...]
    cosines: Numbers

    @property
    def figures(self) -> tuple[Figure, ...]:
        rows = tuple(f"{i} {n}" for i, n in enumerate(self.names))
        columns = tuple(map(str, range(len(rows))))
        return (
            Dots("terms of the loss", rows, (Series("norm", "o", self.norms),), "norm of gradient"),
            HeatMap(
                "cosines between their gradients",
                rows,
                columns,
                self.cosines,
                "cosine, -1 against each other",
                ("term", "term"),
                log=False,
            ),
        )


@public
def term_cosines(loss_fn: Callable[..., Any], model: Any, *batch: Any) -> TermCosines:
    """The gradients of the terms that a loss adds up: their norms, the cosines between them.

    A cosine below 0 says that two terms work against each other. A loss that is no sum has one
    term. Raises as `path_shares`.

    >>> import pullback as pb
    >>> seen = term_cosines(lambda w: pb.sum(w) - 3 * pb.sum(w), pb.ones(4))
    >>> seen.cosines.tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    replay = played(loss_fn, (model, *batch), "term_cosines")
    graph = replay.reverse.graph
    makers = {y: node for node in graph.nodes for y in node.outputs}
    terms = list(_terms(graph.outputs[0], makers, 1.0))
    place = {x: i for i, x in enumerate(graph.inputs)}
    wrt = [place[x] for x in replay.parameters]
    numbers = [concrete(replay.numbers(x)) for x in graph.inputs]
    gradients = []
    for term, sign in terms:
        alone = Graph(graph.inputs, graph.nodes, (term,))
        bars = Reverse(alone, numbers, wrt, TRANSFORMS).pull([zeros(term.type) + sign])
        flat = [
            np.zeros(x.size) if bar is None else bar.numpy().ravel().astype(float64)
            for x, bar in zip(replay.parameters, bars, strict=True)
        ]
        gradients.append(np.concatenate(flat))
    norms = [float(np.linalg.norm(g)) for g in gradients]
    rows = [g / n if n else g for g, n in zip(gradients, norms, strict=True)]
    cosines = np.array([[float(np.clip(a @ b, -1, 1)) for b in rows] for a in rows])
    return TermCosines(tuple(_told(x, makers) for x, _ in terms), tuple(norms), _exact(cosines))


def _exact(cosines: Numbers) -> Numbers:
    """Without the rounding of ±1."""
    near = np.isclose(np.abs(cosines), 1, rtol=0, atol=1e-12)
    found: Numbers = np.where(near, np.sign(cosines), cosines)
    return found


def _terms(x: Array, makers: dict[Array, Node], sign: float) -> Iterable[tuple[Array, float]]:
    node = makers.get(x)
    match None if node is None else node.op:
        case Add():
            for each in node.inputs:  # type: ignore[union-attr]
                yield from _terms(each, makers, sign)
        case Subtract():
            left, right = node.inputs  # type: ignore[union-attr]
            yield from _terms(left, makers, sign)
            yield from _terms(right, makers, -sign)
        case _:
            yield x, sign


def _told(x: Array, makers: dict[Array, Node]) -> str:
    node = makers.get(x)
    frame = None if node is None else node.site.frame
    if frame is None:
        return "a constant"
    return frame.expression or f"line {frame.line}"
