"""pullback: backpropagation, compiled and accountable."""

from pullback.functions.elementwise import add, exp, log, tanh
from pullback.inspect.backprop import backprop
from pullback.inspect.check_grads import check_grads
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
    "backprop",
    "bfloat16",
    "bool",
    "check_grads",
    "exp",
    "float16",
    "float32",
    "float64",
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
