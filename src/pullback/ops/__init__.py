"""Every primitive, one class each; importing this package binds the operators."""

from pullback.ops import (
    contract,
    convolve,
    create,
    cumulative,
    diagonal,
    index,
    layout,
    linalg,
    operators,
    pointwise,
    pool,
    product,
    reduce,
    sampling,
    sort,
    windows,
)

operators.bind()

__all__ = [
    "contract",
    "convolve",
    "create",
    "cumulative",
    "diagonal",
    "index",
    "layout",
    "linalg",
    "operators",
    "pointwise",
    "pool",
    "product",
    "reduce",
    "sampling",
    "sort",
    "windows",
]
