"""Gradients, products with Jacobians and Hessians, and dense Jacobians."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optree

from pullback._public import public
from pullback.errors import DTypeError, GradientError, ShapeError, StructureError
from pullback.functions import elementwise
from pullback.ir.array import Array
from pullback.ir.op import Maybe
from pullback.ir.types import TensorType, is_float
from pullback.ops.operators import cast, zeros
from pullback.transforms.forward import Forward
from pullback.transforms.graphs import TRANSFORMS
from pullback.transforms.reverse import Reverse
from pullback.transforms.trace import Traced, trace_leaves
from pullback.transforms.tree import (
    NAMESPACE,
    Tree,
    TreeDef,
    argument_names,
    argument_paths,
    built,
    flatten_arrays,
    map_leaves,
    paths,
    require_same,
    unflatten,
)

Function = Callable[..., Any]


# ---- reverse mode ---------------------------------------------------------------------------


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The gradient of a scalar function, in the structure of the argument.

    Several `argnums` give a tuple. With `has_aux`, `f` returns `(loss, aux)` and the result is
    `(gradient, aux)`.

    Raises `ShapeError` when the result of `f` is not a scalar, `DTypeError` when an argument is not
    floating, `GradientError` when the result is a number of Python's or NumPy's.

    >>> import pullback as pb
    >>> float(pb.grad(lambda x: x * x)(3.0))
    6.0
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, result = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result

    return public(gradient, f"grad of {name_of(f)}")


def value_and_grad(
    f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Function:
    """`(value, gradient)`; with `has_aux`, `((value, aux), gradient)`. See `grad`.

    One reverse pass gives the gradient in every parameter, at ≤ 4 forward passes
    (Griewank & Walther 2008, §3.3).
    """

    @functools.wraps(f)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        positions = chosen_positions(f, argnums, len(args))
        chosen, rest = tuple(args[i] for i in positions), args
        leaves, treedef = _float_leaves(f, chosen, positions)
        loss = _graph_valued(_partial(f, positions, rest), has_aux)
        traced = trace_leaves(loss, leaves, treedef, has_aux=has_aux, kwargs=kwargs)
        reverse = Reverse(traced.graph, (*leaves, *traced.captured), range(len(leaves)), TRANSFORMS)
        outputs, aux = traced.divide(reverse.outputs)
        value = _scalar_output(traced, outputs)
        silent: list[Maybe] = [None] * (len(reverse.outputs) - 1)
        bars = reverse.pull([zeros(value.type) + 1, *silent])
        gradients = unflatten(treedef, _dense(bars, leaves))
        out = traced.rebuild([value])
        return (out, aux) if has_aux else out, gradients[0] if isinstance(
            argnums, int
        ) else gradients

    return public(value_and_gradient, f"grad of {name_of(f)}")


@public
def vjp(f: Function, *primals: Any, has_aux: bool = False) -> Any:
    """`(out, pullback)`: `pullback(cotangent)` is the tuple of cotangents of `primals` (uᵀJ).

    The cotangent has the structure of `out`. An integer leaf of `primals` has the cotangent None.
    With `has_aux`, `(out, pullback, aux)`.

    Law: ⟨J v, u⟩ = ⟨v, Jᵀ u⟩ for every tangent v and cotangent u.
    """
    leaves, treedef = flatten_arrays(
        primals, "primals", lambda: argument_names(f, range(len(primals)))
    )
    traced = trace_leaves(f, leaves, treedef, has_aux=has_aux)
    reverse = Reverse(traced.graph, (*leaves, *traced.captured), range(len(leaves)), TRANSFORMS)
    outputs, aux = traced.divide(reverse.outputs)
    kinds = [x.type for x in outputs]
    silent: list[Maybe] = [None] * (len(reverse.outputs) - len(outputs))

    @public
    def pullback(cotangent: Tree) -> Any:
        bars = _matching(cotangent, traced.result, kinds, "cotangent")
        pulled = reverse.pull([*bars, *silent])
        return unflatten(
            treedef,
            [
                x if is_float(leaf.dtype) else None
                for x, leaf in zip(_dense(pulled, leaves), leaves, strict=True)
            ],
        )

    out = traced.rebuild(outputs)
    return (out, pullback, aux) if has_aux else (out, pullback)


# ---- forward mode ---------------------------------------------------------------------------


@public
def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """`(out, tangent_out)`: value and directional derivative J v in one forward pass.

    `primals` and `tangents` are tuples of equal structure and types.
    """
    for name, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, tuple | list):
            raise StructureError(
                f"{name} is a tuple with one entry for each argument, not {type(given).__name__}",
                hint="jvp(f, (x,), (v,)) for a function of one argument",
            )
    traced, forward, push = _forward(f, tuple(primals))
    tangent_out = push(*tangents)
    return traced.rebuild(forward.outputs), tangent_out


@public
def linearize(f: Function, *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """`(out, pushforward)`: `pushforward(*tangents)` is J v; values are computed once."""
    traced, forward, push = _forward(f, primals)
    forward.push([None] * len(traced.graph.inputs))
    return traced.rebuild(forward.outputs), public(push, "pushforward")


def _forward(f: Function, primals: tuple[Any, ...]) -> tuple[Traced, Forward, Callable[..., Any]]:
    leaves, treedef = flatten_arrays(
        primals, "primals", lambda: argument_names(f, range(len(primals)))
    )
    traced = trace_leaves(f, leaves, treedef)
    forward = Forward(traced.graph, (*leaves, *traced.captured), TRANSFORMS)

    def push(*tangents: Any) -> Any:
        dots = _matching(tangents, treedef, [x.type for x in leaves], "tangents")
        pushed = forward.push([*dots, *[None] * len(traced.captured)])
        return traced.rebuild(_dense(pushed, forward.outputs))

    return traced, forward, push


@public
def hvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Hessian-vector product of a scalar function, forward over reverse; H is never formed.

    `primals` are all the arguments of `f`; the result has the structure of `primals[0]` when there
    is one, else of the tuple. Cost: ≤ 3 gradients (Pearlmutter 1994).
    """
    wrt = range(len(primals) if isinstance(primals, tuple | list) else 0)
    result = jvp(grad(f, argnums=wrt), primals, tangents)[1]
    return result[0] if len(primals) == 1 else result


