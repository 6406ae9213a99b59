"""Whole training steps as workloads: loss, gradients and Adam, each node of the graph a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pullback as pb
from pullback.functions.activations import gelu
from pullback.functions.attention import attention
from pullback.functions.convolution import conv2d
from pullback.functions.losses import cross_entropy
from pullback.functions.normalization import layer_norm
from pullback.functions.pooling import max_pool
from pullback.ir.array import Array
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph, needed_nodes
from pullback.ir.types import TensorType, float32, int64
from pullback.ops.layout import Reshape
from pullback.schedule.memory import Step, Value, Workload

Shapes = dict[str, tuple[int, ...]]
Loss = Callable[[dict[str, Array], Array, Array], Array]


@dataclass(frozen=True)
class Model:
    """`loss(parameters, x, y)`, and the types to trace it with."""

    loss: Loss
    parameters: Shapes
    x: TensorType
    y: TensorType

    def graph(self) -> Graph:
        """(parameters, two moments of each, x, y) → (loss, new parameters, new moments)."""
        kinds = {name: TensorType(shape, float32) for name, shape in self.parameters.items()}
        graph = pb.trace(_adam(self.loss), kinds, kinds, kinds, self.x, self.y)
        return Graph(graph.inputs, needed_nodes(graph.nodes, graph.outputs), graph.outputs)

    def workload(self) -> Workload:
        """With the parameters and moments donated."""
        return workload(self.graph(), donated=3 * len(self.parameters), skipped=1)


def workload(graph: Graph, donated: int = 0, skipped: int = 0) -> Workload:
    """Each node a step; reshapes are views; pointwise ops may write over an input of their type.

    The outputs after the first `skipped` take over the first `donated` inputs, in order.
    """
    ids: dict[Array, int] = {}
    values: list[Value] = []
    donor_of = dict(zip(graph.outputs[skipped:], range(donated), strict=False))
    outputs, steps = set(graph.outputs), []
    for x in graph.inputs:
        ids[x] = len(values)
        values.append(Value(f"input {len(values)}", _bytes(x), resident=True))
    for k, node in enumerate(graph.nodes):
        base = ids[node.inputs[0]] if isinstance(node.op, Reshape) else None
        for x in node.outputs:
            ids[x] = len(values)
            kept, donor = x in outputs, donor_of.get(x)
            donor = None if base is not None else donor
            label = f"{node.op.name}.{k}"
            values.append(Value(label, _bytes(x), False, kept, base, donor, node.site))
        reads = tuple(ids[x] for x in node.inputs)
        writes = tuple(ids[x] for x in node.outputs)
        over = tuple(
            (ids[node.outputs[0]], ids[x])
            for x in dict.fromkeys(node.inputs)
            if isinstance(node.op, Elementwise) and x.type == node.outputs[0].type
        )
        flops = node.op.flops([x.type for x in node.inputs], [x.type for x in node.outputs])
        moved = sum(map(_bytes, (*node.inputs, *node.outputs)))
        cost = 0 if base is not None else max(flops // 200, moved // 20) + 100
        steps.append(Step(f"{node.op.name}.{k}", reads, writes, 0, over, cost))
    return Workload(tuple(values), tuple(steps))


def fused(given: Workload) -> Workload:
    """Pointwise steps joined to the only reader of their result, as a scheduler would."""
    readers: dict[int, int] = {}
    for step in given.steps:
        for i in step.reads:
            readers[i] = readers.get(i, 0) + 1
    inside: dict[int, Step] = {}
    steps = []
    for step in given.steps:
        parts = [inside.pop(i) for i in step.reads if i in inside]
        gone = {i for part in parts for i in part.writes}
        reads = [i for part in parts for i in part.reads] + [i for i in step.reads if i not in gone]
        (out,) = step.writes if len(step.writes) == 1 else (-1,)
        over = [i for part in (*parts, step) for _, i in part.in_place if step.in_place]
        over = [i for i in dict.fromkeys(over) if i not in gone]
        safe = [i for i in over if given.values[i].bytes == given.values[out].bytes]
        joined = Step(
            step.label,
            tuple(dict.fromkeys(reads)),
            step.writes,
            step.scratch,
            tuple((out, i) for i in safe),
            step.cost + sum(part.cost for part in parts),
        )
        single = out >= 0 and readers.get(out) == 1 and not given.values[out].kept
        viewed = out >= 0 and given.values[out].view_of is not None
        based = any(v.view_of == out for v in given.values)
        if single and step.in_place and not viewed and not based:
            inside[out] = joined
        else:
            steps.append(joined)
    return Workload(given.values, tuple(steps))


def _bytes(x: Array) -> int:
    return int(x.size * x.dtype.itemsize)


def _adam(loss: Loss) -> Callable[..., Any]:
    def step(p: Any, m: Any, v: Any, x: Array, y: Array) -> Any:
        value, g = pb.value_and_grad(loss)(p, x, y)
        m = {k: 0.9 * m[k] + 0.1 * g[k] for k in p}
        v = {k: 0.999 * v[k] + 0.001 * g[k] * g[k] for k in p}
        p = {k: p[k] - 0.001 * m[k] / (pb.sqrt(v[k]) + 1e-8) for k in p}
        return value, p, m, v

    return step


# ---- models ---------------------------------------------------------------------------------


def mlp(depth: int = 3, width: int = 512, batch: int = 128) -> Model:
    sizes = [784, *[width] * (depth - 1), 10]
    shapes: Shapes = {}
    for k in range(depth):
        shapes |= {f"w{k}": (sizes[k], sizes[k + 1]), f"b{k}": (sizes[k + 1],)}

    def loss(p: dict[str, Array], x: Array, y: Array) -> Array:
        for k in range(depth):
            x = x @ p[f"w{k}"] + p[f"b{k}"]
            x = pb.relu(x) if k + 1 < depth else x
        return cross_entropy(x, y)

    return Model(loss, shapes, TensorType((batch, 784), float32), TensorType((batch,), int64))


def cnn(batch: int = 64) -> Model:
    shapes: Shapes = {
        "k1": (32, 3, 3, 3),
        "k2": (32, 32, 3, 3),
        "k3": (64, 32, 3, 3),
        "k4": (64, 64, 3, 3),
        "w1": (4096, 256),
        "w2": (256, 10),
    }

    def loss(p: dict[str, Array], x: Array, y: Array) -> Array:
        x = pb.relu(conv2d(x, p["k1"], padding=1))
        x = max_pool(pb.relu(conv2d(x, p["k2"], padding=1)), 2)
        x = pb.relu(conv2d(x, p["k3"], padding=1))
        x = max_pool(pb.relu(conv2d(x, p["k4"], padding=1)), 2)
        x = pb.relu(pb.reshape(x, (batch, 4096)) @ p["w1"])
        return cross_entropy(x @ p["w2"], y)

    kind = TensorType((batch, 3, 32, 32), float32)
    return Model(loss, shapes, kind, TensorType((batch,), int64))


def resnet(blocks: int = 9, batch: int = 32) -> Model:
    widths = [16 * 2 ** (3 * k // blocks) for k in range(blocks)]
    shapes: Shapes = {"stem": (16, 3, 3, 3), "head": (widths[-1], 10)}
    for k, width in enumerate(widths):
        before = widths[max(k - 1, 0)]
        shapes |= {f"{k}a": (width, before, 3, 3), f"{k}b": (width, width, 3, 3)}
        if width != before:
            shapes[f"{k}s"] = (width, before, 1, 1)

    def norm(x: Array) -> Array:
        return layer_norm(x, axis=(0, 2, 3))

    def loss(p: dict[str, Array], x: Array, y: Array) -> Array:
        x = pb.relu(norm(conv2d(x, p["stem"], padding=1)))
        for k in range(blocks):
            stride = 2 if f"{k}s" in p else 1
            h = pb.relu(norm(conv2d(x, p[f"{k}a"], stride=stride, padding=1)))
            h = norm(conv2d(h, p[f"{k}b"], padding=1))
            x = pb.relu(h + (conv2d(x, p[f"{k}s"], stride=2) if stride == 2 else x))
        return cross_entropy(pb.mean(x, axis=(2, 3)) @ p["head"], y)

    kind = TensorType((batch, 3, 32, 32), float32)
    return Model(loss, shapes, kind, TensorType((batch,), int64))


def gpt(
    layers: int = 4, width: int = 192, heads: int = 6, length: int = 128, batch: int = 8
) -> Model:
    shapes: Shapes = {"embed": (96, width), "place": (length, width), "head": (width, 96)}
    for k in range(layers):
        shapes |= {f"{k}{name}": (width, width) for name in "qkvo"}
        shapes |= {f"{k}up": (width, 4 * width), f"{k}down": (4 * width, width)}
        shapes |= {f"{k}g1": (width,), f"{k}g2": (width,)}

    def split(h: Array) -> Array:
        return pb.permute_dims(pb.reshape(h, (batch, length, heads, -1)), (0, 2, 1, 3))

    def loss(p: dict[str, Array], x: Array, y: Array) -> Array:
        h = pb.take(p["embed"], x, axis=0) + p["place"]
        for k in range(layers):
            n = layer_norm(h, p[f"{k}g1"])
            q, key, v = (split(n @ p[f"{k}{name}"]) for name in "qkv")
            mixed = pb.permute_dims(attention(q, key, v, causal=True), (0, 2, 1, 3))
            h = h + pb.reshape(mixed, (batch, length, width)) @ p[f"{k}o"]
            h = h + gelu(layer_norm(h, p[f"{k}g2"]) @ p[f"{k}up"]) @ p[f"{k}down"]
        return cross_entropy(h @ p["head"], y)

    kind = TensorType((batch, length), int64)
    return Model(loss, shapes, kind, kind)


def lstm(length: int = 64, hidden: int = 256, batch: int = 32) -> Model:
    shapes: Shapes = {"wx": (64, 4 * hidden), "wh": (hidden, 4 * hidden), "head": (hidden, 10)}

    def loss(p: dict[str, Array], x: Array, y: Array) -> Array:
        h = c = pb.zeros((batch, hidden))
        for t in range(length):
            gates = x[:, t] @ p["wx"] + h @ p["wh"]
            i, f, g, o = (gates[:, k * hidden : (k + 1) * hidden] for k in range(4))
            c = pb.sigmoid(f) * c + pb.sigmoid(i) * pb.tanh(g)
            h = pb.sigmoid(o) * pb.tanh(c)
        return cross_entropy(h @ p["head"], y)

    kind = TensorType((batch, length, 64), float32)
    return Model(loss, shapes, kind, TensorType((batch,), int64))
