"""Every primitive, one class each. Importing this package defines them all and binds the operators."""

from pullback.ops import (
    contract,
    convolve,
    diagonal,
    layout,
    linalg,
    operators,
    pointwise,
    pool,
    products,
    reduce,
)

operators.bind()
operators.bind_operators({"matmul": products.matmul}, {})

__all__ = [
    "contract",
    "convolve",
    "diagonal",
    "layout",
    "linalg",
    "operators",
    "pointwise",
    "pool",
    "products",
    "reduce",
]
