"""`vmap`, and what is made of it: dense Jacobians and Hessians."""

from __future__ import annotations

import functools
import itertools
from typing import Any, Literal

import numpy as np

from pullback._public import public
from pullback.errors import ShapeError, StructureError
from pullback.ir.array import Array, concrete
from pullback.ir.types import TensorType, normalize_axis
from pullback.ops.operators import cut, repeated, reshape, transpose
from pullback.transforms.batch import play_batched
from pullback.transforms.derivatives import (
    Function,
    chosen_positions,
    linearize,
    name_of,
    vjp,
)
from pullback.transforms.graphs import TRANSFORMS
from pullback.transforms.trace import trace_leaves
from pullback.transforms.tree import (
    argument_names,
    argument_paths,
    broadcast_prefix,
    flatten,
    flatten_arrays,
    unflatten,
)


def vmap(f: Function, in_axes: Any = 0, out_axes: Any = 0) -> Function:
    """`f` for each example along an axis, computed for all at once.

    `in_axes` is an axis, None (shared by all examples), or a tuple with a prefix of the structure
    of each argument; `out_axes` likewise for the result, which carries the new axis unless None.
    Keyword arguments are shared by all examples.

    `f` runs once on values without numbers: a Python branch on one raises `TracedValueError`.
    Raises `ShapeError` when the numbers of examples differ, `StructureError` when no argument is
    batched.
    """

    @functools.wraps(f)
    def batched(*args: Any, **kwargs: Any) -> Any:
        leaves, treedef = flatten_arrays(
            args, "argument", lambda: argument_names(f, range(len(args)))
        )
        prefix = in_axes if isinstance(in_axes, tuple | list) else (in_axes,) * len(args)
        axes = broadcast_prefix(tuple(prefix), args, "in_axes")
        size = _batch_size(f, leaves, axes, args)
        fronted = [x if a is None else _to_front(x, a) for x, a in zip(leaves, axes, strict=True)]
        flags = [a is not None for a in axes]
        kinds = [
            TensorType(x.shape[1:], x.dtype) if flag else x.type
            for x, flag in zip(fronted, flags, strict=True)
        ]
        traced = trace_leaves(f, kinds, treedef, evaluating=False, kwargs=kwargs)
        outputs, moved = play_batched(
            traced.graph,
            size,
            (*fronted, *traced.captured),
            (*flags, *[False] * len(traced.captured)),
            TRANSFORMS,
        )
        placeholders = traced.rebuild(traced.graph.outputs)
        targets = broadcast_prefix(out_axes, placeholders, "out_axes")
        return traced.rebuild(
            [_place(x, m, a, size) for x, m, a in zip(outputs, moved, targets, strict=True)]
        )

    return public(batched, f"vmap of {name_of(f)}")


def _batch_size(f: Function, leaves: list[Array], axes: list[Any], args: tuple[Any, ...]) -> int:
    sizes: dict[int, int] = {}
    for i, (x, axis) in enumerate(zip(leaves, axes, strict=True)):
        if axis is not None:
            sizes[i] = x.shape[normalize_axis(axis, x.ndim)]
    if not sizes:
        raise StructureError(
            "vmap needs at least one batched argument; every entry of in_axes is None"
        )
    if len(set(sizes.values())) > 1:
        _, treedef = flatten(args)
        listed = argument_paths(treedef, argument_names(f, range(len(args))))
        detail = ", ".join(f"{listed[i]} has {n}" for i, n in sizes.items())
        raise ShapeError(f"the number of examples differs: {detail}")
    return next(iter(sizes.values()))


def _to_front(x: Array, axis: int) -> Array:
    axis = normalize_axis(axis, x.ndim)
    return transpose(x, (axis, *(i for i in range(x.ndim) if i != axis)))


def _place(x: Array, batched: bool, axis: Any, size: int) -> Array:
    if axis is None:
        if batched:
            raise StructureError("out_axes is None for an output that differs between the examples")
        return x
    full = x if batched else repeated(x, size)
    axis = normalize_axis(axis, full.ndim)
    order = list(range(1, full.ndim))
    order.insert(axis, 0)
    return transpose(full, tuple(order))


# ---- dense Jacobians ------------------------------------------------------------------------


