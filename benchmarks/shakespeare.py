"""The same small GPT on the same text, in PyTorch, to stand beside `pullback train`.

    python -m benchmarks.shakespeare tinyshakespeare.txt                      # torch, eager
    python -m benchmarks.shakespeare tinyshakespeare.txt --compile            # torch.compile
    pullback train tinyshakespeare.txt --config examples/tinyshakespeare.toml

nanoGPT's configuration for a processor: 4 layers, 4 heads, 128 wide, block 64, batch 12, no
dropout, 2,000 steps, lr 1e-3 → 1e-4 on a cosine after 100 steps, β₂ 0.99, weight decay 0.1 on
matrices, clipping at 1. Fused AdamW and fused attention.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

LAYERS, HEADS, WIDTH, BLOCK, BATCH = 4, 4, 128, 64, 12
STEPS, WARMUP, LR, LAST_LR, EVERY = 2000, 100, 1e-3, 1e-4, 250


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.mixing = nn.Linear(WIDTH, 3 * WIDTH)
        self.joining = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.widening = nn.Linear(WIDTH, 4 * WIDTH)
        self.narrowing = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        q, k, v = (
            part.view(rows, length, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in self.mixing(self.norm1(x)).split(WIDTH, dim=2)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.joining(y.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.narrowing(functional.gelu(self.widening(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.places = nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)
        for name, each in self.named_parameters():
            if each.ndim == 2:
                outward = "joining" in name or "narrowing" in name
                nn.init.normal_(each, 0, 0.02 / math.sqrt(2 * LAYERS) if outward else 0.02)

    def forward(self, tokens: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.norm(x) @ self.tokens.weight.T
        return functional.cross_entropy(logits.flatten(0, 1), following.flatten())


def rate(step: int) -> float:
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    share = (step - WARMUP) / (STEPS - WARMUP)
    return LAST_LR + 0.5 * (LR - LAST_LR) * (1 + math.cos(math.pi * share))


@torch.no_grad()
def evaluate(model: nn.Module, text: torch.Tensor) -> float:
    """The mean loss of all whole blocks of a text."""
    count = (len(text) - 1) // BLOCK
    inputs = text[: count * BLOCK].view(count, BLOCK)
    targets = text[1 : count * BLOCK + 1].view(count, BLOCK)
    losses = [model(inputs[i : i + 64], targets[i : i + 64]).item() for i in range(0, count, 64)]
    sizes = [len(inputs[i : i + 64]) for i in range(0, count, 64)]
    return float(np.average(losses, weights=sizes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    text = chosen.text.read_text()
    known = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = torch.tensor([known[c] for c in text])
    training, validation = tokens[: int(0.9 * len(tokens))], tokens[int(0.9 * len(tokens)) :]
    begin = time.perf_counter()
    model = Gpt(len(known))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.99), fused=True)
    loss_of = torch.compile(model) if chosen.compile else model
    for step in range(STEPS):
        starts = torch.randint(len(training) - BLOCK, (BATCH, 1)) + torch.arange(BLOCK)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        loss = loss_of(training[starts], training[starts + 1])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % EVERY == 0:
            spent = time.perf_counter() - begin
            score = evaluate(model, validation)
            print(f"step {step + 1:5}  validation loss {score:.4f}  {spent:6.1f} s", flush=True)
    print(f"{STEPS} steps and {STEPS // EVERY} evaluations in {time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
