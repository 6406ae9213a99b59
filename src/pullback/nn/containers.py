"""Layers made of layers.

A layer says what its call takes besides x: `takes_train` for `train=` (and `key=`), `is_stateful`
for a state, which it then returns beside its result. A container passes on what its layers take,
and takes it itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

from pullback import random
from pullback.errors import ArgumentError, ShapeError
from pullback.ir.array import Array
from pullback.nn.module import Module
from pullback.ops.operators import lift

Layer = Callable[..., Any]
"""A module, or a function of one array (`pb.nn.relu`)."""


class _Container(Module):
    """A module whose call runs layers one after the other."""

    def _parts(self) -> Sequence[Layer]:
        raise NotImplementedError

    @property
    def takes_train(self) -> bool:  # type: ignore[override]
        return any(_takes_train(layer) for layer in self._parts())

    @property
    def is_stateful(self) -> bool:  # type: ignore[override]
        return any(_is_stateful(layer) for layer in self._parts())

    def initial_state(self) -> Any:
        """A tuple with the state of each layer, None for one without; None if all are."""
        if not self.is_stateful:
            return None
        return tuple([x.initial_state() if _is_stateful(x) else None for x in self._parts()])

    def _require_state(self, state: Any) -> None:
        if self.is_stateful and (not isinstance(state, tuple) or len(state) != len(self._parts())):
            raise ArgumentError(
                f"{type(self).__name__} has layers with state and was given "
                f"{'none' if state is None else 'another'}",
                hint="begin with state = model.initial_state(); y, state = model(x, state, ...)",
            )

    def _call(
        self, i: int, x: Any, state: Any, train: bool | None, key: Array | None
    ) -> tuple[Any, Any]:
        """The result of part i, and its state afterwards."""
        layer = self._parts()[i]
        modes = self._modes(layer, i, train, key)
        if _is_stateful(layer):
            y, after = layer(x, state[i], **modes)
            return y, after
        y = layer(x, **modes)
        if isinstance(y, tuple):
            raise ArgumentError(
                f"{_name(layer)} gives {len(y)} results, and what follows takes one",
                hint="write a Module whose __call__ takes them apart",
            )
        return y, None

    def _modes(self, layer: Layer, i: int, train: bool | None, key: Array | None) -> dict[str, Any]:
        if not _takes_train(layer):
            return {}
        if train is None:
            raise ArgumentError(
                f"{_name(layer)} acts otherwise in training than in use",
                hint="say which: model(x, train=True) or model(x, train=False)",
            )
        return {"train": train, "key": None if key is None else random.fold_in(key, i)}


class Sequential(_Container):
    """Layers and functions, one after the other.

    `y = model(x)`; with dropout inside `model(x, train=…, key=…)`; with batch norm inside
    `y, state = model(x, state, train=…)`.
    """

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer) -> None:
        given = layers[0] if len(layers) == 1 and isinstance(layers[0], list | tuple) else layers
        self.layers = tuple(given)
        for i, layer in enumerate(self.layers):
            if not callable(layer):
                raise ArgumentError(f"layer {i} is no layer and no function: {layer!r:.60}")

    def _parts(self) -> Sequence[Layer]:
        return self.layers

    def __call__(
        self, x: Any, state: Any = None, *, train: bool | None = None, key: Array | None = None
    ) -> Any:
        self._require_state(state)
        states = []
        for i in range(len(self.layers)):
            x, after = self._call(i, x, state, train, key)
            states.append(after)
        return (x, tuple(states)) if self.is_stateful else x

    def __getitem__(self, i: int) -> Layer:
        return self.layers[i]

    def __len__(self) -> int:
        return len(self.layers)


class ResidualBlock(_Container):
    """activation(shortcut(x) + body(x)) (He et al. 2016); the shortcut is x itself unless given."""

    body: Layer
    shortcut: Layer | None = None
    activation: Layer | None = None

    def _parts(self) -> Sequence[Layer]:
        return (self.body,) if self.shortcut is None else (self.body, self.shortcut)

    def __call__(
        self, x: Any, state: Any = None, *, train: bool | None = None, key: Array | None = None
    ) -> Any:
        self._require_state(state)
        y, after = self._call(0, x, state, train, key)
        states = [after]
        if self.shortcut is not None:
            x, after = self._call(1, x, state, train, key)
            states.append(after)
        if lift(x).shape != y.shape:
            raise ShapeError(
                f"the body gives {y.type} and the shortcut {lift(x).type}",
                hint="shortcut=Conv2d(…, kernel_size=1, stride=…) or Linear brings them together",
            )
        result = x + y if self.activation is None else self.activation(x + y)
        return (result, tuple(states)) if self.is_stateful else result


def _takes_train(layer: Layer) -> bool:
    return isinstance(layer, Module) and layer.takes_train


def _is_stateful(layer: Layer) -> TypeGuard[Any]:
    return isinstance(layer, Module) and layer.is_stateful


def _name(layer: Layer) -> str:
    return getattr(layer, "__name__", type(layer).__name__)
