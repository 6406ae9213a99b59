"""The tasks of `pullback.bench.workloads` in JAX, from the same numbers.

Best variant: one `jax.jit` over the whole step with the state donated; images and kernels lie as
NHWC and HWIO, the layout that XLA's convolution on a CPU is made for.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optree

from pullback.bench.models import CNN, GPT, LSTM, MLP, ResNet, ViT
from pullback.bench.workloads import RATE, ExampleGradients, HessianProduct, Kernel, Training

# ---- losses ---------------------------------------------------------------------------------


def loss_of(model):
    match model:
        case MLP():
            return mlp
        case CNN():
            return cnn
        case ResNet():
            return resnet
        case LSTM():
            return lambda params, x, labels: lstm(params, x, labels, model)
        case GPT():
            return lambda params, *batch: gpt(params, *batch, model)
        case ViT():
            return lambda params, *batch: vit(params, *batch, model)


def cross_entropy(logits, labels):
    surprise = -jax.nn.log_softmax(logits)
    return jnp.take_along_axis(surprise, labels[..., None], axis=-1).mean()


def dense(layer, x, half=False):
    weight, bias = layer["weight"], layer["bias"]
    if half:
        x, weight, bias = (each.astype(jnp.bfloat16) for each in (x, weight, bias))
    return x @ weight + bias


def mlp(params, x, labels):
    *hidden, last = params
    for layer in hidden:
        x = jax.nn.relu(dense(layer, x))
    return cross_entropy(dense(last, x), labels)


def convolve(x, weight, stride=1):
    padding = weight.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x,
        weight,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def max_pool(x):
    window = (1, 2, 2, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")


def cnn(params, x, labels):
    for i, layer in enumerate(params["convolutions"]):
        x = jax.nn.relu(convolve(x, layer["weight"]) + layer["bias"])
        x = max_pool(x) if i % 2 else x
    x = jax.nn.relu(dense(params["hidden"], x.transpose(0, 3, 1, 2).reshape(len(x), -1)))
    return cross_entropy(dense(params["head"], x), labels)


def resnet(params, x, labels):
    x = jax.nn.relu(convolved(params["stem"], x))
    for block in params["blocks"]:
        stride = 2 if "shortcut" in block else 1
        h = jax.nn.relu(convolved(block["first"], x, stride))
        h = convolved(block["second"], h)
        x = jax.nn.relu(h + (convolved(block["shortcut"], x, 2) if stride == 2 else x))
    return cross_entropy(dense(params["head"], x.mean((1, 2))), labels)


def convolved(layer, x, stride=1):
    x = convolve(x, layer["weight"], stride)
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * layer["scale"] + layer["shift"]


def lstm(params, x, labels, model):
    def step(carry, drive):
        h, c = carry
        i, f, g, o = jnp.split(drive + dense(params["state"], h), 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    start = jnp.zeros((model.batch, model.hidden), x.dtype)
    (h, _), _ = jax.lax.scan(step, (start, start), dense(params["input"], x))
    return cross_entropy(dense(params["head"], h), labels)


def gpt(params, tokens, targets, model):
    x = params["embedding"][tokens] + params["places"]
    for block in params["blocks"]:
        x = transformed(block, x, model.heads, causal=True, half=model.half)
    logits = dense(params["head"], normed(params["norm"], x), model.half)
    return cross_entropy(logits.astype(x.dtype), targets)


def vit(params, images, labels, model):
    n, patch = model.side // model.patch, model.patch
    patches = images.reshape(-1, n, patch, n, patch, 3).transpose(0, 1, 3, 5, 2, 4)
    x = dense(params["embedding"], patches.reshape(len(images), n * n, -1)) + params["places"]
    for block in params["blocks"]:
        x = transformed(block, x, model.heads, causal=False)
    return cross_entropy(dense(params["head"], normed(params["norm"], x).mean(1)), labels)


def transformed(block, x, heads, *, causal, half=False):
    batch, length, width = x.shape
    qkv = dense(block["qkv"], normed(block["norm1"], x), half)
    q, k, v = qkv.reshape(batch, length, 3, heads, -1).transpose(2, 0, 3, 1, 4)
    mixed = attention(q, k, v, causal).transpose(0, 2, 1, 3)
    x = x + dense(block["out"], mixed.reshape(batch, length, width), half)
    hidden = jax.nn.gelu(dense(block["up"], normed(block["norm2"], x), half), approximate=False)
    return x + dense(block["down"], hidden, half)


def attention(q, k, v, causal):
    scores = (q @ k.swapaxes(-1, -2)).astype(jnp.promote_types(q.dtype, jnp.float32))
    scores = scores / math.sqrt(q.shape[-1])
    if causal:
        scores = jnp.where(jnp.tri(q.shape[-2], dtype=bool), scores, -jnp.inf)
    return jax.nn.softmax(scores).astype(v.dtype) @ v


def normed(layer, x):
    return layer_norm(x, layer["weight"], layer["bias"])


def layer_norm(x, weight=None, bias=None):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    x = (x - mean) * jax.lax.rsqrt(variance + 1e-5)
    return x if weight is None else x * weight + bias


# ---- tasks ----------------------------------------------------------------------------------


def jitted(task, arguments, threads):
    """One step of the task, as a function of nothing. Threads: those of the process's cores."""
    step = jax.jit(step_of(task), donate_argnums=task.donate)
    arguments = optree.tree_map(lambda x: jnp.asarray(channels_last(x)), arguments)
    if not task.donate:
        return lambda: jax.block_until_ready(step(*arguments))
    state, *rest = arguments

    def run():
        nonlocal state
        state, result = jax.block_until_ready(step(state, *rest))
        return state, result

    return run


