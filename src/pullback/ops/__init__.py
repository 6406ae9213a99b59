"""Every primitive, one class each; importing this package binds the operators."""

from pullback.ops import (
    contract,
    create,
    cumulative,
    index,
    layout,
    operators,
    pointwise,
    product,
    reduce,
    sampling,
    sort,
)

operators.bind()

__all__ = [
    "contract",
    "create",
    "cumulative",
    "index",
    "layout",
    "operators",
    "pointwise",
    "product",
    "reduce",
    "sampling",
    "sort",
]
