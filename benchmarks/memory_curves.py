"""The figures of docs/memory.md, of the planner's own numbers; nothing is run.

PYTHONPATH=src python benchmarks/memory_curves.py [reversal] [models] [arena] [large]
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pullback as pb
from pullback import nn
from pullback.cli.sources import Decoder
from pullback.ir.types import TensorType
from pullback.schedule.planner.published import unit_chain
from pullback.train.plan_plots import reversals, time_memory
from pullback.train.planning import state_types
from pullback.transforms.tree import map_leaves

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
POINTS = 6
LENGTHS = range(1, 1001)


def draw_reversals() -> None:
    """The fewest slots for a third more time, and for twice the time, of 1 … 1000 equal layers."""
    slots = 80
    chain = unit_chain(max(LENGTHS), slots)

    def fewest(length: int, share: float, begin: int) -> int:
        """From the fewest of a chain that is shorter by one, which needs no more."""
        limit = 3 * length * (1 + share) + 1e-9
        return next(c for c in range(begin, slots + 1) if chain.cost(c, length) <= limit)

    curves: dict[str, Sequence[float]] = {}
    for name, share in (("a third more time", 1 / 3), ("twice the time", 1.0)):
        found: list[int] = []
        for length in LENGTHS:
            found.append(fewest(length, share, found[-1] if found else 1))
        curves[name] = found
        told = ", ".join(f"{n}: {found[n - 1]}" for n in (10, 100, 1000))
        print(f"{name}: {told}")
    curves["2√L (Chen et al. 2016)"] = [2 * n**0.5 for n in LENGTHS]
    curves["log₂ L + 3"] = [math.log2(n) + 3 for n in LENGTHS]
    keep("reversals", reversals(LENGTHS, curves).svg())


def draw_models() -> None:
    """The time that less memory costs, of whole training steps with Adam."""
    curves, resident = {}, {}
    for name, subject in (("MLP", mlp), ("CNN", cnn), ("GPT", gpt), ("LSTM", lstm)):
        plan = plan_of(*subject())
        least, most = plan.least_bytes, plan.planner.full.peak_bytes
        curves[name] = plan.sweep([least + (most - least) * k // POINTS for k in range(POINTS + 1)])
        resident[name] = plan.resident_bytes
        print(f"\n{name}, {len(plan.schedule)} kernels; resident {resident[name]:,} bytes")
        for each in curves[name]:
            share = (each.peak_bytes - resident[name]) / plan.arena_bytes
            print(f"{share:7.1%}{each}")
    keep("time_memory", time_memory(curves, resident).svg())


def draw_arena() -> None:
    keep("arena", plan_of(*cnn()).picture())


def tell_large() -> None:
    """What budgets make of the activations of 7 billion parameters: gradients alone, all bf16."""
    sized = Decoder(layers=32, width=4096, heads=32, length=2048, vocabulary=32000, batch=1)

    def half() -> object:
        return map_leaves(lambda x: pb.astype(x, pb.bfloat16), sized.parameters(None))

    def gradients(model, x, y):
        return pb.grad(sized.loss)(model, x, y)

    tokens = TensorType((1, sized.length), pb.int64)
    plan = pb.compile(gradients, threads=2).lower(pb.types_of(half), tokens, tokens).plan
    print(f"resident {plan.resident_bytes:,} bytes, arena {plan.arena_bytes:,}")
    for share in (0.5, 0.25):
        room = plan.resident_bytes + int(share * plan.arena_bytes)
        held = plan.planner.fit(room)
        print(f"{share:.0%}: arena {held.arena_bytes:,} bytes, {held.slowdown:.2%} more time")


# ---- the steps ------------------------------------------------------------------------------


def plan_of(model, loss, *batch):
    optimizer = pb.optim.adam(1e-3)
    step = pb.train.train_step(loss, optimizer, threads=2)
    return step.lower(state_types(pb.types_of(model), optimizer), *batch).plan


def keys(count: int) -> list:
    return [pb.random.fold_in(pb.random.key(0), i) for i in range(count)]


def floats(*shape: int) -> TensorType:
    return TensorType(shape, pb.float32)


def mlp():
    """16 layers of 256, batch 2048."""

    def model():
        return nn.Sequential(*[x for k in keys(16) for x in (nn.Linear(256, 256, key=k), nn.relu)])

    return model, lambda net, x, y: nn.mse(net(x), y), floats(2048, 256), floats(2048, 256)


def cnn():
    """8 convolutions of 32 channels over 32 × 32, batch 16."""

    def model():
        made = [nn.Conv2d(32, 32, 3, padding=1, key=k) for k in keys(8)]
        return nn.Sequential(*[x for each in made for x in (each, nn.relu)])

    images = floats(16, 32, 32, 32)
    return model, lambda net, x, y: nn.mse(net(x), y), images, images


def gpt():
    """4 layers of 192, context 128, batch 8: that of the benchmark."""
    sized = Decoder()
    tokens = TensorType((sized.batch, sized.length), pb.int64)
    return lambda: sized.parameters(None), sized.loss, tokens, tokens


def lstm():
    """128 units, 8 steps written out, batch 512."""

    def model():
        return nn.Linear(64 + 128, 4 * 128, key=pb.random.key(0))

    def loss(gates, x, y):
        h = c = pb.zeros((x.shape[1], 128))
        for t in range(x.shape[0]):
            both = gates(pb.concat([x[t], h], axis=1))
            i, f, g, o = (both[:, 128 * k : 128 * (k + 1)] for k in range(4))
            c = pb.sigmoid(f) * c + pb.sigmoid(i) * pb.tanh(g)
            h = pb.sigmoid(o) * pb.tanh(c)
        return nn.mse(h, y)

    return model, loss, floats(8, 512, 64), floats(512, 128)


def keep(name: str, text: str) -> None:
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{name}.svg").write_text(text, encoding="utf-8")
    print(f"{FIGURES / name}.svg: {len(text):,} bytes")


if __name__ == "__main__":
    drawn = {"reversal": draw_reversals, "models": draw_models, "arena": draw_arena}
    for each in sys.argv[1:] or drawn:
        {**drawn, "large": tell_large}[each]()
