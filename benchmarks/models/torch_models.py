"""The tasks of `pullback.bench.workloads` in PyTorch, from the same numbers.

Best variant of each: fused Adam, channels_last for images and kernels, fused attention and LSTM.
"""

from __future__ import annotations

import optree
import torch
from torch.nn import functional as F

from pullback.bench.models import CNN, GPT, LSTM, MLP, ResNet, ViT
from pullback.bench.workloads import RATE, ExampleGradients, HessianProduct, Kernel, Training

# ---- losses ---------------------------------------------------------------------------------


def loss_of(model, fused=True):
    """`loss(params, *batch)`. Without `fused` attention is plain products, which have all
    derivatives."""
    match model:
        case MLP():
            return mlp
        case CNN():
            return cnn
        case ResNet():
            return resnet
        case LSTM():
            return lambda params, x, labels: lstm(params, x, labels, model.hidden)
        case GPT():
            attend = F.scaled_dot_product_attention if fused else plain_attention
            return lambda params, *batch: gpt(params, *batch, model, attend)
        case ViT():
            return lambda params, *batch: vit(params, *batch, model)


def dense(layer, x):
    return F.linear(x, layer["weight"].T, layer["bias"])


def mlp(params, x, labels):
    *hidden, last = params
    for layer in hidden:
        x = F.relu(dense(layer, x))
    return F.cross_entropy(dense(last, x), labels)


def cnn(params, x, labels):
    for i, layer in enumerate(params["convolutions"]):
        x = F.relu(F.conv2d(x, layer["weight"], layer["bias"], padding=1))
        x = F.max_pool2d(x, 2) if i % 2 else x
    x = F.relu(dense(params["hidden"], x.flatten(1)))
    return F.cross_entropy(dense(params["head"], x), labels)


def resnet(params, x, labels):
    x = F.relu(convolved(params["stem"], x))
    for block in params["blocks"]:
        stride = 2 if "shortcut" in block else 1
        h = F.relu(convolved(block["first"], x, stride))
        h = convolved(block["second"], h)
        x = F.relu(h + (convolved(block["shortcut"], x, 2) if stride == 2 else x))
    return F.cross_entropy(dense(params["head"], x.mean((2, 3))), labels)


def convolved(layer, x, stride=1):
    weight = layer["weight"]
    x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    return F.batch_norm(x, None, None, layer["scale"], layer["shift"], training=True)


def lstm(params, x, labels, hidden):
    start = x.new_zeros(1, x.shape[1], hidden)
    weights = [params[name]["weight"].T for name in ("input", "state")]
    weights += [params[name]["bias"] for name in ("input", "state")]
    flags = {"has_biases": True, "num_layers": 1, "dropout": 0.0, "train": True}
    flags |= {"bidirectional": False, "batch_first": False}
    _, h, _ = torch.lstm(x, (start, start), weights, **flags)
    return F.cross_entropy(dense(params["head"], h[0]), labels)


def gpt(params, tokens, targets, model, attend):
    with torch.autocast("cpu", torch.bfloat16, enabled=model.half):
        x = F.embedding(tokens, params["embedding"]) + params["places"]
        for block in params["blocks"]:
            x = transformed(block, x, model.heads, attend, causal=True)
        logits = dense(params["head"], normed(params["norm"], x))
    return F.cross_entropy(logits.flatten(0, 1).to(x.dtype), targets.flatten())


def vit(params, images, labels, model):
    n, patch = model.side // model.patch, model.patch
    patches = images.reshape(-1, 3, n, patch, n, patch).permute(0, 2, 4, 1, 3, 5)
    x = dense(params["embedding"], patches.reshape(len(images), n * n, -1)) + params["places"]
    for block in params["blocks"]:
        x = transformed(block, x, model.heads, F.scaled_dot_product_attention, causal=False)
    x = normed(params["norm"], x).mean(1)
    return F.cross_entropy(dense(params["head"], x), labels)


def transformed(block, x, heads, attend, causal):
    batch, length, width = x.shape
    qkv = dense(block["qkv"], normed(block["norm1"], x))
    q, k, v = qkv.reshape(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4)
    mixed = attend(q, k, v, is_causal=causal).transpose(1, 2)
    x = x + dense(block["out"], mixed.reshape(batch, length, width))
    return x + dense(block["down"], F.gelu(dense(block["up"], normed(block["norm2"], x))))


def normed(layer, x):
    return F.layer_norm(x, x.shape[-1:], layer["weight"], layer["bias"])


def plain_attention(q, k, v, is_causal):
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(-1) @ v


# ---- tasks ----------------------------------------------------------------------------------


def eager(task, arguments, threads):
    """One step of the task, as a function of nothing."""
    return prepared(task, arguments, threads, lambda f: f)


def compiled(task, arguments, threads):
    return prepared(task, arguments, threads, torch.compile)


def prepared(task, arguments, threads, transform):
    torch.set_num_threads(threads)
    first, *rest = optree.tree_map(tensor, arguments)
    match task:
        case Training(model=model):
            return training(transform(loss_of(model)), first["params"], rest)
        case HessianProduct(model=model):
            loss = loss_of(model, fused=False)
            return hessian_product(transform, loss, first, *rest)
        case ExampleGradients(model=model):
            gradients = transform(example_gradients(loss_of(model)))
            return lambda: gradients(first, *rest)
        case Kernel():
            return kernel(transform(FUNCTIONS[task.name]), first, *rest)
    return update(first["params"], *rest)


def tensor(x):
    layout = torch.channels_last if x.ndim == 4 else torch.contiguous_format
    return torch.tensor(x).contiguous(memory_format=layout)


def training(loss, params, batch):
    leaves = [x.requires_grad_() for x in optree.tree_leaves(params)]
    optimizer = torch.optim.Adam(leaves, lr=RATE, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        value = loss(params, *batch)
        value.backward()
        optimizer.step()
        return params, value

    return step


def hessian_product(transform, loss, params, direction, *batch):
    def product(params, direction, *batch):
        gradient = torch.func.grad(lambda each: loss(each, *batch))
        return torch.func.jvp(gradient, (params,), (direction,))[1]

    called = transform(product)
    return lambda: called(params, direction, *batch)


def example_gradients(loss):
    def gradient(params, *example):
        return torch.func.grad(loss)(params, *(x.unsqueeze(0) for x in example))

    return torch.func.vmap(gradient, in_dims=(None, 0, 0))


FUNCTIONS = {
    "layernorm": lambda x, weight, bias: F.layer_norm(x, x.shape[-1:], weight, bias),
    "softmax": lambda x: F.softmax(x, -1),
    "gelu": F.gelu,
}


def kernel(function, x, parameters, bar):
    leaves = [each.requires_grad_() for each in (x, *parameters)]

    def step():
        out = function(*leaves)
        return out.detach(), *torch.autograd.grad(out, leaves, bar)

    return step


def update(params, grads):
    for x, g in zip(params, grads, strict=True):
        x.requires_grad_()
        x.grad = g
    optimizer = torch.optim.Adam(params, lr=RATE, fused=True)

    def step():
        optimizer.step()
        return {"params": params}, None

    return step


def numpy_tree(tree):
    """The results as NumPy numbers, in the layout of the given ones."""
    return optree.tree_map(lambda x: x.detach().contiguous().numpy(), tree)
