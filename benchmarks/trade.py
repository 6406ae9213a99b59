"""What memory costs in time: each block checkpointed by hand, and the planner with as many bytes.

    python -m benchmarks.trade                  # twelve blocks; planned, not run

The gradients of a GPT of `pullback.nn`; times are those of the cost model. Memory is what lies
between arguments and results.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

import pullback as pb
from pullback import nn

VOCABULARY = 96


class Gpt(nn.Module):
    embedding: nn.Embedding
    blocks: tuple[nn.TransformerBlock, ...]
    norm: nn.LayerNorm
    head: nn.Linear

    def __call__(self, tokens, wrap):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = wrap(block.__call__)(x)
        return self.head(self.norm(x))


@dataclass(frozen=True)
class Point:
    """Bytes between arguments and results, and nanoseconds, of a plan."""

    arena: int
    peak: int
    cost: int


class Trade:
    """Plans of one network: free, by hand, and within a budget."""

    def __init__(self, layers, width=64, heads=4, batch=4, length=64):
        keys = [pb.random.fold_in(pb.random.key(0), i) for i in range(layers + 2)]
        self.model = Gpt(
            nn.Embedding(VOCABULARY, width, key=keys[0]),
            tuple(nn.TransformerBlock(width, heads, key=key) for key in keys[2:]),
            nn.LayerNorm(width),
            nn.Linear(width, VOCABULARY, key=keys[1]),
        )
        rng = np.random.default_rng(0)
        self.batch = [rng.integers(0, VOCABULARY, (batch, length)) for _ in range(2)]

    def free(self):
        return self._planned(lambda f: f)

    def by_hand(self, policy):
        return self._planned(lambda f: pb.checkpoint(f, policy=policy))

    def within(self, budget):
        return self._planned(lambda f: f, budget)

    def _planned(self, wrap, memory=None):
        def loss(model, x, y):
            return nn.cross_entropy(model(x, wrap), y)

        compiled = pb.compile(pb.grad(loss), threads=1, memory=memory)
        plan = compiled.lower(self.model, *self.batch).plan
        steps = plan.lifetimes.workload.steps
        return Point(plan.arena_bytes, plan.peak_bytes, sum(steps[i].cost for i in plan.schedule))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trade", description=__doc__)
    parser.add_argument("--layers", type=int, default=12)
    trade = Trade(parser.parse_args().layers)
    free = trade.free()
    print(f"without a budget {free.arena:,} bytes")
    print("| each block by hand | bytes | less | more time | the planner's bytes | more time |")
    print("|---|--:|--:|--:|--:|--:|")
    for policy in ("nothing", "contractions"):
        hand = trade.by_hand(policy)
        own = trade.within(hand.peak)
        print(
            f'| `policy="{policy}"` | {hand.arena:,} | {1 - hand.arena / free.arena:.1%} '
            f"| {hand.cost / free.cost - 1:.1%} | {own.arena:,} "
            f"| {own.cost / free.cost - 1:.1%} |"
        )


if __name__ == "__main__":
    main()
