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

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


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

    def __call__(self, model: Any, *batch: Any, **named: Any) -> Any:
        return self.call(model, *self._between(batch, named), **named)

    def _between(self, batch: Sequence[Any], named: dict[str, Any]) -> list[Any]:
        """The batch in its places, as of `(model, state, x, y)`; what is named is taken out of
        `named` where its place comes before one of the batch."""
        known = self.signature.parameters.values() if self.signature else ()
        rest, result = [*batch], []
        for name in [p.name for p in known if p.kind in _POSITIONAL][1:]:
            if not rest:
                break
            result.append(named.pop(name) if name in named else rest.pop(0))
        return [*result, *rest]

    def named(self, state: Tree, key: Any) -> dict[str, Any]:
        """What it is given by name."""
        given = {"state": state} if self.takes_state else {}
        return given | ({"key": key} if self.takes_key else {})

    def sign(self, program: Callable[..., Any], first: str) -> None:
        """Let the arguments of a program `(first, *batch)` have the names they have here."""
        named = self.signature.parameters.values() if self.signature else ()
        batch = [p for p in list(named)[1:] if p.name not in ("key", "state")]
        if batch and all(p.kind in _POSITIONAL and p.name != first for p in batch):
            kind = inspect.Parameter.POSITIONAL_ONLY
            parameters = [inspect.Parameter(p, kind) for p in (first, *[p.name for p in batch])]
            program.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]

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

    def require_state(self, network_state: Tree) -> None:
        """Raise `ArgumentError` where it asks for a state and there is none."""
        if self.takes_state and network_state is None:
            raise ArgumentError(
                f"{self.name} takes a state, and none is given",
                hint="network_state=model.initial_state()",
            )

    def require_fitting(self, batch: Sequence[Any], named: dict[str, Any]) -> None:
        """Raise `ArgumentError` where it cannot be called with a model, this batch and these."""
        if self.signature is None:
            return
        try:
            given = {**named}
            self.signature.bind(None, *self._between(batch, given), **given)
        except TypeError as error:
            raise ArgumentError(
                f"{self.name}{self.signature} takes no model and batch of {len(batch)}: {error}"
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


def _described(result: Any) -> str:
    if isinstance(result, Array):
        return str(result.type)
    size = f" of {len(result)}" if isinstance(result, tuple | list) else ""
    return f"a {type(result).__name__}{size}" if result is not None else "nothing"


def paired(result: Any, form: str) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise StructureError(f"it returns {form}, and returned {_described(result)}")
    return result


def scalar_loss(loss: Any) -> Array:
    if isinstance(loss, tuple):
        raise StructureError(
            f"it returned {_described(loss)}, and a loss is one number",
            hint="train_step(..., has_aux=True) takes a function that returns (loss, aux)",
        )
    leaves, structure = flatten_arrays(loss, "the loss")
    if not structure.is_leaf() or len(leaves) != 1:
        raise StructureError(f"it returned {_described(loss)}, and a loss is one number")
    value = leaves[0]
    if value.shape != ():
        raise ShapeError(
            f"it returned {value.type}, and a loss is one number",
            hint="reduce it with pb.mean(loss)",
        )
    if not is_float(value.dtype):
        raise DTypeError(f"it returned {value.type}, and a loss is a floating-point number")
    return value


def same_types(after: Tree, before: Tree) -> Tree:
    """The network state that was returned, if it is of the structure and types of the one given."""
    new, structure = flatten_arrays(after, "the network state")
    old, expected = flatten_arrays(before, "the network state")
    if structure != expected:
        raise StructureError(
            "the state that it returned has another structure than the one it was given",
            hint="y, state = layer(x, state, train=True), and return (loss, state)",
        )
    for i, (x, y) in enumerate(zip(new, old, strict=True)):
        if x.type != y.type:
            raise ShapeError(
                f"{paths(structure, 'state')[i]} is {y.type} and was returned {x.type}"
            )
    return after
