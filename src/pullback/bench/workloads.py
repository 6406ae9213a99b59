"""What is timed: training steps, products with the Hessian, gradients example by example, kernels.

A task gives its numbers (`arguments`, the state first) and the function of them that a user of this
library writes (`step`). Other libraries do the same task from the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import optree

import pullback as pb
from pullback.bench.models import CNN, GPT, LSTM, MLP, Model, ResNet, Tree, ViT
from pullback.nn import gelu, layer_norm
from pullback.optim import adam, apply_updates

RATE = 1e-3
SEED = 0


class Task(Protocol):
    """A function and its arguments. Donated ones are replaced by the first of the results."""

    @property
    def donate(self) -> tuple[int, ...]:
        """(0,) where the step is (state, …) → (state, result), () where it is all result."""
        ...

    def arguments(self, rng: np.random.Generator) -> tuple[Tree, ...]:
        """Float64 and int64 numbers."""
        ...

    def step(self, *arguments: Any) -> Any: ...


# ---- networks -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """Forward, backward, Adam: ((parameters, moments), batch) → ((parameters, moments), loss)."""

    model: Model
    donate: tuple[int, ...] = (0,)

    def arguments(self, rng: np.random.Generator) -> tuple[Tree, ...]:
        params = self.model.parameters(rng)
        zeros = optree.tree_map(np.zeros_like, params)
        moments = {"step": np.array(0), "mean": zeros, "square": zeros}
        return ({"params": params, "moments": moments}, *self.model.examples(rng))

    def step(self, state: Tree, *batch: Any) -> tuple[Tree, pb.Array]:
        loss, grads = pb.value_and_grad(self.model.loss)(state["params"], *batch)
        return _adam_step(state, grads), loss


@dataclass(frozen=True)
class HessianProduct:
    """(parameters, direction, batch) → ∇²L · direction."""

    model: Model
    donate: tuple[int, ...] = ()

    def arguments(self, rng: np.random.Generator) -> tuple[Tree, ...]:
        params, direction = self.model.parameters(rng), self.model.parameters(rng)
        return (params, direction, *self.model.examples(rng))

    def step(self, params: Tree, direction: Tree, *batch: Any) -> Tree:
        return pb.hvp(lambda each: self.model.loss(each, *batch), (params,), (direction,))


@dataclass(frozen=True)
class ExampleGradients:
    """(parameters, batch) → the gradient of each example's loss, stacked."""

    model: Model
    donate: tuple[int, ...] = ()

    def arguments(self, rng: np.random.Generator) -> tuple[Tree, ...]:
        return (self.model.parameters(rng), *self.model.examples(rng))

    def step(self, params: Tree, *batch: Any) -> Tree:
        def gradient(params: Tree, *example: Any) -> Tree:
            single = tuple(pb.expand_dims(x, axis=0) for x in example)
            return pb.grad(self.model.loss)(params, *single)

        return pb.vmap(gradient, in_axes=(None, *[0] * len(batch)))(params, *batch)


# ---- kernels --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kernel:
    """(x, parameters, ȳ) → (y, x̄, cotangents of the parameters), for a function of each row."""

    name: str
    rows: int = 8192
    columns: int = 1024
    donate: tuple[int, ...] = ()

    def arguments(self, rng: np.random.Generator) -> tuple[Tree, ...]:
        shape = (self.rows, self.columns)
        count = 2 if self.name == "layernorm" else 0
        parameters = [rng.standard_normal(self.columns) for _ in range(count)]
        return rng.standard_normal(shape), parameters, rng.standard_normal(shape)

    def step(self, x: Any, parameters: list[Any], bar: Any) -> Any:
        functions: dict[str, Callable[..., pb.Array]] = {
            "layernorm": layer_norm,
            "softmax": pb.softmax,
            "gelu": gelu,
        }
        out, pull = pb.vjp(functions[self.name], x, *parameters)
        return out, *pull(bar)


