"""pullback: backpropagation, compiled and accountable."""

from pullback.functions.elementwise import (
    add,
    exp,
    log,
    tanh,
)
from pullback.functions.reductions import (
    all,
    any,
    argmax,
    argmin,
    count_nonzero,
    cumulative_logsumexp,
    cumulative_max,
    cumulative_min,
    cumulative_prod,
    cumulative_sum,
    logsumexp,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    var,
)
from pullback.functions.sorting import (
    argsort,
    median,
    quantile,
    sort,
    top_k,
)
from pullback.inspect.backprop import (
    backprop,
)
from pullback.ir.array import (
    Array,
)
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
from pullback.ir.types import (
    bool_ as bool,
)
from pullback.transforms.checkpoint import checkpoint
from pullback.transforms.control import cond, fori_loop, scan, while_loop
from pullback.transforms.custom import custom_derivative
from pullback.transforms.derivatives import (
    grad,
    hvp,
    jvp,
    linearize,
    value_and_grad,
    vjp,
)
from pullback.transforms.trace import (
    trace,
)
from pullback.transforms.vectorize import (
    hessian,
    jacfwd,
    jacobian,
    jacrev,
    vmap,
)

__all__ = [
    "Array",
    "add",
    "all",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "backprop",
    "bfloat16",
    "bool",
    "checkpoint",
    "cond",
    "count_nonzero",
    "cumulative_logsumexp",
    "cumulative_max",
    "cumulative_min",
    "cumulative_prod",
    "cumulative_sum",
    "custom_derivative",
    "exp",
    "float16",
    "float32",
    "float64",
    "fori_loop",
    "grad",
    "hessian",
    "hvp",
    "int16",
    "int32",
    "int64",
    "int8",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "log",
    "logsumexp",
    "max",
    "mean",
    "median",
    "min",
    "prod",
    "quantile",
    "scan",
    "sort",
    "std",
    "sum",
    "tanh",
    "top_k",
    "trace",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "value_and_grad",
    "var",
    "vjp",
    "vmap",
    "while_loop",
]
