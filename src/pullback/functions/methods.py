"""The methods of `Array` that are functions of the same name."""

from __future__ import annotations

from pullback.functions import contraction, reductions
from pullback.ops.operators import bind_operators


def bind() -> None:
    """Called once by `pullback.functions`."""
    bind_operators(
        {"matmul": contraction.matmul},
        {},
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
