"""Facts of the first step that are not about one line: `DAT06`, `LOOP04`, `SIG09`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from pullback.inspect.case import Case
from pullback.inspect.findings import Finding, Severity, Threshold
from pullback.inspect.handmade import standing_draw
from pullback.inspect.mixing import LEAKED, carried
from pullback.inspect.probe import Layer, Probe
from pullback.inspect.rules.cuts import said
from pullback.inspect.rules.start import Check
from pullback.inspect.seen import Seen
from pullback.ir.array import Array
from pullback.ir.families import Linear, Multilinear
from pullback.ir.graph import Graph, Node, depends_on
from pullback.ir.types import Numbers, float64, is_float, is_integer
from pullback.ops.pointwise import Add, Divide, Multiply, Negative, Subtract
from pullback.ops.sampling import RandomBits
from pullback.transforms.tree import flatten


class DAT06(Check):
    """The target is among the inputs: what is learnt is to copy it, and in use it is not there.

    Of a table: a column is a function of the target (of classes: constant within each; of numbers:
    an affine one). Of sequences whose targets are the inputs one place later: the output at a place
    depends on the next input, which is its target; the mask of attention lets the future through.
    A network that has its inputs as targets (an autoencoder) is left in peace.
    """

    id = "DAT06"
    title = "the target is among the inputs"
    severity = Severity.FAIL
    fix = "take the column out; causal=True, or a mask whose row t ends at column t"
    intended = "intended=('DAT06',)"
    source = "Kaufman et al. 2012 (leakage in data mining); the shift is compared place by place"
    moved = Threshold(LEAKED, "relative change of the output above", "torchtest2")
    alike = Threshold(1e-6, "1 - |correlation| of a column and the target below", "own")
    samples = Threshold(16, "samples, at least", "own")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        probe = seen.probe
        graph = probe.network
        if graph is None or probe.batch < cls.samples:
            return
        for x in probe.inputs_of(graph):
            for y in probe.integers_beside():
                if y.shape[:1] == (probe.batch,):
                    yield from cls._between(seen, graph, x, y)

    @classmethod
    def _between(cls, seen: Seen, graph: Graph, x: Array, y: Array) -> Iterator[Finding]:
        probe, names = seen.probe, seen.probe.replay.names
        inputs, targets = probe.numbers(x), probe.numbers(y)
        if is_float(x.dtype) and x.ndim == 2 and x.shape[1] > 2 and y.size == probe.batch:
            columns = _columns(inputs.astype(float64), targets.ravel())
            if columns:
                yield cls.found(
                    f"column {columns[0]} of {names[x]} is the target {names[y]}",
                    None,
                    why=f"{len(columns)} of {x.shape[1]} columns are functions of the target",
                    numbers={"columns": columns},
                )
        elif _is_shifted(inputs, targets):
            node = _seen_too_early(probe, graph, x, inputs)
            if node is not None:
                yield cls.found(
                    "the output at a place depends on the next input, which is its target",
                    node.site,
                    why=f"{names[y]} is {names[x]} one place later; the last place was changed, "
                    "and outputs before it moved",
                )


def _columns(x: Numbers, y: Numbers) -> list[int]:
    """Columns of x that are functions of y."""
    if is_integer(y.dtype):
        kinds, counts = np.unique(y, return_counts=True)
        groups = [x[y == kind] for kind in kinds[counts >= 4]]
        if len(groups) < 2:
            return []
        means = np.stack([g.mean(axis=0) for g in groups])
        within = np.max([np.ptp(x[y == kind], axis=0) for kind in kinds], axis=0)
        apart = np.ptp(means, axis=0)
        return [int(j) for j in np.flatnonzero((apart > 0) & (within <= DAT06.alike * apart))]
    centred, t = x - x.mean(axis=0), y - y.mean()
    sizes = np.linalg.norm(centred, axis=0) * np.linalg.norm(t)
    with np.errstate(all="ignore"):
        alike = np.abs(t @ centred) / sizes
    return [int(j) for j in np.flatnonzero(alike > 1 - DAT06.alike)]


def _is_shifted(x: Numbers, y: Numbers) -> bool:
    """Whether the targets are the inputs one place later."""
    fits = x.ndim == 2 and x.shape == y.shape and x.shape[1] > 2 and is_integer(x.dtype)
    return fits and np.array_equal(x[:, 1:], y[:, :-1]) and not np.array_equal(x, y)


def _seen_too_early(probe: Probe, graph: Graph, x: Array, numbers: Numbers) -> Node | None:
    """The first node by which the last place moves earlier ones, if the output moves there."""
    assert probe.output is not None
    length = x.shape[1]
    if probe.output.shape[:2] != x.shape:
        return None
    other = numbers.copy()
    other[:, -1] = np.roll(other[:, -1], 1)
    changed = carried(probe, graph, {x: other})
    if not _moved_before(probe, probe.output, changed, length, probe.bar(probe.output)):
        return None
    return next(
        (n for n in graph.nodes if _moved_before(probe, n.outputs[0], changed, length)), None
    )


def _moved_before(
    probe: Probe,
    y: Array,
    changed: dict[Array, Numbers],
    length: int,
    bar: Numbers | None = None,
) -> bool:
    """Whether places before the last one moved, along every axis of places; of those with a
    cotangent, where that is given: the loss may leave some out."""
    if y not in changed or length not in y.shape[1:]:
        return False
    cut = tuple(slice(0, -1) if i and n == length else slice(None) for i, n in enumerate(y.shape))
    before, after = [z[cut].astype(float64) for z in (probe.numbers(y), changed[y])]
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return False
    apart = np.abs(after - before)
    if bar is not None:
        read = bar[cut].any(axis=-1, keepdims=True)
        apart = np.where(read, apart, 0.0)
    return bool(apart.max() > DAT06.moved * (np.abs(before).max() + 1e-30))


class LOOP04(Check):
    """The loss draws the same random numbers in every step: its key is a constant.

    Dropout then takes the same units away for ever, and noise is a fixed offset. A parameter named
    `key` of the loss is given another key in each step by `train_step`. A loop of your own hands a
    new key on from step to step: where the doctor is told what it does with a batch (`made`), it
    looks for draws whose key neither the batch nor anything that the loop has changed says.
    """

    id = "LOOP04"
    title = "the same random numbers in every step"
    severity = Severity.WARN
    fix = "def loss(model, x, y, key): ..., and TrainState.create(..., key=pb.random.key(seed))"
    intended = "a comment on the line: # intended: LOOP04 fixed noise"
    source = "a classic of explicit keys; the graph says it"
    batches = Threshold(3, "batches with the same key, at least", "own")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        probe = seen.probe
        if seen.subject.key is not None:
            return
        for node in probe.nodes:
            if isinstance(node.op, RandomBits) and node.inputs[0] not in probe.fed:
                yield cls.found(
                    "the key of this draw is a constant: each step draws the same numbers",
                    node.site,
                    why="no argument of the loss changes it",
                )
                return

    @classmethod
    def running(cls, case: Case) -> Iterator[Finding]:
        """In a run: a key that is part of each batch, and the same in the first ones."""
        if case.job is None or len(case.batches) < int(cls.batches):
            return
        columns = zip(*[flatten(x)[0] for x in case.batches], strict=False)
        alike = [_is_key(x[0]) and all(np.array_equal(y, x[0]) for y in x) for x in columns]
        if not any(alike):
            return
        probe = case.first.probe
        given = [x for x in probe.replay.graph.inputs if x in probe.replay.data]
        moving = [x for x, same in zip(given, alike, strict=False) if not same]
        fed = depends_on(probe.nodes, [*probe.replay.parameters, *moving])
        for node in probe.nodes:
            if isinstance(node.op, RandomBits) and node.inputs[0] in probe.fed - fed:
                yield cls.found(
                    "the key of each batch is the same: each step draws the same numbers",
                    node.site,
                    why=f"equal, bit for bit, in the first {len(case.batches)} batches",
                    fix="key, now = pb.random.split(key) in each step, and now handed to the loss",
                )
                return

    @classmethod
    def standing(cls, case: Case) -> Iterator[Finding]:
        """In a loop by hand: draws of a step whose key comes from what the loop never changes."""
        found = None
        if case.made is not None and case.around is not None and case.around.draws:
            with contextlib.suppress(Exception):  # user's code, and other numbers in it
                found = standing_draw(case.made, case.around, case.batches[0])
        if found is not None:
            key, drawn = found
            yield cls.found(
                "the key of this step is a constant: each step draws the same numbers",
                key,
                why="neither the batch nor the state changes it; traced twice it is the same",
                fix="key, now = pb.random.split(key) in each step, and the new key handed on",
                notes=() if drawn == key else (said("drawn", drawn),),
            )


def _is_key(x: Any) -> bool:
    return str(getattr(x, "dtype", "")) == "uint32" and x.shape[-1:] == (2,)


class SIG09(Check):
    """Layers, one after the other, without an activation: together they are one affine layer.

    Reported is a network whose output is an affine function of its inputs although it has two
    layers or more. A layer in between that is narrower than both ends is a factorisation (PCA, low
    rank), and fine.
    """

    id = "SIG09"
    title = "layers without an activation between"
    severity = Severity.WARN
    fix = "an activation behind each hidden layer: pb.nn.relu, pb.nn.gelu, pb.tanh"
    intended = "a comment on the line: # intended: SIG09 a linear network"
    source = "NeuraLint, UMLAUT"

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        probe, graph = seen.probe, seen.probe.network
        if graph is None or not all(is_float(x.dtype) for x in probe.inputs_of(graph)):
            return
        nodes = set(graph.nodes)
        layers = [x for x in probe.layers if x.node in nodes]
        if len(layers) < 2 or not all(_is_affine(probe, n) for n in graph.nodes):
            return
        if _is_factorised(layers):
            return
        behind = layers[1]
        yield cls.found(
            f"{len(layers)} layers are one affine layer: no activation between {layers[0].name} "
            f"and {behind.name}",
            behind.node.site,
            why="an affine map of an affine map is affine: no depth is gained",
            numbers={"layer": layers[0].name, "layers": len(layers)},
        )


def _is_affine(probe: Probe, node: Node) -> bool:
    """Whether the outputs are affine functions of the operands that depend on the data."""
    fed = [i for i, x in enumerate(node.inputs) if x in probe.fed]
    if not fed or isinstance(node.op, Linear | Add | Subtract | Negative):
        return True
    if isinstance(node.op, Multilinear | Multiply):
        return len(fed) == 1
    return isinstance(node.op, Divide) and fed == [0]


def _is_factorised(layers: list[Layer]) -> bool:
    ends = min(layers[0].fan_in, layers[-1].width)
    return any(x.width < ends for x in layers[:-1])
