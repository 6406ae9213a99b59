"""pullback: backpropagation, compiled and accountable."""

from pullback.array import asarray, from_dlpack
from pullback.functions.elementwise import add, exp, log, tanh
from pullback.ir.array import Array
from pullback.ir.types import (
    bfloat16,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from pullback.ir.types import bool_ as bool
from pullback.transforms.derivatives import grad, hvp, jvp, linearize, value_and_grad, vjp
from pullback.transforms.trace import trace
from pullback.transforms.vectorize import hessian, jacfwd, jacobian, jacrev, vmap

__all__ = [
    "Array",
    "add",
    "asarray",
    "bfloat16",
    "bool",
    "exp",
    "float16",
    "float32",
    "float64",
    "from_dlpack",
    "grad",
    "hessian",
    "hvp",
    "int8",
    "int16",
    "int32",
    "int64",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "log",
    "tanh",
    "trace",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "value_and_grad",
    "vjp",
    "vmap",
]
