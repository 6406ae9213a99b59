"""The user's loss function: what it asks for by name, what it returns, and what is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pullback import random
from pullback.errors import ArgumentError, DTypeError, ShapeError, StructureError
from pullback.ir.array import Array
from pullback.ir.types import is_float
from pullback.train.state import TrainState
from pullback.transforms.derivatives import name_of
from pullback.transforms.tree import Tree, flatten_arrays, paths


@dataclass(frozen=True)
class UserFunction:
    """A function of the user's, and which of the state's parts it asks for by name."""

    call: Callable[..., Any]
    name: str
    signature: inspect.Signature | None
    takes_key: bool
    takes_state: bool

    @classmethod
    def of(cls, function: Any, what: str) -> UserFunction:
        if not callable(function):
            raise ArgumentError(
                f"{what} is a function of a model and a batch, not {function!r:.60}"
            )
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            signature = None
        named = signature.parameters if signature else {}
        kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        known = {name for name, x in named.items() if x.kind in kinds}
        name = name_of(function)
        return cls(function, name, signature, "key" in known, "state" in known)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)

    def named(self, state: Tree, key: Any) -> dict[str, Any]:
        """What it is given by name."""
        given = {"state": state} if self.takes_state else {}
        return given | ({"key": key} if self.takes_key else {})

    def form(self, has_aux: bool) -> str:
        """What it is to return."""
        if self.takes_state:
            return "(loss, (state, aux))" if has_aux else "(loss, state)"
        return "(loss, aux)" if has_aux else "loss"

    def names(self, batch: Sequence[Any]) -> list[str]:
        """What it calls the arrays of a batch."""
        parameters = self.signature.parameters.values() if self.signature else ()
        known = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY][1:]
        return [known[i] if i < len(known) else f"batch[{i}]" for i in range(len(batch))]

    def require_fitting(self, batch: Sequence[Any]) -> None:
        """Raise `ArgumentError` where it cannot be called with a model and this batch."""
        if self.signature is None:
            return
        try:
            self.signature.bind(None, *batch, **self.named(None, None))
        except TypeError as error:
            raise ArgumentError(
                f"{self.name}{self.signature} cannot take a model and a batch of {len(batch)}: "
                f"{error}"
            ) from None


def drawn(function: UserFunction, state: TrainState) -> Array | None:
    """The key of this step, for a function that asks for one."""
    if not function.takes_key:
        return None
    if state.key is None:
        raise ArgumentError(
            f"{function.name} takes a key, and the state has none",
            hint="TrainState.create(..., key=pb.random.key(0))",
        )
    return random.fold_in(state.key, state.step)


def paired(result: Any, function: UserFunction, form: str) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise StructureError(
            f"{function.name} returns {form}, and returned a {type(result).__name__}"
            + (f" of {len(result)}" if isinstance(result, tuple) else "")
        )
    return result


def scalar_loss(loss: Any, function: UserFunction) -> Array:
    if isinstance(loss, tuple):
        raise StructureError(
            f"{function.name} returned a tuple of {len(loss)}, and its loss is one scalar",
            hint="train_step(..., has_aux=True) takes a function that returns (loss, aux)",
        )
    leaves, structure = flatten_arrays(loss, "the loss")
    if not structure.is_leaf() or len(leaves) != 1:
        raise StructureError(f"{function.name} returned a {type(loss).__name__}, no scalar loss")
    value = leaves[0]
    if value.shape != ():
        raise ShapeError(
            f"{function.name} returned {value.type}; a loss is one number",
            hint="reduce it with pb.mean(loss)",
        )
    if not is_float(value.dtype):
        raise DTypeError(
            f"{function.name} returned {value.type}; a loss is a floating-point number"
        )
    return value


def same_types(after: Tree, before: Tree, function: UserFunction) -> Tree:
    """The network state that was returned, if it is of the structure and types of the one given."""
    new, structure = flatten_arrays(after, "the network state")
    old, expected = flatten_arrays(before, "the network state")
    if structure != expected:
        raise StructureError(
            f"the state that {function.name} returns has another structure than the one it was "
            "given",
            hint="y, state = layer(x, state, train=True), and return (loss, state)",
        )
    for i, (x, y) in enumerate(zip(new, old, strict=True)):
        if x.type != y.type:
            raise ShapeError(
                f"{paths(structure, 'state')[i]} is {y.type} and was returned {x.type}"
            )
    return after
