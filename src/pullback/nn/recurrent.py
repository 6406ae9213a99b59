"""Recurrent layers: `scan` over time. (…, T, in_size) → ((…, T, hidden_size), the final state).

What the inputs of all steps give is one matrix product before the scan. Rows of the weights belong
to gates in the order of torch; its two biases are added into one, where they only add.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from pullback import random
from pullback.errors import ShapeError
from pullback.functions.activations import sigmoid, tanh
from pullback.functions.manipulation import concat, moveaxis
from pullback.ir.array import Array
from pullback.ir.types import Shape, TensorType, as_dtype, float32
from pullback.nn import init
from pullback.nn.init import Initializer
from pullback.nn.linear import affine, require_sizes
from pullback.nn.module import Module
from pullback.ops.operators import cut, full, lift, zeros
from pullback.transforms.control import scan
from pullback.transforms.tree import flatten


class _Recurrent(Module):
    """What recurrent layers share."""

    _initial_bias: ClassVar[tuple[float, ...]]
    """Of each gate."""

    weight_input: Array
    """(gates · hidden_size, in_size)"""
    weight_hidden: Array
    """(gates · hidden_size, hidden_size)"""
    bias: Array | None
    """(gates · hidden_size,), or None"""
    reverse: bool
    """Whether it reads from the last step to the first."""

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        use_bias: bool = True,
        reverse: bool = False,
        *,
        key: Array,
        initializer: Initializer = init.xavier_uniform,
        hidden_initializer: Initializer = init.orthogonal,
        dtype: Any = float32,
    ) -> None:
        require_sizes(in_size=in_size, hidden_size=hidden_size)

        def drawn(initializer: Initializer, columns: int, i: int) -> Array:
            gates, shape = len(self._initial_bias), (hidden_size, columns)
            keys = random.split(random.fold_in(key, i), gates)
            return concat([initializer(keys[gate], shape, dtype) for gate in range(gates)])

        self.weight_input = drawn(initializer, in_size, 0)
        self.weight_hidden = drawn(hidden_initializer, hidden_size, 1)
        kind = TensorType((hidden_size,), as_dtype(dtype))
        self.bias = concat([full(kind, b) for b in self._initial_bias]) if use_bias else None
        self.reverse = reverse
        self._complete(use_bias, dtype)

    def _complete(self, use_bias: bool, dtype: Any) -> None:
        """Make what only this kind of layer has."""

    @property
    def hidden_size(self) -> int:
        """Number of units."""
        return self.weight_hidden.shape[1]

    def initial_state(self, batch: Shape = ()) -> Any:
        """The state before the first step of x (*batch, T, in_size): zeros."""
        return zeros(TensorType((*batch, self.hidden_size), self.weight_hidden.dtype))

    def __call__(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """`(y, state)`: what each step gives, and the state after the last; zeros before the first
        unless `state` is given.
        """
        steps = lift(x)
        if steps.ndim < 2:
            raise ShapeError(f"a sequence is (..., T, in_size), which {steps.type} is not")
        inputs = affine(steps, self.weight_input, self.bias)
        begin = self.initial_state(inputs.shape[:-2]) if state is None else state
        self._require_fitting(begin, steps)
        weight = self.weight_hidden.T

        def step(state: Any, row: Array) -> tuple[Any, Array]:
            return self._step(state, row, weight)

        end, y = scan(step, begin, moveaxis(inputs, -2, 0), reverse=self.reverse)
        return moveaxis(y, 0, -2), end

    def _require_fitting(self, state: Any, x: Array) -> None:
        expected = (*x.shape[:-2], self.hidden_size)
        for part in flatten(state)[0]:
            if lift(part).shape != expected:
                raise ShapeError(
                    f"the state is {lift(part).type}; for x {x.type} its shape is {expected}",
                    hint="state = layer.initial_state(batch) with the leading sizes of x",
                )

    def _step(self, state: Any, row: Array, weight: Array) -> tuple[Any, Array]:
        """The state after a step and what the step gives; `row` is W x + b, `weight` is Uᵀ."""
        raise NotImplementedError

    def _gate(self, x: Array, i: int) -> Array:
        size = self.hidden_size
        return cut(x, x.ndim - 1, i * size, (i + 1) * size)


class RNN(_Recurrent):
    """h ← f(W x + U h + b), f the activation (Elman 1990)."""

    _initial_bias = (0,)

    activation: Callable[[Array], Array]

    def __init__(
        self,
        in_size: int,
        hidden_size: int,
        use_bias: bool = True,
        reverse: bool = False,
        activation: Callable[[Array], Array] = tanh,
        *,
        key: Array,
        initializer: Initializer = init.xavier_uniform,
        hidden_initializer: Initializer = init.orthogonal,
        dtype: Any = float32,
    ) -> None:
        super().__init__(
            in_size,
            hidden_size,
            use_bias,
            reverse,
            key=key,
            initializer=initializer,
            hidden_initializer=hidden_initializer,
            dtype=dtype,
        )
        self.activation = activation

    def _step(self, state: Array, row: Array, weight: Array) -> tuple[Array, Array]:
        hidden = self.activation(row + state @ weight)
        return hidden, hidden


class GRU(_Recurrent):
    """h ← (1 - z) n + z h,  n = tanh(W x + b + r (U h + b′)),  r and z sigmoid gates.

    Cho et al. 2014; gates in the order r, z, n.
    """

    _initial_bias = (0, 0, 0)

    bias_hidden: Array | None
    """(hidden_size,), or None: b′, which r multiplies"""

    def _complete(self, use_bias: bool, dtype: Any) -> None:
        kind = TensorType((self.hidden_size,), as_dtype(dtype))
        self.bias_hidden = zeros(kind) if use_bias else None

    def _step(self, state: Array, row: Array, weight: Array) -> tuple[Array, Array]:
        recurrent = state @ weight
        r, z = (sigmoid(self._gate(row, i) + self._gate(recurrent, i)) for i in (0, 1))
        memory = self._gate(recurrent, 2)
        if self.bias_hidden is not None:
            memory = memory + self.bias_hidden
        candidate = tanh(self._gate(row, 2) + r * memory)
        hidden = (1 - z) * candidate + z * state
        return hidden, hidden


class LSTMState(NamedTuple):
    """What is told at each step, and what is remembered: (…, hidden_size) each."""

    hidden: Array
    cell: Array


class LSTM(_Recurrent):
    """c ← f c + i g,  h = o tanh c,  g = tanh(W x + U h + b),  i, f and o sigmoid gates.

    Hochreiter & Schmidhuber 1997; gates in the order i, f, g, o. The bias of f begins at 1, so that
    an untrained cell remembers (Gers et al. 2000).
    """

    _initial_bias = (0, 1, 0, 0)

    def initial_state(self, batch: Shape = ()) -> LSTMState:
        """Zeros."""
        return LSTMState(super().initial_state(batch), super().initial_state(batch))

    def _step(self, state: LSTMState, row: Array, weight: Array) -> tuple[LSTMState, Array]:
        hidden, cell = state
        gates = row + hidden @ weight
        i, f, o = (sigmoid(self._gate(gates, k)) for k in (0, 1, 3))
        cell = f * cell + i * tanh(self._gate(gates, 2))
        hidden = o * tanh(cell)
        return LSTMState(hidden, cell), hidden
