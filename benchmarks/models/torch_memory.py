"""A step of the GPT in torch that keeps less for its backward pass, and the bytes that it holds."""

from __future__ import annotations

import numpy as np
import optree
import torch
from benchmarks.models.torch_models import dense, loss_of, normed, transformed
from torch._functorch import config
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint_sequential


def sequential(task, segments):
    """Eager, in segments of blocks, of which the last keeps all; 1 keeps all."""

    def loss(params, tokens, targets):
        x = functional.embedding(tokens, params["embedding"]) + params["places"]
        blocks = [
            lambda x, block=block: transformed(
                block, x, task.model.heads, functional.scaled_dot_product_attention, causal=True
            )
            for block in params["blocks"]
        ]
        if segments > 1:
            x = checkpoint_sequential(blocks, segments, x, use_reentrant=False)
        else:
            for block in blocks:
                x = block(x)
        logits = dense(params["head"], normed(params["norm"], x))
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return stepping(loss, task)


def compiled(task, budget):
    """`torch.compile`, whose partitioner chooses what to keep."""
    config.activation_memory_budget = budget
    return stepping(torch.compile(loss_of(task.model)), task)


def stepping(loss, task):
    torch.set_num_threads(task.threads)
    params, *batch = optree.tree_map(torch.tensor, task.numbers())
    leaves = [x.requires_grad_() for x in optree.tree_leaves(params)]

    def step():
        value = loss(params, *batch)
        return value.detach(), torch.autograd.grad(value, leaves)

    step()
    return step, peak(step)


def peak(step):
    """The most bytes that torch's allocator has given out at once, since the step began."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        results = step()
    del results
    changes = []
    pending = list(found.profiler.kineto_results.experimental_event_tree())
    while pending:
        event = pending.pop()
        pending += event.children
        if event.tag.name == "Allocation":
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
    live = np.cumsum([size for _, size in sorted(changes, key=lambda x: x[0])])
    return int(live.max())
