"""The step table of a backward pass, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pullback.ir.types import Numbers, is_float

if TYPE_CHECKING:
    from pullback.inspect.backprop import Step

HEADINGS = ("Step", "Gradient", "Value", "Depends on")


LONG = 60


def print_table(steps: Sequence[Step]) -> str:
    """One row a step; the contributions at a merge follow it, one by one."""
    rows = [HEADINGS]
    for step in steps:
        merge = is_merge(step)
        told = step.formula
        if merge and len(told) > LONG:
            told = f"the sum of {len(step.contributions)} contributions"
        rows.append(
            (
                step.equation,
                f"{step.symbol} = {told}",
                summary(step.delta),
                ", ".join(map(str, step.depends)),
            )
        )
        if merge:
            rows += [
                ("", f"  {c.formula}", summary(c.value), f"from {c.equation}")
                for c in step.contributions
            ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " │ ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "─┼─".join("─" * width for width in widths))
    return "\n".join(lines)


def is_merge(step: Step) -> bool:
    """Whether the value is read by several nodes, not only twice by one."""
    return len({c.through for c in step.contributions}) > 1


def summary(numbers: Numbers | None) -> str:
    """The numbers when there are at most three, else their shape and size."""
    if numbers is None:
        return "none"
    if numbers.size <= 3 and numbers.ndim <= 1:
        listed = ", ".join(_number(x) for x in numbers.ravel().tolist())
        return f"[{listed}]" if numbers.ndim else listed
    shape = "×".join(map(str, numbers.shape))
    if not numbers.size or not is_float(numbers.dtype):
        return shape
    wide = numbers.astype(np.float64)
    broken = int(np.count_nonzero(~np.isfinite(wide)))
    if broken:
        return f"{shape}, {broken} not finite"
    return f"{shape}, ‖·‖ = {np.linalg.norm(wide.ravel()):.4g}"


def _number(x: float) -> str:
    return f"{x:.4g}" if isinstance(x, float) else str(x)
