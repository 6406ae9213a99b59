"""Scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pullback._public import public
from pullback.errors import DTypeError, ShapeError
from pullback.functions.activations import softmax
from pullback.functions.axes import accumulated
from pullback.ir.array import Array
from pullback.ir.types import Shape, bool_, broadcast_shapes, int64
from pullback.ops import pointwise
from pullback.ops.contract import LETTERS, Contract
from pullback.ops.create import Iota
from pullback.ops.operators import as_float, cast, less_equal, lift, pair, reshape


@public
def attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    causal: bool = False,
    scale: float | None = None,
    bias: Any = None,
    *,
    softcap: float | None = None,
    window: int | tuple[int, int] | None = None,
    dropout: Callable[[Array], Array] | None = None,
) -> Array:
    """softmax(q kᵀ · scale + bias) v, head by head (Vaswani et al. 2017).

    Shapes: q (…, heads, T, d), k (…, heads′, S, d), v (…, heads′, S, e) give (…, heads, T, e);
    heads′ divides heads, and neighbouring query heads share a key head. `scale` is 1/√d unless
    given. `mask` (bool, True = may be seen) and `bias` broadcast to (…, heads, T, S).

    `causal`: a query sees no later key. `window`: it sees so many keys to either side, or (left,
    right). Queries stand at the last T of the S positions, so a cache of keys needs no more.
    `softcap` c bounds the scores to c·tanh(scores/c). A query that sees nothing gets 0, not NaN.
    `dropout` is applied to the weights (…, heads, T, S), the result of the softmax.
    """
    queries, keys = pair(as_float(q), as_float(k))
    queries, values = pair(queries, as_float(v))
    keys = cast(keys, queries.dtype)
    _check(queries, keys, values)
    factor = 1.0 / math.sqrt(queries.shape[-1]) if scale is None else scale
    scores, dtype = accumulated(_per_key_head(queries * factor, keys, "td", "sd", "ts"))
    if softcap is not None:
        scores = pointwise.Tanh()(scores / softcap) * softcap
    if bias is not None:
        scores = scores + cast(_fitting(as_float(bias), scores.shape, "bias"), scores.dtype)
    seen = _seen(mask, scores.shape, causal, window)
    weights = softmax(scores, where=seen)
    if dropout is not None:
        weights = dropout(weights)
    return _per_key_head(cast(weights, dtype), values, "ts", "sd", "td")


def _per_key_head(left: Array, right: Array, rows: str, columns: str, result: str) -> Array:
    """The matrix product of each head of `left` with the head of `right` that it shares."""
    lead = "".join(c for c in LETTERS if c not in "tsdg")[: left.ndim - 2]
    group = "g" if left.ndim > 2 else ""
    shape = left.shape
    if group:
        heads = right.shape[-3]
        left = reshape(left, (*shape[:-3], heads, shape[-3] // max(heads, 1), *shape[-2:]))
    product = Contract(lead + group + rows, lead + columns, lead + group + result)(left, right)
    return reshape(product, (*shape[:-1], product.shape[-1]))


def _seen(
    mask: Any, shape: Shape, causal: bool, window: int | tuple[int, int] | None
) -> Array | None:
    """Which query sees which key, from all that says so; None when every one sees every one."""
    conditions = []
    if mask is not None:
        given = lift(mask)
        if given.dtype != bool_:
            hint = "compare it (mask != 0); numbers that are added to the scores are the bias="
            raise DTypeError(f"the mask is {given.dtype}, not bool", hint=hint)
        conditions.append(_fitting(given, shape, "mask"))
    if causal or window is not None:
        rows, columns = shape[-2:]
        query = reshape(Iota(rows, int64)() + (columns - rows), (rows, 1))
        key = reshape(Iota(columns, int64)(), (1, columns))
        left, right = (window, window) if isinstance(window, int) else window or (None, None)
        right = 0 if causal else right
        if left is not None:
            conditions.append(less_equal(query - left, key))
        if right is not None:
            conditions.append(less_equal(key, query + right))
    seen: Array | None = None
    for each in conditions:
        seen = each if seen is None else seen & each
    return seen


def _fitting(x: Array, shape: Shape, name: str) -> Array:
    if broadcast_shapes(x.shape, shape) != shape:
        raise ShapeError(f"the {name} {x.type} is larger than the scores {shape}")
    return x


def _check(q: Array, k: Array, v: Array) -> None:
    if not (q.ndim == k.ndim == v.ndim >= 2):
        raise ShapeError(f"q {q.type}, k {k.type} and v {v.type} need one rank of at least 2")
    if q.shape[-1] != k.shape[-1]:
        raise ShapeError(f"q {q.type} and k {k.type} differ in the size of a head")
    if k.shape[:-1] != v.shape[:-1]:
        raise ShapeError(f"k {k.type} and v {v.type} differ in heads or positions")
    if q.shape[:-3] != k.shape[:-3]:
        raise ShapeError(f"q {q.type} and k {k.type} differ in their leading axes")
    if q.ndim > 2 and (k.shape[-3] == 0 or q.shape[-3] % k.shape[-3]):
        raise ShapeError(f"{q.shape[-3]} query heads do not share {k.shape[-3]} key heads evenly")
