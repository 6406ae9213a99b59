"""`custom_derivative`: a function that brings its own derivative rules."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any

import numpy as np

from pullback._public import public
from pullback.errors import (
    DTypeError,
    LeakedValueError,
    NotDifferentiableError,
    ShapeError,
    StructureError,
)
from pullback.ir.array import Array
from pullback.ir.builder import current
from pullback.ir.graph import without_numbers
from pullback.ir.op import Maybe
from pullback.ir.types import TensorType, is_float
from pullback.ops.custom import Custom, Residuals
from pullback.ops.operators import constant, lift, zeros
from pullback.ops.subgraph import chosen, put, types_of
from pullback.ops.weak import Weak
from pullback.transforms.derivatives import name_of
from pullback.transforms.trace import trace_leaves
from pullback.transforms.tree import (
    Tree,
    TreeDef,
    argument_names,
    described,
    flatten,
    flatten_arrays,
    paths,
    unflatten,
)
from pullback.transforms.walk import apply_known

Function = Callable[..., Any]


class custom_derivative:
    """A function with derivative rules of its own; decorate it, then give it one rule or both.

    `f.defvjp(fwd, bwd)`: `fwd(*args)` returns `(out, residuals)`; `bwd(residuals, cotangent)`
    returns a tuple with the cotangent of each argument, None for zero or for what is no array.
    `f.defjvp(rule)`: `rule(primals, tangents)` returns `(out, tangent_out)`; the tangent of what is
    no floating-point array is None. A missing rule is the transpose of the one given.

    The rules are differentiated for higher orders, so they are made of differentiable functions.
    Arguments that are no arrays (Python numbers, strings, functions) reach `f` and the rules as
    they are. Values of a surrounding function that `f` uses have no derivative by these rules:
    asking for it raises `NotDifferentiableError`.

    >>> import pullback as pb
    >>> @pb.custom_derivative
    ... def clipped(x):  # its gradient is at most 1
    ...     return x * x
    >>> clipped.defvjp(lambda x: (x * x, x), lambda x, bar: (pb.minimum(2.0 * x, 1.0) * bar,))
    >>> float(pb.grad(clipped)(5.0))
    1.0
    """

    def __init__(self, f: Function) -> None:
        self.f = f
        self.fwd: Function | None = None
        self.bwd: Function | None = None
        self.rule: Function | None = None
        functools.update_wrapper(self, f)
        self._bordered = public(self._apply, name_of(f))

    def defvjp(self, fwd: Function, bwd: Function) -> None:
        """Give the reverse-mode rule."""
        self.fwd, self.bwd = fwd, bwd

    def defjvp(self, rule: Function) -> Function:
        """Give the forward-mode rule; returns it, so that it can decorate."""
        self.rule = rule
        return rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._bordered(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        args = self._positional(args, kwargs)
        if current() is None or (self.fwd is None and self.rule is None):
            return self.f(*args)
        arrays, arguments = _Mixed.of(args)

        def on_arrays(*values: Array) -> Any:
            return self.f(*arguments.rebuild(values))

        traced = trace_leaves(on_arrays, arrays, flatten(tuple(arrays))[1])
        graph = traced.graph
        types = types_of(graph.outputs)
        rules = _UserRules(
            self.f, self.fwd, self.bwd, self.rule, arguments, types_of(arrays), traced.result, types
        )
        op = Custom(without_numbers(graph), rules, len(traced.captured))
        return traced.rebuild(apply_known(op, (*arrays, *traced.captured), graph.outputs))

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """All arguments in the order of the parameters, as the rules receive them."""
        if not kwargs:
            return args
        bound = inspect.signature(self.f).bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise StructureError(
                f"{name_of(self.f)} takes {', '.join(bound.kwargs)} by keyword only, which "
                "derivative rules cannot receive",
                hint="make it a positional parameter",
            )
        return bound.args


# ---- trees of arrays and other things -------------------------------------------------------

_ARRAY = object()
"""Stands in the place of an array."""


@dataclass(frozen=True, eq=False)
class _Mixed:
    """A tree whose arrays have been taken out; what is no array is still in its place."""

    treedef: TreeDef
    leaves: tuple[Any, ...]

    @classmethod
    def of(cls, tree: Tree) -> tuple[list[Array], _Mixed]:
        leaves, treedef = flatten(tree)
        is_array = [isinstance(x, Array | np.ndarray | np.generic) for x in leaves]
        arrays = [lift(x) for x, flag in zip(leaves, is_array, strict=True) if flag]
        kept = [_ARRAY if flag else x for x, flag in zip(leaves, is_array, strict=True)]
        return arrays, cls(treedef, tuple(kept))

    @property
    def places(self) -> list[bool]:
        """Which leaves are arrays."""
        return [x is _ARRAY for x in self.leaves]

    def rebuild(self, arrays: Sequence[Any]) -> Tree:
        full = zip(self.leaves, put(self.places, arrays), strict=True)
        return unflatten(self.treedef, [x if kept is _ARRAY else kept for kept, x in full])

    def only(self, arrays: Sequence[Any]) -> Tree:
        """The tree with None for what is no array."""
        return unflatten(self.treedef, put(self.places, arrays))


# ---- the rules, flat ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class _UserRules:
    """A user's rules between flat arrays, as `Custom` calls them; checks what they return."""

    f: Function
    fwd: Function | None
    bwd: Function | None
    rule: Function | None
    arguments: _Mixed
    inputs: tuple[TensorType, ...]
    result: TreeDef
    types: tuple[TensorType, ...]

    def __repr__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return name_of(self.f)

    @property
    def has_reverse(self) -> bool:
        return self.fwd is not None

    @property
    def has_forward(self) -> bool:
        return self.rule is not None

    @property
    def origin(self) -> object:
        return self.f, self.fwd, self.bwd, self.rule

    @property
    def code(self) -> CodeType | None:
        return getattr(inspect.unwrap(self.bwd or self.rule or self.f), "__code__", None)

    def applied(self, inputs: Sequence[Array]) -> Sequence[Array]:
        again = custom_derivative(self.f)
        again.fwd, again.bwd, again.rule = self.fwd, self.bwd, self.rule
        return flatten_arrays(again(*self.arguments.rebuild(inputs)), "the result")[0]

    def forward(self, inputs: Sequence[Array]) -> Residuals:
        assert self.fwd is not None
        with self._running():
            out, residuals = self._pair("fwd", self.fwd(*self.arguments.rebuild(inputs)))
        leaves, treedef = flatten_arrays(out, "the result")
        if treedef != self.result or types_of(leaves) != self.types:
            raise StructureError(
                f"fwd of {self.name} returned {described(treedef, types_of(leaves))} as its "
                f"result, {self.name} itself returns {described(self.result, self.types)}"
            )
        arrays, structure = _Mixed.of(residuals)
        return Residuals(tuple(arrays), structure)

    def backward(self, residuals: Residuals, bars: Sequence[Array]) -> Sequence[Maybe]:
        assert self.bwd is not None
        cotangent = unflatten(self.result, put([is_float(t.dtype) for t in self.types], bars))
        with self._running():
            pulled = self.bwd(residuals.structure.rebuild(residuals.values), cotangent)
        children = self.arguments.treedef.children()
        names = argument_names(self.f, range(len(children)))
        if not isinstance(pulled, tuple) or len(pulled) != len(children):
            found = f"a tuple of {len(pulled)}" if isinstance(pulled, tuple) else "no tuple"
            raise StructureError(
                f"bwd of {self.name} returned {found}; a tuple of {len(children)} is needed, a "
                f"cotangent for each of its arguments ({', '.join(names)})",
                hint="None stands for zero, and for the cotangent of what is no array",
            )
        given: list[Any] = []
        listed: list[str] = []
        for name, child, bar in zip(names, children, pulled, strict=True):
            given += _up_to(child, bar, f"the cotangent of `{name}` from bwd of {self.name}")
            listed += [
                f"the cotangent of `{x}` from bwd of {self.name}" for x in paths(child, name)
            ]
        places = self.arguments.places
        bars_and_paths = zip(
            chosen(given, places), chosen(listed, places), self.inputs, strict=True
        )
        return [_checked(bar, kind, path) for bar, path, kind in bars_and_paths]

    def push(self, inputs: Sequence[Array], dots: Sequence[Array]) -> Sequence[Array]:
        assert self.rule is not None
        primals = self.arguments.rebuild(inputs)
        tangents = self.arguments.only(put([is_float(x.dtype) for x in inputs], dots))
        with self._running():
            _, tangent_out = self._pair("rule", self.rule(primals, tangents))
        what = f"the tangent from rule of {self.name}"
        made = [
            (_checked(dot, kind, what), kind)
            for dot, kind in zip(_up_to(self.result, tangent_out, what), self.types, strict=True)
        ]
        return [zeros(kind) if dot is None else dot for dot, kind in made if is_float(kind.dtype)]

    def _pair(self, which: str, returned: Any) -> tuple[Any, Any]:
        if not isinstance(returned, tuple) or len(returned) != 2:
            second = "residuals" if which == "fwd" else "tangent_out"
            raise StructureError(f"the {which} of {self.name} returns a pair (out, {second})")
        return returned

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Say what to do when a rule uses a value of the function around it."""
        try:
            yield
        except LeakedValueError as error:
            raise NotDifferentiableError(
                f"a derivative rule of {self.name} uses a value of the function around it, whose "
                "trace has ended",
                hint="pass the value as an argument, and from fwd to bwd as a residual",
            ) from error


def _up_to(treedef: TreeDef, tree: Tree, what: str) -> list[Any]:
    """What stands in `tree` where `treedef` has leaves; None for all where the tree is None."""
    if tree is None:
        return [None] * treedef.num_leaves
    try:
        return list(treedef.flatten_up_to(tree))
    except ValueError as error:
        raise StructureError(f"{what} has another structure than {treedef}: {error}") from None


def _checked(bar: Any, kind: TensorType, what: str) -> Maybe:
    if bar is None or not is_float(kind.dtype):
        return None
    if not isinstance(bar, Array | Weak | bool | int | float | np.ndarray | np.generic):
        raise StructureError(f"{what} is a {type(bar).__name__}, the value it belongs to is {kind}")
    array = constant(bar, kind.dtype) if type(bar) in (bool, int, float) else lift(bar)
    if array.shape != kind.shape:
        raise ShapeError(f"{what} is {array.type}, the value it belongs to is {kind}")
    if array.dtype != kind.dtype:
        raise DTypeError(f"{what} is {array.type}, the value it belongs to is {kind}")
    return array
