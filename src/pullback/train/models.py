"""The networks of the command: each choice is a section `model` that builds its network."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pullback import random
from pullback.errors import ArgumentError
from pullback.functions.activations import relu
from pullback.functions.pooling import max_pool
from pullback.ir.array import Array
from pullback.ir.types import Shape, float32
from pullback.nn import (
    MLP,
    Conv2d,
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    Module,
    TransformerBlock,
    init,
)
from pullback.ops.operators import lift, reshape
from pullback.train.config import (
    one_of,
    parse,
    plain,
    require_at_least,
    require_known,
    require_share,
)

convolution: Any = Conv2d  # whose `__init__` is inherited, which the type checker does not see


class Choice(Protocol):
    """A section `model`: its fields are its keys."""

    name: ClassVar[str]

    def build(self, inputs: Shape, outputs: int, *, key: Array) -> Module:
        """A network from one example of shape `inputs` to `outputs` numbers.

        Raises `ArgumentError` for examples it does not take.
        """
        ...


def parse_model(table: Mapping[str, Any]) -> Choice:
    """The choice of a section; `ArgumentError` for an unknown network or key."""
    require_known(["name"], ["name"] if "name" in table else [], "the section model")
    name = one_of("model.name", table["name"], tuple(MODELS))
    rest = {key: value for key, value in table.items() if key != "name"}
    choice: Choice = parse(MODELS[name], f"model {name}", rest)
    return choice


def plain_model(choice: Choice) -> dict[str, Any]:
    """The section of a choice."""
    return {"name": choice.name, **plain(choice)}


def apply(model: Any, x: Any, key: Array | None = None) -> Array:
    """What a network makes of x: in training where a key is given, else in use."""
    if not model.takes_train:
        return model(x)  # type: ignore[no-any-return]
    return model(x, train=key is not None, key=key)  # type: ignore[no-any-return]


# ---- perceptron -----------------------------------------------------------------------------


class Perceptron(Module):
    """An `MLP` on examples of any shape, one after another in a row: (N, *shape) → (N, outputs)."""

    layers: MLP

    def __call__(self, x: Any) -> Array:
        return self.layers(_rows(x))


@dataclass(frozen=True)
class MLPChoice:
    """Affine layers with ReLU between; without a hidden layer (`depth = 0`) a linear model."""

    name: ClassVar[str] = "mlp"
    width: int = 128
    depth: int = 2

    def __post_init__(self) -> None:
        require_at_least("model.width", self.width, 1)
        require_at_least("model.depth", self.depth, 0)

    def build(self, inputs: Shape, outputs: int, *, key: Array) -> Module:
        _require_numbers(self.name, inputs)
        return Perceptron(MLP(math.prod(inputs), outputs, self.width, self.depth, key=key))


# ---- convolutions ---------------------------------------------------------------------------


class ConvolutionalNetwork(Module):
    """Convolutions with ReLU and maxima over windows, two affine layers: (N, C, H, W) → (N, n).

    Dropout, where there is any, stands before the last layer.
    """

    convolutions: tuple[Conv2d, ...]
    hidden: Linear
    dropout: Dropout
    head: Linear
    pool: tuple[int, ...]
    """The side of the window after each convolution; 1 for none."""

    @property
    def takes_train(self) -> bool:  # type: ignore[override]
        return self.dropout.takes_train

    def __call__(self, x: Any, *, train: bool | None = None, key: Array | None = None) -> Array:
        for convolution, window in zip(self.convolutions, self.pool, strict=True):
            x = relu(convolution(x))
            x = max_pool(x, window) if window > 1 else x
        x = relu(self.hidden(_rows(x)))
        return self.head(self.dropout(x, train=train, key=key) if self.takes_train else x)


@dataclass(frozen=True)
class CNNChoice:
    """Convolutions of 3 × 3 that keep the size, each with ReLU and a maximum over a window."""

    name: ClassVar[str] = "cnn"
    channels: tuple[int, ...] = (32, 64)
    pool: tuple[int, ...] = (2, 2)
    """The side of the window after each convolution; 1 for none."""
    hidden: int = 128
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for i, (channels, window) in enumerate(zip(self.channels, self.pool, strict=False)):
            require_at_least(f"model.channels[{i}]", channels, 1)
            require_at_least(f"model.pool[{i}]", window, 1)
        if not self.channels or len(self.channels) != len(self.pool):
            raise ArgumentError(
                f"model.channels has {len(self.channels)} entries and model.pool {len(self.pool)}; "
                "each convolution has one of both"
            )
        require_at_least("model.hidden", self.hidden, 1)
        require_share("model.dropout", self.dropout, zero=True)

    def build(self, inputs: Shape, outputs: int, *, key: Array) -> Module:
        channels, *sides = _image(self.name, inputs)
        convolutions = []
        for i, (width, window) in enumerate(zip(self.channels, self.pool, strict=True)):
            here = random.fold_in(key, i)
            convolutions.append(convolution(channels, width, 3, padding=1, key=here))
            channels, sides = width, [side // window for side in sides]
        if not all(sides):
            raise ArgumentError(f"model.pool = {list(self.pool)} leaves nothing of images {inputs}")
        keys = [random.fold_in(key, 100), random.fold_in(key, 101)]
        features = channels * math.prod(sides)
        hidden = Linear(features, self.hidden, key=keys[0], initializer=init.he_normal)
        head = Linear(self.hidden, outputs, key=keys[1], initializer=init.he_normal)
        return ConvolutionalNetwork(
            tuple(convolutions), hidden, Dropout(self.dropout), head, self.pool
        )


@dataclass(frozen=True)
class TwoConvolutionsChoice:
    """The network 2c2d of DeepOBS (Schneider, Balles & Hennig 2019).

    Convolutions of 5 × 5 with 32 and 64 channels, each with ReLU and a maximum over 2 × 2, then
    1,024 units. Weights: a normal distribution of deviation 0.05, cut at two of them; biases 0.05.
    """

    name: ClassVar[str] = "2c2d"

    def build(self, inputs: Shape, outputs: int, *, key: Array) -> Module:
        channels, *sides = _image(self.name, inputs)
        keys = random.split(key, 4)
        first, second = (
            convolution(n, m, 5, padding=2, key=k, initializer=_narrow)
            for n, m, k in ((channels, 32, keys[0]), (32, 64, keys[1]))
        )
        features = 64 * math.prod(side // 4 for side in sides)
        hidden, head = (
            Linear(n, m, key=k, initializer=_narrow)
            for n, m, k in ((features, 1024, keys[2]), (1024, outputs, keys[3]))
        )
        first, second, hidden, head = (_biased(each) for each in (first, second, hidden, head))
        return ConvolutionalNetwork((first, second), hidden, Dropout(0.0), head, (2, 2))


def _narrow(key: Array, shape: Shape, dtype: Any = float32) -> Array:
    return random.truncated_normal(key, -2.0, 2.0, tuple(shape), dtype) * 0.05


def _biased(layer: Any) -> Any:
    return layer.replace(bias=layer.bias + 0.05)


# ---- text -----------------------------------------------------------------------------------


class GPT(Module):
    """A decoder of tokens (Radford et al. 2019): int (…, T) → logits (…, T, vocabulary).

    Learned places, norms first; the embedding of the tokens is the last layer too.
    """

    tokens: Embedding
    places: Embedding
    dropout: Dropout
    blocks: tuple[TransformerBlock, ...]
    norm: LayerNorm

    @property
    def takes_train(self) -> bool:  # type: ignore[override]
        return self.dropout.takes_train

    @property
    def block(self) -> int:
        """The most tokens it sees at once."""
        return self.places.weight.shape[0]

    def __call__(
        self, tokens: Any, *, train: bool | None = None, key: Array | None = None
    ) -> Array:
        x = self.tokens(tokens) + self.places.weight[: lift(tokens).shape[-1]]
        if not self.takes_train:
            for block in self.blocks:
                x = block(x)
            return self.tokens.attend(self.norm(x))
        keys = (
            [None] * (len(self.blocks) + 1) if key is None else _folded(key, len(self.blocks) + 1)
        )
        x = self.dropout(x, train=train, key=keys[-1])
        for block, mine in zip(self.blocks, keys, strict=False):
            x = block(x, train=train, key=mine)
        return self.tokens.attend(self.norm(x))


def _folded(key: Array, count: int) -> list[Array]:
    return [random.fold_in(key, i) for i in range(count)]


@dataclass(frozen=True)
class GPTChoice:
    """A transformer that predicts each token from the `block` tokens before it.

    Embeddings start with deviation 0.02, as in GPT-2.
    """

    name: ClassVar[str] = "gpt"
    layers: int = 4
    heads: int = 4
    width: int = 128
    block: int = 64
    dropout: float = 0.0
    bias: bool = False
    init_std: float | None = None
    """Standard deviation of the weights of the blocks at the start; 1 / √inputs unless given.

    GPT-2 has 0.02 at every width, which is small where the width is: a network of width 128 then
    learns slower.
    """

    def __post_init__(self) -> None:
        for key in ("layers", "heads", "width", "block"):
            require_at_least(f"model.{key}", getattr(self, key), 1)
        if self.width % self.heads:
            raise ArgumentError(
                f"model.width = {self.width} does not divide into model.heads = {self.heads} heads"
            )
        require_share("model.dropout", self.dropout, zero=True)
        if self.init_std is not None and not self.init_std > 0:
            raise ArgumentError(f"model.init_std is above 0, not {self.init_std}")

    def build(self, inputs: Shape, outputs: int, *, key: Array) -> Module:
        if inputs:
            raise ArgumentError(
                f"model gpt reads text, and an example here has shape {inputs}",
                hint="--model cnn for images, mlp for anything",
            )
        # The two products of a block that are added to x: their sum keeps its scale (GPT-2).
        shrink = 1 / math.sqrt(2 * self.layers)
        blocks = tuple(
            TransformerBlock(
                self.width,
                self.heads,
                dropout=self.dropout,
                norm=functools.partial(LayerNorm, use_bias=self.bias),
                use_bias=self.bias,
                causal=True,
                key=random.fold_in(key, i),
                initializer=self._initializer(1.0),
                output_initializer=self._initializer(shrink),
            )
            for i in range(self.layers)
        )
        tokens = Embedding(outputs, self.width, key=random.fold_in(key, 1000))
        places = Embedding(self.block, self.width, key=random.fold_in(key, 1001))
        norm = LayerNorm(self.width, use_bias=self.bias)
        return GPT(tokens, places, Dropout(self.dropout), blocks, norm)

    def _initializer(self, gain: float) -> init.Initializer:
        if self.init_std is None:
            return functools.partial(init.lecun_normal, gain=gain)
        return functools.partial(init.normal, std=self.init_std * gain)


MODELS: Mapping[str, Any] = {
    each.name: each for each in (MLPChoice, CNNChoice, TwoConvolutionsChoice, GPTChoice)
}


# ---- shared ---------------------------------------------------------------------------------


def _rows(x: Any) -> Array:
    array = lift(x)
    return reshape(array, (array.shape[0], math.prod(array.shape[1:])))


def _image(name: str, inputs: Shape) -> Shape:
    if len(inputs) != 3:
        raise ArgumentError(
            f"model {name} sees images, and an example here has shape {inputs}", hint="--model mlp"
        )
    return inputs


def _require_numbers(name: str, inputs: Shape) -> None:
    if not inputs:
        raise ArgumentError(f"model {name} takes numbers, and this is text", hint="--model gpt")
