"""Functions that move elements, and indexing."""

from __future__ import annotations

import numpy as np

from oracles.case import Case
from pullback.ir.samples import normal

X, Y = normal(3, 4), normal(3, 4, seed=1)
CUBE = normal(2, 3, 4)
SQUARE = normal(4, 4)
ROWS = np.array([2, 0, 2])
COLUMNS = np.array([1, 3, 1])
ALONG = np.array([[3, 0], [1, 1], [2, 0]])
UPDATE = normal(3, seed=5)

CASES = [
    Case("reshape", (X,), lambda m, x: m.reshape(x, (2, 6))),
    Case("permute_dims", (CUBE,), lambda m, x: m.permute_dims(x, (2, 0, 1))),
    Case("matrix_transpose", (CUBE,), lambda m, x: m.matrix_transpose(x)),
    Case("T", (X,), lambda m, x: x.T),
    Case("moveaxis", (CUBE,), lambda m, x: m.moveaxis(x, 0, 2)),
    Case("swapaxes", (CUBE,), lambda m, x: m.swapaxes(x, 0, 2)),
    Case("expand_dims", (X,), lambda m, x: m.expand_dims(x, axis=1)),
    Case("squeeze", (normal(3, 1, 2),), lambda m, x: m.squeeze(x, axis=1)),
    Case("broadcast_to", (normal(3, 1),), lambda m, x: m.broadcast_to(x, (2, 3, 4))),
    Case("flip", (X,), lambda m, x: m.flip(x, axis=1)),
    Case("flip both", (X,), lambda m, x: m.flip(x, axis=(0, 1))),
    Case("roll", (X,), lambda m, x: m.roll(x, 2, axis=1)),
    Case("roll flat", (X,), lambda m, x: m.roll(x, -5)),
    Case("tile", (X,), lambda m, x: m.tile(x, (2, 3))),
    Case("repeat", (X,), lambda m, x: m.repeat(x, 3, axis=1)),
    Case("concat", (X, Y), lambda m, x, y: m.concat([x, y], axis=1)),
    Case("stack", (X, Y), lambda m, x, y: m.stack([x, y], axis=1)),
    Case("split", (X,), lambda m, x: m.split(x, 2, axis=1)[1], torch=lambda t, x: x.split(2, 1)[1]),
    Case(
        "unstack", (CUBE,), lambda m, x: m.unstack(x, axis=0)[1], torch=lambda t, x: x.unbind(0)[1]
    ),
    Case(
        "pad",
        (X,),
        lambda m, x: m.pad(x, ((1, 2), (0, 3))),
        torch=lambda t, x: t.nn.functional.pad(x, (0, 3, 1, 2)),
    ),
    Case(
        "pad by reflection",
        (CUBE,),
        lambda m, x: m.pad(x, ((0, 0), (0, 0), (1, 2)), mode="reflect"),
        torch=lambda t, x: t.nn.functional.pad(x, (1, 2), mode="reflect"),
    ),
    Case(
        "pad by the edge",
        (CUBE,),
        lambda m, x: m.pad(x, ((0, 0), (0, 0), (1, 2)), mode="edge"),
        torch=lambda t, x: t.nn.functional.pad(x, (1, 2), mode="replicate"),
    ),
    Case("tril", (SQUARE,), lambda m, x: m.tril(x)),
    Case("triu", (X,), lambda m, x: m.triu(x, k=1), torch=lambda t, x: t.triu(x, 1)),
    Case("trace", (SQUARE,), lambda m, x: m.linalg.trace(x), torch=lambda t, x: t.trace(x)),
    Case(
        "diagonal",
        (CUBE,),
        lambda m, x: m.linalg.diagonal(x),
        torch=lambda t, x: t.diagonal(x, dim1=-2, dim2=-1),
    ),
    Case(
        "meshgrid",
        (X[0], Y[1]),
        lambda m, x, y: m.meshgrid(x, y, indexing="ij")[0] * m.meshgrid(x, y, indexing="ij")[1],
    ),
    # indexing
    Case("one element", (X,), lambda m, x: x[1, 2]),
    Case("a row", (X,), lambda m, x: x[-1]),
    Case("a range", (X,), lambda m, x: x[1:, :3]),
    Case("steps", (X,), lambda m, x: x[::2, 1::2]),
    Case(
        "backwards",
        (X,),
        lambda m, x: x[::-1, 3:0:-2],
        torch=lambda t, x: t.flip(x, [0])[:, [3, 1]],
    ),
    Case("new axes", (X,), lambda m, x: x[:, None, ..., None]),
    Case("rows by number", (X, ROWS), lambda m, x, i: x[i]),
    Case("pairs of numbers", (X, ROWS, COLUMNS), lambda m, x, i, j: x[i, j]),
    Case("rows, then a range", (CUBE, ROWS), lambda m, x, i: x[:, i, 1:3]),
    Case("take", (X, COLUMNS), lambda m, x, i: m.take(x, i, axis=1)),
    Case("take_along_axis", (X, ALONG), lambda m, x, i: m.take_along_axis(x, i, axis=1)),
    Case(
        "at set",
        (X, UPDATE),
        lambda m, x, u: x.at[:, 1].set(u),
        torch=lambda t, x, u: t.cat([x[:, :1], u[:, None], x[:, 2:]], 1),
    ),
    Case(
        "at add, repeated",
        (X, ROWS, COLUMNS, UPDATE),
        lambda m, x, i, j, u: x.at[i, j].add(u),
        torch=lambda t, x, i, j, u: x.index_put((i, j), u, accumulate=True),
    ),
    Case(
        "at multiply",
        (X, UPDATE),
        lambda m, x, u: x.at[:, 2].multiply(u),
        torch=lambda t, x, u: t.cat([x[:, :2], x[:, 2:3] * u[:, None], x[:, 3:]], 1),
    ),
    Case(
        "at max",
        (X, UPDATE),
        lambda m, x, u: x.at[:, 0].max(u),
        torch=lambda t, x, u: t.cat([t.maximum(x[:, :1], u[:, None]), x[:, 1:]], 1),
    ),
    Case(
        "one_hot product",
        (X, COLUMNS),
        lambda m, x, i: x @ m.one_hot(i, 4, dtype=m.float64).T,
        torch=lambda t, x, i: x @ t.nn.functional.one_hot(i, 4).to(x.dtype).T,
        jax=lambda j, x, i: x @ j.nn.one_hot(i, 4, dtype=x.dtype).T,
    ),
    Case(
        "segment_sum",
        (X, ROWS),
        lambda m, x, i: m.segment_sum(x, i, 4),
        torch=lambda t, x, i: t.zeros(4, 4, dtype=x.dtype).index_add(0, i, x),
        jax=lambda j, x, i: j.ops.segment_sum(x, i, 4),
    ),
    Case("embedding lookup", (X, ALONG % 3), lambda m, table, i: table[i] ** 2),
    Case(
        "searchsorted",
        (np.sort(X[0]), Y),
        lambda m, x, y: m.searchsorted(x, y),
        values_only="indices",
    ),
]