def jacfwd(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """The dense Jacobian by forward mode: one pass for each input element.

    For each output leaf of shape S and input leaf of shape T an array of shape S + T.
    """
    return _jacobian(f, argnums, _columns)


def jacrev(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """The dense Jacobian by reverse mode: one pass an output element; shapes as in `jacfwd`."""
    return _jacobian(f, argnums, _rows)


def jacobian(
    f: Function, argnums: int | tuple[int, ...] = 0, mode: Literal["auto", "fwd", "rev"] = "auto"
) -> Function:
    """The dense Jacobian in min(n, m) passes: `auto` takes the cheaper mode by the sizes."""
    if mode not in ("auto", "fwd", "rev"):
        raise StructureError(f"mode {mode!r} is none of 'auto', 'fwd', 'rev'")
    return _jacobian(f, argnums, {"auto": _cheaper, "fwd": _columns, "rev": _rows}[mode])


def hessian(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """The dense matrix of second derivatives of a scalar function, forward over reverse."""
    return jacfwd(jacrev(f, argnums), argnums)


def _jacobian(f: Function, argnums: int | tuple[int, ...], method: Any) -> Function:
    @functools.wraps(f)
    def dense(*args: Any, **kwargs: Any) -> Any:
        positions = chosen_positions(f, argnums, len(args))
        leaves, treedef = flatten_arrays(
            tuple(args[i] for i in positions), "argument", lambda: argument_names(f, positions)
        )

        def flat(*given: Array) -> Any:
            complete = list(args)
            for position, value in zip(positions, unflatten(treedef, given), strict=True):
                complete[position] = value
            return f(*complete, **kwargs)

        structure, blocks = method(flat, leaves)
        rows = [unflatten(treedef, row) for row in blocks]
        return unflatten(structure, [row[0] if isinstance(argnums, int) else row for row in rows])

    return public(dense, f"jacobian of {name_of(f)}")


def _columns(f: Function, leaves: list[Array]) -> tuple[Any, list[list[Array]]]:
    out, pushforward = linearize(f, *leaves)
    outputs, structure = flatten(out)
    count = sum(x.size for x in leaves)
    columns, _ = flatten(vmap(pushforward)(*_basis(leaves, count)))
    splits = _splits(leaves)
    blocks = []
    for column, y in zip(columns, outputs, strict=True):
        last = transpose(reshape(column, (count, y.size)), (1, 0))
        blocks.append(
            [
                reshape(cut(last, 1, a, b), (*y.shape, *x.shape))
                for x, (a, b) in zip(leaves, splits, strict=True)
            ]
        )
    return structure, blocks


def _rows(f: Function, leaves: list[Array]) -> tuple[Any, list[list[Array]]]:
    out, pullback = vjp(f, *leaves)
    outputs, structure = flatten(out)
    count = sum(y.size for y in outputs)
    cotangents = vmap(lambda *bars: pullback(unflatten(structure, bars)))(*_basis(outputs, count))
    return structure, [
        [
            reshape(cut(rows, 0, a, b), (*y.shape, *x.shape))
            for x, rows in zip(leaves, cotangents, strict=True)
        ]
        for y, (a, b) in zip(outputs, _splits(outputs), strict=True)
    ]


def _cheaper(f: Function, leaves: list[Array]) -> tuple[Any, list[list[Array]]]:
    treedef = flatten(tuple(leaves))[1]
    traced = trace_leaves(f, [x.type for x in leaves], treedef, evaluating=False)
    outputs = sum(y.size for y in traced.graph.outputs)
    return (_columns if sum(x.size for x in leaves) <= outputs else _rows)(f, leaves)


def _splits(arrays: list[Array]) -> list[tuple[int, int]]:
    ends = np.cumsum([0, *(x.size for x in arrays)]).tolist()
    return list(itertools.pairwise(ends))


def _basis(arrays: list[Array], count: int) -> list[Array]:
    """The unit vectors of the direct sum of the arrays, along a new axis 0."""
    return [
        concrete(np.eye(count, b - a, -a, dtype=x.dtype).reshape(count, *x.shape))
        for x, (a, b) in zip(arrays, _splits(arrays), strict=True)
    ]
