"""A step of the GPT in JAX that keeps less for its backward pass, and the bytes that it holds."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optree
from benchmarks.models.jax_models import cross_entropy, dense, normed, transformed


def checkpointed(task, policy):
    """`jax.checkpoint` around each block, with one of its policies; None: XLA alone."""

    def apply(block, x):
        return transformed(block, x, task.model.heads, causal=True)

    if policy is not None:
        apply = jax.checkpoint(apply, policy=getattr(jax.checkpoint_policies, policy))

    def loss(params, tokens, targets):
        x = params["embedding"][tokens] + params["places"]
        for block in params["blocks"]:
            x = apply(block, x)
        return cross_entropy(dense(params["head"], normed(params["norm"], x)), targets)

    numbers = optree.tree_map(jnp.asarray, task.numbers())
    program = jax.jit(jax.value_and_grad(loss)).lower(*numbers).compile()
    sizes = program.memory_analysis()
    held = sizes.temp_size_in_bytes + sizes.output_size_in_bytes
    return lambda: jax.block_until_ready(program(*numbers)), held
