"""Every primitive, one class each; importing this package binds the operators."""

from pullback.ops import (
    contract,
    control,
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
    remat,
    sampling,
    scan,
    sort,
    subgraph,
    windows,
)

operators.bind()

__all__ = [
    "contract",
    "control",
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
    "remat",
    "sampling",
    "scan",
    "sort",
    "subgraph",
    "windows",
]
