"""Training steps against torch's: clipping, accumulation, half precision with float32 masters."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.ir.samples import normal
from pullback.train import LossScale, TrainState, from_torch, train_step

torch = pytest.importorskip("torch")
nn = pb.nn
X = normal(12, 6).astype(np.float32)
Y = np.arange(12) % 3
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 2e-3}
"""Of a gradient, of its norm: some units in the last place of what it was rounded to."""


def networks():
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    keys = pb.random.split(pb.random.key(0), 2)
    like = nn.Sequential(nn.Linear(6, 16, key=keys[0]), nn.relu, nn.Linear(16, 3, key=keys[1]))
    weights = {name: x.numpy().copy() for name, x in theirs.state_dict().items()}
    return theirs, from_torch(like, weights)


def loss(model, x, y):
    return nn.cross_entropy(model(x), y)


def torch_gradients(model, precision, scale=1.0):
    """Gradients of the masters: loss and logits in float32, the network in half precision."""
    half = HALF.get(precision, torch.float32)
    masters = dict(model.named_parameters())
    rounded = {name: x.to(half) for name, x in masters.items()}
    logits = torch.func.functional_call(model, rounded, torch.tensor(X).to(half))
    value = torch.nn.functional.cross_entropy(logits.float(), torch.tensor(Y))
    grads = torch.autograd.grad(value * scale, list(masters.values()))
    return float(value.detach()), [g / scale for g in grads]


def close(ours, theirs, tolerance):
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * np.abs(y).max())


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_step(precision, k):
    theirs, ours = networks()
    value, grads = torch_gradients(theirs, precision, 2.0**10 if precision == "fp16" else 1.0)
    optimizer, scale = pb.optim.sgd(1.0), LossScale(initial=2.0**10)
    scale = scale if precision == "fp16" else None
    state = TrainState.create(ours, optimizer, precision=precision, loss_scale=scale)
    before = [x.numpy().copy() for x in pb.train.checkpoint.flatten(ours)[0]]
    step = train_step(loss, optimizer, precision=precision, accumulate=k)
    state, metrics = step(state, X, Y)
    after = [np.array(x) for x in pb.train.checkpoint.flatten(state.model)[0]]
    assert float(metrics.loss) == pytest.approx(value, rel=TOLERANCE[precision])
    moved = [x - y for x, y in zip(before, after, strict=True)]
    close(moved, [g.numpy() for g in grads], TOLERANCE[precision])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_ten_steps_of_adam_with_clipping(precision):
    theirs, ours = networks()
    optimizer = pb.optim.adamw(1e-2, weight_decay=0.1)
    adam = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.1)
    state = TrainState.create(ours, optimizer)
    step = train_step(loss, optimizer, precision=precision, clip=0.3)
    for _ in range(10):
        value, grads = torch_gradients(theirs, precision)
        for parameter, grad in zip(theirs.parameters(), grads, strict=True):
            parameter.grad = grad
        norm = float(torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.3))
        adam.step()
        state, metrics = step(state, X, Y)
        assert float(metrics.loss) == pytest.approx(value, rel=TOLERANCE[precision])
        assert float(metrics.grad_norm) == pytest.approx(norm, rel=TOLERANCE[precision])
    if precision == "fp32":
        after = [np.array(x) for x in pb.train.checkpoint.flatten(state.model)[0]]
        close(after, [x.detach().numpy() for x in theirs.parameters()], 1e-4)