@dataclass(frozen=True)
class Update:
    """Adam alone: ((parameters, moments), gradients) → ((parameters, moments), number of steps)."""

    matrices: int = 8
    width: int = 1024
    donate: tuple[int, ...] = (0,)

    def arguments(self, rng: np.random.Generator) -> tuple[Tree, ...]:
        shapes = [(self.width, self.width), (self.width,)] * self.matrices
        params, grads = ([rng.standard_normal(shape) for shape in shapes] for _ in range(2))
        zeros = [np.zeros(shape) for shape in shapes]
        moments = {"step": np.array(0), "mean": zeros, "square": zeros}
        return {"params": params, "moments": moments}, grads

    def step(self, state: Tree, grads: Tree) -> tuple[Tree, pb.Array]:
        after = _adam_step(state, grads)
        return after, after["moments"]["step"]


def _adam_step(state: Tree, grads: Tree) -> Tree:
    optimizer, moments = adam(RATE), state["moments"]
    before = type(optimizer.init(()))(**moments)
    updates, after = optimizer.update(grads, before, state["params"])
    return {"params": apply_updates(state["params"], updates), "moments": after._asdict()}


# ---- the list -------------------------------------------------------------------------------

SUITE: dict[str, Task] = {
    "mlp_small": Training(MLP((64, 64, 64, 10), 32)),
    "mlp": Training(MLP((784, 512, 512, 10), 128)),
    "mlp_big": Training(MLP((1024, 2048, 2048, 1000), 512)),
    "cnn": Training(CNN()),
    "gpt": Training(GPT()),
    "lstm": Training(LSTM()),
    "resnet": Training(ResNet()),
    "vit": Training(ViT()),
    "gpt_bf16": Training(GPT(half=True)),
    "mlp_hvp": HessianProduct(MLP((784, 512, 512, 10), 128)),
    "gpt_hvp": HessianProduct(GPT()),
    "cnn_examples": ExampleGradients(CNN()),
    "layernorm": Kernel("layernorm"),
    "softmax": Kernel("softmax"),
    "gelu": Kernel("gelu"),
    "adam": Update(),
}

SCALING: dict[str, Task] = {
    **{f"layers {n}": Training(GPT(layers=n)) for n in (4, 12, 48)},
    **{f"width {n}": Training(GPT(width=n)) for n in (96, 192, 768)},
    **{f"batch {n}": Training(GPT(batch=n)) for n in (1, 8, 32)},
}

SMALL: dict[str, Task] = {
    "mlp": Training(MLP((7, 9, 5), 6)),
    "cnn": Training(CNN(channels=(4, 5), hidden=6, side=8, batch=3)),
    "gpt": Training(GPT(layers=2, width=12, heads=3, length=7, vocabulary=11, batch=2)),
    "lstm": Training(LSTM(features=5, hidden=6, length=4, batch=3)),
    "resnet": Training(ResNet(blocks=2, widths=(4, 6), side=8, batch=5)),
    "vit": Training(ViT(layers=2, width=12, heads=2, side=8, batch=3)),
    "gpt_bf16": Training(GPT(2, 12, 3, 7, 11, 2, half=True)),
    "mlp_hvp": HessianProduct(MLP((7, 9, 5), 6)),
    "gpt_hvp": HessianProduct(GPT(2, 12, 3, 7, 11, 2)),
    "cnn_examples": ExampleGradients(CNN((4, 5), 6, 8, 3)),
    "layernorm": Kernel("layernorm", 6, 10),
    "softmax": Kernel("softmax", 6, 10),
    "gelu": Kernel("gelu", 6, 10),
    "adam": Update(2, 5),
}
"""The same tasks in a size that the reference computes in a moment."""

TASKS: dict[str, Task] = {
    **SUITE,
    **SCALING,
    **{f"small {name}": task for name, task in SMALL.items()},
}


def numbers(task: Task, floats: Any = np.float32) -> tuple[Tree, ...]:
    """The arguments of a task, always the same, with the floats in this element type."""

    def typed(x: Any) -> Any:
        return x.astype(floats) if x.dtype == np.float64 else x

    drawn: Tree = task.arguments(np.random.default_rng(SEED))
    made: Tree = optree.tree_map(typed, drawn)
    return tuple(made)
