"""The methods and properties of `Array` that are made of functions."""

from __future__ import annotations

from typing import Any, NoReturn

from pullback._public import public
from pullback.array import namespace
from pullback.errors import ShapeError, StructureError
from pullback.functions import contraction, elementwise, reductions
from pullback.functions.indexing import At, getitem
from pullback.functions.manipulation import matrix_transpose, reshape
from pullback.ir.array import Array
from pullback.ops.operators import bind_operators, transpose


def _transposed(self: Array) -> Array:
    """The transpose of a matrix."""
    if self.ndim != 2:
        raise ShapeError(
            f".T is the transpose of a matrix, this is {self.type}",
            hint="use .mT for a stack of matrices, or pb.permute_dims",
        )
    return transpose(self, (1, 0))


def _reshape(self: Array, *shape: Any) -> Array:
    """The same elements under another shape, as `x.reshape(2, -1)` or `x.reshape((2, -1))`."""
    one = shape[0] if len(shape) == 1 and not hasattr(shape[0], "__index__") else shape
    return reshape(self, one)


def _setitem(self: Array, index: Any, value: Any, /) -> NoReturn:
    raise StructureError(
        "an Array is immutable", hint="x = x.at[index].set(value) gives a changed copy"
    )


def bind() -> None:
    """Called once by `pullback.functions`."""
    bind_operators(
        {"matmul": contraction.matmul},
        {},
        T=property(public(_transposed, "T")),
        mT=property(public(matrix_transpose, "mT")),
        __array_namespace__=namespace,
        __getitem__=public(getitem, "indexing"),
        __setitem__=public(_setitem, "assignment"),
        astype=elementwise.astype,
        at=property(At),
        reshape=_reshape,
        all=reductions.all,
        any=reductions.any,
        argmax=reductions.argmax,
        argmin=reductions.argmin,
        max=reductions.max,
        mean=reductions.mean,
        min=reductions.min,
        prod=reductions.prod,
        std=reductions.std,
        sum=reductions.sum,
        var=reductions.var,
    )
