"""Hyper-parameters: numbers, arrays or schedules, all of them scalars inside the compiled step.

A hyper-parameter never widens what it meets: a learning rate in float64 leaves parameters in
float32 alone. What may change between steps lives in the state (`inject_hyperparams`), so that a
change is another number for the same program.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optree

from pullback._public import public
from pullback.errors import ArgumentError, ShapeError
from pullback.ir.array import Array
from pullback.ir.types import float64, int64
from pullback.nn.module import Module
from pullback.ops.operators import cast, constant, lift
from pullback.ops.weak import Weak
from pullback.optim.optimizer import Optimizer
from pullback.transforms.tree import NAMESPACE, Tree, built

Schedule = Callable[[Array], Any]
"""From the number of steps taken before, a float64 scalar, to a number."""

Hyperparameter = float | Array | Schedule


# ---- as a number ----------------------------------------------------------------------------


def number(value: Any, step: Array | None = None) -> Any:
    """The hyper-parameter at a step, as a number that takes the element type of what it meets."""
    if callable(value):
        assert step is not None
        value = value(cast(step, float64))
    if not isinstance(value, Array | np.ndarray | np.generic):
        return value
    array = lift(value)
    if array.ndim:
        raise ShapeError(f"a hyper-parameter is a scalar, not {array.type}")
    return Weak(cast(array, float64), 0)


def present(value: Any) -> bool:
    """False for the number 0, which switches a part off; what is known only later is on."""
    return not (isinstance(value, float | int) and value == 0)


def start(*values: Any) -> Array | None:
    """The count of steps that an optimiser keeps for its schedules; None where it has none."""
    return constant(0, int64) if any(callable(value) for value in values) else None


def following(step: Array | None) -> Array | None:
    return None if step is None else step + 1


# ---- changed between steps ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Origin:
    """What made an optimiser, to ask it whether it takes other numbers."""

    make: Callable[..., Optimizer]
    others: Mapping[str, Any] = field(compare=False, repr=False)
    """The arguments that are no numbers."""

    def require(self, known: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
        """Raise what the maker raises; 0, which stops a part for a while, is for any."""
        asked = {k: _asked(v) for k, v in changed.items()}
        self.make(**{**self.others, **known, **{k: v for k, v in asked.items() if present(v)}})

    def __repr__(self) -> str:
        return getattr(self.make, "__name__", "optimizer")


class HyperparamsState(Module):
    """The steps taken, the hyper-parameters of the last or next step, and the optimiser's state."""

    step: Array
    hyperparams: dict[str, Array]
    inner: Any
    origin: _Origin


