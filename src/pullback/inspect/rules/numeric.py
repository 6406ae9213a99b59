"""`NUM`: numbers that are not finite, and where they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from pullback.errors import Site, counted
from pullback.inspect.findings import Finding, Rule, Severity, short_place
from pullback.ir.families import Elementwise
from pullback.ir.graph import Node
from pullback.ir.range import Range
from pullback.ir.types import DType, Numbers
from pullback.ops.pointwise import Select

if TYPE_CHECKING:
    from pullback.inspect.birth import Birth, Frame


MASKED = (
    "make the operand safe before the operation, then mask: "
    "pb.where(ok, f(pb.where(ok, x, 1.0)), other)"
)


OVERFLOW = "scale the operands down before, or compute in a wider element type"
ROOM = 75
"""Columns of a line below a finding."""


class NUM01(Rule):
    """The loss is NaN or infinite: a number of the forward pass, and with it the gradient.

    The step was played again, operation by operation. The one that is named made a non-finite
    number from finite operands, and that number reached the result, element by element: a masked
    -∞ that does no harm is not blamed. Where the loss is finite, and only the gradient is not, it
    is NUM02.

    Usual causes: log of a probability that underflowed to 0; a division by 0; e^x beyond the
    largest number; a root of a negative number; a mask applied by multiplication (0·∞ = NaN).
    """

    id = "NUM01"
    title = "a non-finite number was born in the forward pass"
    severity = Severity.STOP
    fix = "keep the operand inside the domain before the operation, not after it"
    source = "pytorch issues 160016 and 1274; the frames are those of Hugging Face's overflow hook"

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """Of a number that is hidden in the first loss: what is measured, and silent gradients."""
        return mine.severity is Severity.FAIL and other.rule.can_follow()

    @classmethod
    def of(cls, birth: Birth) -> Finding:
        what = f"{spoken(birth.node, birth.operands)} = {number(birth.value)}{_where(birth)}"
        return _born(cls, what, birth)

    @classmethod
    def given(
        cls, name: str, numbers: Numbers, mask: Numbers, reached: Sequence[str], is_data: bool
    ) -> Finding:
        """A value that was not finite before the step began."""
        index = tuple(map(int, np.argwhere(mask)[0]))
        sample = f" in sample {index[0]}{_element(index, ',')}" if is_data and index else ""
        return cls.found(
            f"{name} was not finite before the step: {number(float(numbers[index]))}"
            f"{sample or _element(index)}",
            None,
            why=f"{int(mask.sum())} of its {mask.size} elements reach {', '.join(reached)}",
            fix="look at the step before this one, or at the data: pb.isfinite(x).all()",
            numbers={"index": list(index), "count": int(mask.sum())},
        )

    @classmethod
    def hidden(cls, node: Node, count: int, size: int) -> Finding:
        """An infinity that no longer shows in the loss: 1/∞ is 0."""
        y = node.outputs[0]
        return cls.found(
            f"{node.op.name} is beyond the largest {y.dtype.name}, "
            f"{largest(y.dtype):.3g}, in {count} of {size} elements",
            node.site,
            severity=Severity.FAIL,
            why="the infinity is lost again behind it, as in 1/∞ = 0: the loss is finite and wrong",
            fix=OVERFLOW,
            numbers={"count": count},
        )


class NUM02(Rule):
    """A gradient is NaN or infinite although the loss is finite.

    The derivative of an operation is infinite at the number it met: √x, x^p with p < 1 and |x|^½
    at 0, asin at ±1, a norm written by hand at the origin, atan(y/x) at x = 0. Or a `where` had
    chosen the other branch, of a number that is itself not finite (0/0, log 0): its cotangent 0
    meets ∞ or NaN on the way back and gives NaN. The argument must be made safe *before* the
    operation ("double where"), not masked after it.

    Products with a 0 cotangent are 0 in this library for the operations whose derivative may be
    infinite, so that most masked branches do no harm.
    """

    id = "NUM02"
    title = "a gradient is not finite although the loss is"
    severity = Severity.STOP
    fix = "make the operand safe before the operation: f(pb.where(ok, x, 1.0))"
    source = "pytorch issues 68425 and 52248; the JAX FAQ on where"

    @classmethod
    def of(cls, birth: Birth) -> Finding:
        forward = birth.forward
        if forward is None:
            what = (
                f"a product of the backward pass is {number(birth.value)}: "
                f"{spoken(birth.node, birth.operands)}{_where(birth)}"
            )
        else:
            what = (
                f"the derivative of {spoken(forward, birth.forward_operands)} is "
                f"{number(birth.value)}{_where(birth)}"
            )
        return _born(cls, what, birth)

    @classmethod
    def left_out(cls, birth: Birth) -> Finding:
        """A number of the forward pass that does not show in the loss, but in its derivative."""
        made = f"{spoken(birth.node, birth.operands)} = {number(birth.value)}{_where(birth)}"
        by = "does not show in the loss" if birth.mask is None else "is masked too late"
        return _born(cls, f"{made} {by}: the gradient is not finite", birth)


def _born(rule: type[Rule], what: str, birth: Birth) -> Finding:
    return rule.found(
        what,
        birth.site,
        why=_why(birth),
        fix=_fix(birth) or rule.fix,
        notes=_notes(birth),
        numbers=_numbers(birth),
        evidence=birth,
    )


# ---- words ----------------------------------------------------------------------------------


def largest(dtype: DType) -> float:
    """The largest number of a floating type."""
    return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]


def number(x: float) -> str:
    return "NaN" if math.isnan(x) else f"{x:.4g}"


def spoken(node: Node, operands: Sequence[float | None]) -> str:
    """The application with its numbers: `log(0)`, `1 / 0`; with types where there are none."""
    known = [x for x in operands if x is not None]
    if not known or len(known) < len(operands):
        types = ", ".join(str(x.type) for x in node.inputs)
        return f"{node.op.name}({types})"
    texts = [f"({number(x)})" if x < 0 else number(x) for x in known]
    return node.op.formula(*texts).replace("((", "(").replace("))", ")")


def _where(birth: Birth) -> str:
    if birth.samples:
        which = " and ".join(map(str, birth.samples))
        return (
            f" in sample{'s' if len(birth.samples) > 1 else ''} {which}{_element(birth.index, ',')}"
        )
    return _element(birth.index, " in")


def _element(index: tuple[int, ...], joint: str = " in") -> str:
    if not index:
        return ""
    return f"{joint} element {index[0] if len(index) == 1 else index}"


def _why(birth: Birth) -> str:
    parts = []
    node = birth.forward or birth.node
    operands = birth.operands if birth.forward is None else birth.forward_operands
    outside = _outside(node, operands, smooth=birth.forward is not None)
    if outside is not None:
        whose = "its derivative" if birth.forward is not None else node.op.name
        parts.append(f"{whose} is finite only for {outside}")
    elif math.isinf(birth.value) and birth.forward is None and birth.node.inputs:
        dtype = birth.node.outputs[0].dtype
        parts.append(f"the result is beyond the largest {dtype}, {largest(dtype):.3g}")
    if birth.because:
        parts.append(birth.because)
    if birth.mask is not None:
        place, op = short_place(birth.mask.site), birth.mask.op
        by = "where" if isinstance(op, Select) else op.name
        parts.append(
            f"the element is left out by {by}{place and f' at {place}'}, "
            "but only after it was computed: 0·∞ is NaN"
        )
    if birth.count > 1:
        parts.append(f"{birth.count} elements are born so")
    if birth.within is not None:
        parts.append(f"inside the {birth.within.op.name}, turn {birth.turn}")
    parts.append(f"it reaches {counted(birth.reached, 3)}")
    return "; ".join(parts)


def _outside(node: Node, operands: Sequence[float | None], smooth: bool) -> str | None:
    """The domain that the operands are outside of, as a condition."""
    if not isinstance(node.op, Elementwise):
        return None
    domains: tuple[Range, ...] = node.op.smooth_on() if smooth else node.op.finite_on()
    for x, domain, name in zip(operands, domains, "xyz", strict=False):
        if x is not None and x not in domain:
            return domain.text(name)
    return None


def _fix(birth: Birth) -> str:
    if birth.instead:
        return birth.instead
    if birth.mask is not None:
        return MASKED
    node = birth.forward or birth.node
    if not isinstance(node.op, Elementwise):
        return OVERFLOW if math.isinf(birth.value) else ""
    operands = birth.operands if birth.forward is None else birth.forward_operands
    if _outside(node, operands, smooth=birth.forward is not None) or not node.op.finite_on():
        return node.op.remedy or OVERFLOW
    return OVERFLOW


def _notes(birth: Birth) -> tuple[str, ...]:
    """The run-up, a line for each operation."""
    if not birth.run_up:
        return ()
    head = f"{'least |x|':>9} {'largest':>9}  the last operations before it"
    return (head, *map(_frame_line, birth.run_up))


def _frame_line(frame: Frame) -> str:
    text = f"{frame.op} {frame.type}"
    mark = "  " if frame.is_finite else " !"
    sizes = [f"{x:9.3g}" if math.isfinite(x) else f"{'-':>9}" for x in (frame.least, frame.largest)]
    row = f"{' '.join(sizes)}{mark}{text}  "
    return f"{row}{_place(frame.site, ROOM - len(row))}"[:ROOM].rstrip()


def _place(site: Site, room: int) -> str:
    """The line and the module; of a path that is too long the end."""
    line = "" if site.frame is None else f"{short_place(site)} "
    room = max(room - len(line), 1)
    scope = site.scope
    return line + (scope if len(scope) <= room else f"…{scope[len(scope) - room + 1 :]}")


def _numbers(birth: Birth) -> dict[str, object]:
    return {
        "index": list(birth.index),
        "value": number(birth.value),
        "operands": list(birth.operands),
        "samples": list(birth.samples),
        "count": birth.count,
        "reached": list(birth.reached),
    }