@public
def ggnvp(f: Function, loss: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Gauss-Newton-vector product of `loss(f(*primals))`: Jᵀ H J v, J of `f` and H of `loss`.

    Where `loss` is convex in the outputs of `f` the matrix is positive semidefinite. The result has
    the structure that `hvp` gives; no matrix is formed (Schraudolph 2002).

    >>> import pullback as pb
    >>> float(ggnvp(lambda x: x * x, lambda y: y * y, (3.0,), (1.0,)))
    72.0
    """
    out, moved = jvp(f, primals, tangents)
    curved = hvp(loss, (out,), (moved,))
    _, back = vjp(f, *primals)
    result = back(curved)
    return result[0] if len(primals) == 1 else result


# ---- cuts -----------------------------------------------------------------------------------


@public
def stop_gradient(x: Tree, /, *, why: str = "") -> Any:
    """x, an array or a container of arrays, seen by every derivative as a constant.

    `why` declares that it is meant: `pb.explain` then lists the cut without an alarm.
    """
    return map_leaves(functools.partial(elementwise.stop_gradient, why=why), x)


# ---- checks and conversions -----------------------------------------------------------------


def chosen_positions(f: Function, argnums: Any, count: int) -> tuple[int, ...]:
    """`argnums` as positions from 0 among the `count` arguments `f` was called with."""
    given = argnums if isinstance(argnums, tuple | list | range) else (argnums,)
    positions = []
    for each in given:
        if not isinstance(each, int) or isinstance(each, bool):
            raise StructureError(f"argnums is an int or a tuple of ints, not {argnums!r}")
        if not -count <= each < count:
            raise StructureError(
                f"argnums names argument {each}, but {name_of(f)} was called with {count}"
            )
        positions.append(each % count)
    if len(set(positions)) < len(positions):
        raise StructureError(f"argnums {argnums!r} names an argument twice")
    return tuple(positions)


def _partial(f: Function, positions: tuple[int, ...], args: tuple[Any, ...]) -> Function:
    if positions == tuple(range(len(args))):
        return f

    @functools.wraps(f)
    def called(*chosen: Any, **kwargs: Any) -> Any:
        complete = list(args)
        for position, argument in zip(positions, chosen, strict=True):
            complete[position] = argument
        return f(*complete, **kwargs)

    return called


def _graph_valued(f: Function, has_aux: bool) -> Function:
    """`f`, refused where its loss is no array: no gradient flows to a number of Python's."""

    @functools.wraps(f)
    def called(*args: Any, **kwargs: Any) -> Any:
        result = f(*args, **kwargs)
        loss = result[0] if has_aux and isinstance(result, tuple) and result else result
        if isinstance(loss, int | float | np.generic | np.ndarray):
            kind = type(loss).__name__
            where = "NumPy's" if isinstance(loss, np.generic | np.ndarray) else "Python's"
            raise GradientError(
                f"the function returned a number of {where} ({kind}), to which no gradient flows",
                hint="keep the loss an array: no float(x), x.item(), x.numpy() or NumPy function "
                "on the way; pb.asarray(0.0) is a loss that is constant on purpose",
            )
        return result

    return called


def _float_leaves(
    f: Function, chosen: tuple[Any, ...], positions: tuple[int, ...]
) -> tuple[list[Array], TreeDef]:
    leaves, treedef = flatten_arrays(chosen, "argument", lambda: argument_names(f, positions))
    for i, leaf in enumerate(leaves):
        if not is_float(leaf.dtype):
            path = argument_paths(treedef, argument_names(f, positions))[i]
            raise DTypeError(
                f"{path} is {leaf.type}; a gradient needs floating-point arguments",
                hint="cast it with .astype(pb.float32), or leave it out with argnums=",
            )
    return leaves, treedef


def _scalar_output(traced: Traced, outputs: Sequence[Array], asker: str = "grad") -> Array:
    if len(outputs) != 1:
        what = f"the function returned {len(outputs)} arrays; {asker} needs one scalar loss"
        raise StructureError(what, hint="return (loss, extra) with has_aux=True")
    value = outputs[0]
    if value.shape != ():
        hint = "reduce it with pb.mean or pb.sum, or use pb.vjp or pb.jacobian"
        what = f"the function returned {value.type}; {asker} needs a scalar loss"
        raise ShapeError(what, hint=hint)
    if not is_float(value.dtype):
        raise DTypeError(f"the function returned {value.type}; a loss is a floating-point number")
    return value


def _matching(tree: Tree, expected: TreeDef, kinds: Sequence[TensorType], what: str) -> list[Maybe]:
    """The leaves of a tangent or cotangent, checked against the values they belong to."""
    if _has_none(tree):
        tree = _fill_none(tree, expected, kinds, what)
    leaves, treedef = flatten_arrays(tree, what)
    require_same(expected, treedef, f"the {what}")
    result: list[Maybe] = []
    for path, leaf, kind in zip(paths(expected, what), leaves, kinds, strict=True):
        if leaf.shape != kind.shape:
            raise ShapeError(f"{path} is {leaf.type}, the value it belongs to is {kind}")
        result.append(cast(leaf, kind.dtype) if is_float(kind.dtype) else None)
    return result


def _has_none(tree: Tree) -> bool:
    return any(x is None for x in _leaves_with_none(tree))


def _leaves_with_none(tree: Tree) -> list[Any]:
    return list(optree.tree_leaves(built(tree), none_is_leaf=True, namespace=NAMESPACE))


def _fill_none(tree: Tree, expected: TreeDef, kinds: Sequence[TensorType], what: str) -> Tree:
    given = _leaves_with_none(tree)
    if len(given) != len(kinds):
        raise StructureError(f"the {what} has {len(given)} leaves, expected {len(kinds)}")
    return unflatten(
        expected, [zeros(k) if x is None else x for x, k in zip(given, kinds, strict=True)]
    )


def _dense(bars: Sequence[Maybe], likes: Sequence[Array]) -> list[Array]:
    return [zeros(like.type) if bar is None else bar for bar, like in zip(bars, likes, strict=True)]


def name_of(f: Function) -> str:
    """What to call a user's function in a message."""
    return getattr(f, "__qualname__", type(f).__name__).rpartition("<locals>.")[2]
