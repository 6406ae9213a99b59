"""A whole training: a small GPT on a text, here; `shakespeare_torch.py` is the same in PyTorch.

    python -m benchmarks.shakespeare tinyshakespeare.txt --seeds 0,1,2
    python -m benchmarks.shakespeare_torch tinyshakespeare.txt --seeds 0,1,2
    python -m benchmarks.shakespeare_torch tinyshakespeare.txt --compile

nanoGPT's configuration for a processor: 4 layers, 4 heads, 128 wide, block 64, batch 12, no biases,
no dropout, 2,000 steps, lr 1e-3 → 1e-4 on a cosine after 100 steps, β₂ 0.99, weight decay 0.1 on
matrices, clipping at 1. Weights start with deviation 1 / √inputs, or `--init-std` (nanoGPT: 0.02),
those that are added to the stream by √(2 · layers) less, embeddings with 0.02. Network, schedule
and sizes are equal in both; torch has fused AdamW and fused attention.

Two losses: of the whole validation part, block after block, as each of the eight evaluations of a
run measures it, and nanoGPT's own estimate, the mean of 20 random batches. The wall time is of
2,000 steps and 8 evaluations, with everything that is compiled; for pullback with its checkpoints
and logs too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pullback as pb
from pullback.train.config import read_toml
from pullback.train.session import Session, chosen

BLOCK, BATCH = 64, 12
EXAMPLE = Path(__file__).parents[1] / "examples" / "tinyshakespeare.toml"


class Outcome(NamedTuple):
    """What a training has come to."""

    whole: float
    """The loss of the whole validation part."""
    estimate: float
    """nanoGPT's: the mean of the losses of 20 random batches."""
    seconds: float


def random_batches(tokens: Any, count: int, seed: int) -> list[tuple[Any, Any]]:
    """(inputs, targets) of random crops, the same for both libraries."""
    draw = np.random.default_rng(seed)
    batches = []
    for _ in range(count):
        places = draw.integers(0, len(tokens) - BLOCK, (BATCH, 1)) + np.arange(BLOCK)
        batches.append((tokens[places], tokens[places + 1]))
    return batches


def trained(asked: argparse.Namespace, seed: int) -> Outcome:
    """What `pullback train` does, with its checkpoints and logs."""
    _, file = read_toml(EXAMPLE)
    training = {"seed": seed, "threads": asked.threads}
    model = {} if asked.init_std is None else {"init_std": asked.init_std}
    choices = chosen(str(asked.text), file, {"training": training, "model": model})
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        session = Session(choices, Path(folder) / "run")
        result = session.train(progress=False)
        seconds = time.perf_counter() - begin
    loss = pb.train.eval_step(lambda model, x, y: pb.nn.cross_entropy(model(x), y))
    tokens = session.task.tokens("validation").astype(np.int64)
    losses = [float(loss(result.state.model, x, y)) for x, y in random_batches(tokens, 20, seed)]
    return Outcome(result.history[-1]["validation_loss"], float(np.mean(losses)), seconds)


def options(name: str) -> argparse.ArgumentParser:
    """The command line of either library."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("text", type=Path)
    parser.add_argument("--seeds", default="0", help="as 0,1,2")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--init-std", type=float)
    return parser


def compare(
    name: str, asked: argparse.Namespace, run: Callable[[argparse.Namespace, int], Outcome]
) -> None:
    """Train once for each seed that is asked for, and print what comes out."""
    outcomes = []
    for seed in map(int, asked.seeds.split(",")):
        outcomes.append(run(asked, seed))
        _tell(f"{name}, seed {seed}", outcomes[-1])
    if len(outcomes) > 1:
        _tell(f"{name}, mean of {len(outcomes)}", Outcome(*np.mean(outcomes, axis=0)))


def _tell(name: str, found: Outcome) -> None:
    print(
        f"{name:<26} validation loss {found.whole:.4f}   20 random batches {found.estimate:.4f}"
        f"   {found.seconds:6.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    compare("pullback", options("shakespeare").parse_args(), trained)
