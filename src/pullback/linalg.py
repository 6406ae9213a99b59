"""`pb.linalg`: linear algebra, named by the Array API standard's extension of the same name."""

from pullback.functions.contraction import matmul, outer, tensordot, vecdot
from pullback.functions.linear_algebra import (
    cholesky,
    cross,
    det,
    diagonal,
    inv,
    matrix_norm,
    matrix_power,
    slogdet,
    solve,
    trace,
    triangular_solve,
)
from pullback.functions.manipulation import matrix_transpose
from pullback.functions.reductions import vector_norm
from pullback.transforms.lanczos import lanczos

__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "inv",
    "lanczos",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "outer",
    "slogdet",
    "solve",
    "tensordot",
    "trace",
    "triangular_solve",
    "vecdot",
    "vector_norm",
]