def inject_hyperparams(make: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    """`make` with its numbers kept in the optimiser's state, where a loop can read and set them.

    As Optax's function of this name. Numbers and schedules become float64 scalars
    `state.hyperparams[name]`; flags, functions of trees and None stay what they are. A schedule is
    evaluated in each step; any other is changed with `with_hyperparams`. Nothing compiles again.

    The number 0 switches a part off (no momentum, no decay): it needs no memory, and is no entry of
    `state.hyperparams`. What is to be switched on later begins at a small number, or at an array.

    >>> import pullback as pb
    >>> optimizer = pb.optim.inject_hyperparams(pb.optim.sgd)(lr=0.5)
    >>> state = pb.optim.with_hyperparams(optimizer.init(pb.asarray(1.0)), lr=0.25)
    >>> updates, state = optimizer.update(pb.asarray(2.0), state, pb.asarray(1.0))
    >>> float(updates)
    -0.5
    """

    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Optimizer:
        make(*args, **kwargs)  # which refuses senseless values
        bound = inspect.signature(make).bind(*args, **kwargs)
        bound.apply_defaults()
        moving = {k: v for k, v in bound.arguments.items() if k == "lr" and callable(v)}
        held = {k: v for k, v in bound.arguments.items() if _is_number(v) and present(v)}
        return _injected(make, bound, moving, held)

    return public(made, getattr(make, "__name__", "inject_hyperparams"))


def _injected(
    make: Callable[..., Optimizer],
    bound: inspect.BoundArguments,
    moving: dict[str, Schedule],
    held: dict[str, Any],
) -> Optimizer:
    others = {k: v for k, v in bound.arguments.items() if k not in held and k not in moving}
    origin = _Origin(make, others)

    def with_numbers(values: dict[str, Array]) -> Optimizer:
        return make(**{**others, **values})

    def at(step: Array, values: dict[str, Any]) -> dict[str, Array]:
        now = {k: schedule(cast(step, float64)) for k, schedule in moving.items()}
        return {k: _scalar(value) for k, value in {**values, **now}.items()}

    def init(params: Tree) -> HyperparamsState:
        step = constant(0, int64)
        values = at(step, held)
        return HyperparamsState(step, values, with_numbers(values).init(params), origin)

    def update(grads: Tree, state: HyperparamsState, params: Tree) -> tuple[Tree, Any]:
        values = at(state.step, state.hyperparams)
        updates, inner = with_numbers(values).update(grads, state.inner, params)
        return updates, state.replace(step=state.step + 1, hyperparams=values, inner=inner)

    return Optimizer(public(init, "inject_hyperparams"), public(update, "inject_hyperparams"))


@public
def with_hyperparams(state: Tree, **values: float | Array) -> Tree:
    """The state with other hyper-parameters, wherever in it `inject_hyperparams` put them.

    Raises `ArgumentError` for a name that the state has not (a number that began as exactly 0 is
    none), or a number that the optimiser does not take; 0 is taken by all.
    """
    for name, value in values.items():
        require(name, value, "is finite and not negative", lambda x: x >= 0)
    found: set[str] = set()

    def changed(part: Any) -> Any:
        if not isinstance(part, HyperparamsState):
            return part
        own = {k: v for k, v in values.items() if k in part.hyperparams}
        found.update(own)
        if own:
            part.origin.require(part.hyperparams, own)
        scalars = {k: _scalar(v) for k, v in own.items()}
        numbers = {**part.hyperparams, **scalars}
        return part.replace(hyperparams=numbers, inner=everywhere(part.inner))

    def everywhere(tree: Tree) -> Tree:
        return optree.tree_map(
            changed, tree, is_leaf=lambda x: isinstance(x, HyperparamsState), namespace=NAMESPACE
        )

    result = everywhere(built(state))
    for name in values:
        if name not in found:
            raise ArgumentError(
                f"the state has no hyper-parameter {name}",
                hint="make the optimiser with pb.optim.inject_hyperparams(pb.optim.adam)(lr=...); "
                "a number that is 0 there is switched off: begin with a small one",
            )
    return result


def _scalar(value: Any) -> Array:
    """As it stands in a state: a float64 array without axes."""
    if isinstance(value, Array | np.ndarray):
        array = lift(value)
        if array.ndim:
            raise ShapeError(f"a hyper-parameter is a scalar, not {array.type}")
        return cast(array, float64)
    return constant(value, float64)


def _asked(value: Any) -> Any:
    """An array's number, where it has one, which can be checked."""
    return value.item() if isinstance(value, Array) and value.has_numbers else value


def _is_number(value: Any) -> bool:
    numbers = (float, int, Weak, Array, np.ndarray, np.generic)
    return isinstance(value, numbers) and not isinstance(value, bool)


# ---- refused --------------------------------------------------------------------------------


def require_rate(value: Any, what: str = "lr") -> None:
    """Raise unless `value` is a positive number, or one that is known only in the step."""
    if not callable(value):
        require(what, value, "is positive and finite", lambda x: x > 0)


def require_decays(**decays: Any) -> None:
    for name, value in decays.items():
        require(name, value, "lies in [0, 1)", lambda x: 0 <= x < 1)


def require_weights(**weights: Any) -> None:
    for name, value in weights.items():
        require(name, value, "is finite and not negative", lambda x: x >= 0)


def require_positive(**values: Any) -> None:
    for name, value in values.items():
        require(name, value, "is positive and finite", lambda x: x > 0)


def require_count(**counts: Any) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name} is a positive integer, not {value!r:.60}")


def require(name: str, value: Any, law: str, holds: Callable[[float], bool]) -> None:
    """Raise `ArgumentError` unless the number obeys the law; a traced one cannot be asked."""
    if not _is_number(value):
        raise ArgumentError(f"{name} is a number, not {value!r:.60}")
    if isinstance(value, Array | Weak):
        return
    if np.ndim(value):
        raise ShapeError(f"{name} is a scalar, not an array of shape {np.shape(value)}")
    if not (math.isfinite(value) and holds(float(value))):
        raise ArgumentError(f"{name} {law}, not {value}")
