"""The benchmark compares equals: every library computes the same numbers for the same task."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import optree
import pytest

import pullback as pb
from pullback.bench.workloads import SMALL, Training, Update, numbers

sys.path.append(str(Path(__file__).parents[2]))

EXACT = [name for name in SMALL if name != "gpt_bf16"]
CLOSE = {"rtol": 1e-8, "atol": 1e-10}
STEPS = 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.func makes torch warn of itself
@pytest.mark.parametrize("name", EXACT)
def test_torch_computes_the_same(name):
    pytest.importorskip("torch")
    from benchmarks.models import torch_models as peer

    task, arguments = SMALL[name], numbers(SMALL[name], np.float64)
    require_close(torch_results(peer, task, arguments), own_results(task, arguments))


@pytest.mark.parametrize("name", EXACT)
def test_jax_computes_the_same(name):
    jax = pytest.importorskip("jax")
    from benchmarks.models import jax_models as peer

    task, arguments = SMALL[name], numbers(SMALL[name], np.float64)
    with jax.enable_x64(True):
        require_close(jax_results(peer, task, arguments), own_results(task, arguments))


def test_half_precision_is_a_perturbation_of_full_precision():
    full, half = (SMALL[name] for name in ("gpt", "gpt_bf16"))
    arguments = numbers(full)
    wanted, found = own_results(full, arguments), own_results(half, arguments)
    for x, y in zip(optree.tree_leaves(found), optree.tree_leaves(wanted), strict=True):
        assert x.dtype == y.dtype
        assert np.linalg.norm(x - y) <= 0.05 * np.linalg.norm(y) + 1e-3


def own_results(task, arguments):
    """Of a training step (loss, gradients): Adam divides by the gradient's size and hides it."""
    if isinstance(task, Training):
        state, *batch = arguments
        result = pb.value_and_grad(task.model.loss)(state["params"], *batch)
    elif isinstance(task, Update):
        state, grads = arguments
        for _ in range(STEPS):
            state, _ = task.step(state, grads)
        result = state["params"]
    else:
        result = task.step(*arguments)
    return optree.tree_map(np.asarray, result)


def torch_results(peer, task, arguments):
    if isinstance(task, Training):
        import torch

        state, *batch = optree.tree_map(peer.tensor, arguments)
        leaves, structure = optree.tree_flatten(state["params"])
        leaves = [x.requires_grad_() for x in leaves]
        loss = peer.loss_of(task.model)(state["params"], *batch)
        grads = torch.autograd.grad(loss, leaves)
        return peer.numpy_tree((loss, optree.tree_unflatten(structure, grads)))
    step = peer.eager(task, arguments, 1)
    if isinstance(task, Update):
        for _ in range(STEPS):
            state, _ = step()
        return peer.numpy_tree(state["params"])
    return peer.numpy_tree(step())


def jax_results(peer, task, arguments):
    import jax

    if isinstance(task, Training):
        state, *batch = optree.tree_map(peer.channels_last, arguments)
        gradient = jax.value_and_grad(peer.loss_of(task.model))
        return peer.numpy_tree(gradient(state["params"], *batch))
    step = peer.jitted(task, arguments, 1)
    if isinstance(task, Update):
        for _ in range(STEPS):
            state, _ = step()
        return peer.numpy_tree(state["params"])
    return peer.numpy_tree(step())


def require_close(found, wanted):
    paths, found, _ = optree.tree_flatten_with_path(found)[0:3]
    wanted = optree.tree_leaves(wanted)
    assert len(found) == len(wanted)
    for path, x, y in zip(paths, found, wanted, strict=True):
        np.testing.assert_allclose(x, y, **CLOSE, err_msg=str(path))
