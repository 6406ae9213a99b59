"""The training of `shakespeare.py` in PyTorch, number for number: see there.

    python -m benchmarks.shakespeare_torch tinyshakespeare.txt             # eager
    python -m benchmarks.shakespeare_torch tinyshakespeare.txt --compile   # torch.compile

Fused AdamW and fused attention.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch
from benchmarks.shakespeare import BATCH, BLOCK, Outcome, compare, options, random_batches
from torch import nn
from torch.nn import functional

LAYERS, HEADS, WIDTH = 4, 4, 128
STEPS, WARMUP, LR, LAST_LR, EVERY = 2000, 100, 1e-3, 1e-4, 250
ROWS = 64
"""Blocks that an evaluation sees at once."""


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH, bias=False)
        self.mixing = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.joining = nn.Linear(WIDTH, WIDTH, bias=False)
        self.norm2 = nn.LayerNorm(WIDTH, bias=False)
        self.widening = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.narrowing = nn.Linear(4 * WIDTH, WIDTH, bias=False)

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
    def __init__(self, vocabulary: int, init_std: float | None) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, WIDTH)
        self.places = nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, 0, 0.02)
        for block in self.blocks:
            for name, layer in block.named_children():
                if isinstance(layer, nn.Linear):
                    std = init_std or 1 / math.sqrt(layer.in_features)
                    shrink = name in ("joining", "narrowing")
                    nn.init.normal_(layer.weight, 0, std / math.sqrt(2 * LAYERS) if shrink else std)

    def forward(self, tokens: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.norm(x) @ self.tokens.weight.T
        return functional.cross_entropy(logits.flatten(0, 1), following.flatten())


def rate(step: int) -> float:
    if step < WARMUP:
        return LR * step / WARMUP
    share = (step - WARMUP) / (STEPS - WARMUP)
    return LAST_LR + 0.5 * (LR - LAST_LR) * (1 + math.cos(math.pi * share))


def trained(asked: argparse.Namespace, seed: int) -> Outcome:
    if asked.threads:
        torch.set_num_threads(asked.threads)
    torch.manual_seed(seed)
    letters = asked.text.read_text()
    known = {c: i for i, c in enumerate(sorted(set(letters)))}
    tokens = torch.tensor([known[c] for c in letters])
    cut = len(tokens) - math.ceil(0.1 * len(tokens))
    training, validation = tokens[:cut], tokens[cut:]

    begin = time.perf_counter()
    model = Gpt(len(known), asked.init_std)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.99), fused=True)
    loss_of = torch.compile(model) if asked.compile else model
    whole = math.nan
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
            whole = evaluate(model, validation)
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        losses = [
            model(torch.from_numpy(x), torch.from_numpy(y)).item()
            for x, y in random_batches(validation.numpy(), 20, seed)
        ]
    return Outcome(whole, float(np.mean(losses)), seconds)


def evaluate(model: nn.Module, text: torch.Tensor) -> float:
    """The mean loss of all whole blocks of a text."""
    count = (len(text) - 1) // BLOCK
    inputs = text[: count * BLOCK].view(count, BLOCK)
    targets = text[1 : count * BLOCK + 1].view(count, BLOCK)
    parts = [slice(i, i + ROWS) for i in range(0, count, ROWS)]
    with torch.no_grad():
        losses = [model(inputs[part], targets[part]).item() for part in parts]
    return float(np.average(losses, weights=[len(inputs[part]) for part in parts]))


if __name__ == "__main__":
    parser = options("shakespeare_torch")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    compare("torch", parser.parse_args(), trained)
