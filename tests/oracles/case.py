"""One row of the oracle table: a function spelled in pullback, in torch and in JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

import pullback as pb

Function = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """`common(m, *args)` with m a namespace of Array API names; `torch`, `jax` where they differ.

    `torch` and `jax` receive the module torch or jax instead, or are the reason why there is no
    counterpart. `values_only` says why the gradients are not compared.
    """

    name: str
    arguments: tuple[Any, ...]
    common: Function
    torch: Function | str | None = None
    jax: Function | str | None = None
    values_only: str | None = None

    def ours(self) -> Function:
        return lambda *args: self.common(pb, *args)

    def in_torch(self, module: Any) -> Function | None:
        if isinstance(self.torch, str):
            return None
        if self.torch is None:
            names = torch_names(module)
            return lambda *args: self.common(names, *args)
        return lambda *args: self.torch(module, *args)

    def in_jax(self, module: Any) -> Function | None:
        if isinstance(self.jax, str):
            return None
        if self.jax is None:
            names = jax_names(module)
            return lambda *args: self.common(names, *args)
        return lambda *args: self.jax(module, *args)


def torch_names(torch: Any) -> Any:
    """torch under the names of the Array API standard and of pullback."""
    f = torch.nn.functional
    renamed = {
        "concat": torch.cat,
        "permute_dims": torch.permute,
        "matrix_transpose": lambda x: x.mT,
        "expand_dims": lambda x, axis: x.unsqueeze(axis),
        "flip": lambda x, axis: torch.flip(x, [axis] if isinstance(axis, int) else list(axis)),
        "roll": lambda x, shift, axis=None: torch.roll(x, shift, axis),
        "repeat": lambda x, n, axis=None: torch.repeat_interleave(x, n, dim=axis),
        "pow": torch.pow,
        "cumulative_sum": torch.cumsum,
        "cumulative_prod": torch.cumprod,
        "cumulative_max": lambda x, axis: torch.cummax(x, axis).values,
        "cumulative_min": lambda x, axis: torch.cummin(x, axis).values,
        "cumulative_logsumexp": torch.logcumsumexp,
        "max": _with_keepdim(torch.amax),
        "min": _with_keepdim(torch.amin),
        "prod": lambda x, axis=None: torch.prod(x) if axis is None else torch.prod(x, axis),
        "sort": lambda x, axis=-1, descending=False: torch.sort(x, axis, descending).values,
        "std": lambda x, axis=None, correction=0, keepdims=False: torch.std(
            x, axis, correction=correction, keepdim=keepdims
        ),
        "var": lambda x, axis=None, correction=0, keepdims=False: torch.var(
            x, axis, correction=correction, keepdim=keepdims
        ),
        "logsumexp": torch.logsumexp,
        "silu": f.silu,
        "softplus": f.softplus,
        "leaky_relu": f.leaky_relu,
        "elu": f.elu,
        "gelu": f.gelu,
        "take_along_axis": torch.take_along_dim,
        "take": lambda x, i, axis: torch.index_select(x, axis, i),
        "trace": torch.trace,
        "multiply": torch.mul,
        "square": torch.square,
    }
    return _Names(renamed, torch)


def _with_keepdim(function: Any) -> Any:
    return lambda x, axis=(), keepdims=False: function(x, axis, keepdim=keepdims)


def jax_names(jax: Any) -> Any:
    """jax.numpy under the names of the Array API standard and of pullback."""
    jnp, special, nn = jax.numpy, jax.scipy.special, jax.nn
    renamed = {
        "erf": special.erf,
        "erfc": special.erfc,
        "erfinv": special.erfinv,
        "lgamma": special.gammaln,
        "digamma": special.digamma,
        "polygamma": special.polygamma,
        "logsumexp": special.logsumexp,
        "rsqrt": jax.lax.rsqrt,
        "sigmoid": nn.sigmoid,
        "relu": nn.relu,
        "softmax": nn.softmax,
        "log_softmax": nn.log_softmax,
        "cumulative_max": jax.lax.cummax,
        "cumulative_min": jax.lax.cummin,
        "cumulative_logsumexp": jax.lax.cumlogsumexp,
        "trunc": jnp.trunc,
    }
    return _Names(renamed, jnp)


class _Names(SimpleNamespace):
    """Renamed functions first, then those of the module."""

    def __init__(self, renamed: dict[str, Any], module: Any) -> None:
        super().__init__(**renamed)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"