def step_of(task):
    match task:
        case Training(model=model):
            gradient = jax.value_and_grad(loss_of(model))

            def train(state, *batch):
                loss, grads = gradient(state["params"], *batch)
                return adam(state, grads), loss

            return train
        case HessianProduct(model=model):
            loss = loss_of(model)

            def product(params, direction, *batch):
                gradient = jax.grad(lambda each: loss(each, *batch))
                return jax.jvp(gradient, (params,), (direction,))[1]

            return product
        case ExampleGradients(model=model):
            loss = loss_of(model)
            gradient = jax.grad(lambda params, *each: loss(params, *(x[None] for x in each)))
            return jax.vmap(gradient, in_axes=(None, 0, 0))
        case Kernel():
            return lambda *arguments: kernel(FUNCTIONS[task.name], *arguments)
    return lambda state, grads: (adam(state, grads), None)


FUNCTIONS = {
    "layernorm": layer_norm,
    "softmax": jax.nn.softmax,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}


def kernel(function, x, parameters, bar):
    out, pull = jax.vjp(function, x, *parameters)
    return out, *pull(bar)


def adam(state, grads, b1=0.9, b2=0.999, eps=1e-8):
    moments = state["moments"]
    count = moments["step"] + 1
    mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, moments["mean"], grads)
    square = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, moments["square"], grads)

    def moved(x, m, v):
        weights = (1 - jnp.asarray(b, x.dtype) ** count for b in (b1, b2))
        rest1, rest2 = weights
        return x - RATE * (m / rest1) / (jnp.sqrt(v / rest2) + eps)

    params = jax.tree.map(moved, state["params"], mean, square)
    return {"params": params, "moments": {"step": count, "mean": mean, "square": square}}


# ---- layouts --------------------------------------------------------------------------------


def channels_last(x):
    """NCHW and OIHW to NHWC and HWIO: of a square kernel the axes tell which is which."""
    if x.ndim != 4:
        return x
    is_kernel = x.shape[2] == x.shape[3] <= 3
    return np.transpose(x, (2, 3, 1, 0) if is_kernel else (0, 2, 3, 1))


def numpy_tree(tree):
    """The results as NumPy numbers in the layout of the given ones; kernels come back OIHW."""

    def back(x):
        x = np.asarray(x)
        is_kernel = x.ndim >= 4 and x.shape[-4] == x.shape[-3] <= 3
        return np.moveaxis(x, (-1, -2), (-4, -3)) if is_kernel else x

    return optree.tree_map(back, tree)
