"""What is recorded of a run, for the rules of published tools: plain numbers, no judgement."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.faults.program import Setup

from pullback.errors import PullbackError
from pullback.inspect.probe import Layer, Probe
from pullback.inspect.seen import Subject

LOOKS = 6
"""How often a run is looked at: each is an epoch to the tools that count in epochs."""


def look(setup: Setup, i: int, model: Any, batch: tuple[Any, ...]) -> dict[str, Any]:
    """Layers, activations, gradients of a model with a batch, before step i."""
    subject = Subject(model, setup.loss, batch, None, setup.network_state, setup.key, False, 1.0)
    try:
        probe = Probe(subject.loss, (model, *batch))
    except PullbackError as error:
        return {"step": i, "failed": error.what}
    inputs = [np.asarray(x) for x in batch[:1]]
    return {
        "step": i,
        "loss": probe.loss,
        "layers": [_layer(probe, x) for x in probe.layers],
        "bare": _bare(probe),
        "input": {
            "min": float(inputs[0].min()),
            "max": float(inputs[0].max()),
            "floating": inputs[0].dtype.kind == "f",
            "constant": float((inputs[0].std(0) == 0).mean()),
        },
        "last": _last(probe),
        "softmaxes": len({x.logits for x in probe.softmaxes()}),
        "classes": probe.classes,
    }


def _layer(probe: Probe, layer: Layer) -> dict[str, Any]:
    weight = probe.numbers(layer.weight).astype(np.float64)
    z = probe.numbers(layer.z).astype(np.float64)
    bar = probe.bar(layer.weight)
    slope = np.zeros_like(weight) if bar is None else bar.astype(np.float64)
    found: dict[str, Any] = {
        "name": layer.name,
        "weight_mean": weight.mean(),
        "weight_std": weight.std(),
        "weight_largest": np.abs(weight).max(),
        "grad_norm": np.linalg.norm(slope),
        "grad_mean": np.abs(slope).mean(),
        "grad_zero": (slope == 0).mean(),
        "z_mean": z.mean(),
        "z_std": z.std(),
        "z_min": z.min(),
        "z_max": z.max(),
        "finite": bool(np.isfinite(z).all() and np.isfinite(slope).all()),
    }
    found = {k: float(v) if isinstance(v, np.floating) else v for k, v in found.items()}
    for each in probe.activations:
        if each.layer is layer:
            out = probe.numbers(each.node.outputs[0])
            found["activation"] = each.node.op.name
            found["dead"] = float(each.dead)
            found["out_mean"] = float(out.astype(np.float64).mean())
            found["out_zero"] = float((out == 0).mean())
    return found


def _bare(probe: Probe) -> list[str]:
    """Layers that read the output of another layer as it is: no activation lies between."""
    made = {x.z for x in probe.layers}
    return [x.name for x in probe.layers if probe.strip(x.signal) in made]


def _last(probe: Probe) -> str:
    """The op that reads the output of the last layer."""
    if probe.output is None:
        return ""
    readers = [n.op.name for n in probe.readers.get(probe.output, [])]
    return readers[0] if readers else ""
