"""Where a NaN or an infinity of a program was born (at CHECK ≥ 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pullback._settings import override
from pullback.errors import NonFiniteError
from pullback.ir.graph import Graph, Node
from pullback.ir.interpret import evaluate_node, interpret
from pullback.ir.types import Numbers, is_float
from pullback.schedule.kernels import Apply, Call, Chain, Element, Fold, Kernel, Loops, Schedule


def is_finite(numbers: Numbers) -> bool:
    return not is_float(numbers.dtype) or bool(np.isfinite(numbers).all())


def explain(graph: Graph, schedule: Schedule, inputs: Sequence[Numbers]) -> None:
    """Raise `NonFiniteError` naming the kernel, the operation and the line where it was born.

    The graph is evaluated again, by its reference, on what the program was given. Returns where
    nothing is born from finite numbers: an input was not finite.
    """

    def evaluate(node: Node, operands: Sequence[Numbers]) -> tuple[Numbers, ...]:
        try:
            return evaluate_node(node, operands)
        except NonFiniteError as error:
            number = _kernel_of(schedule, node)
            place = "" if number is None else f", in kernel {number} of {len(schedule.kernels)}"
            born = NonFiniteError(f"{error.what}{place}")
            born.locate(node.op.name, node.site)
            raise born from None

    with override(check=1):
        interpret(graph, inputs, evaluate)
    if all(map(is_finite, inputs)):
        raise NonFiniteError(
            "a result is not finite, though it is where the operations are evaluated one by one",
            hint="a number is close to the limit of its element type",
        )


def _kernel_of(schedule: Schedule, node: Node) -> int | None:
    for number, kernel in enumerate(schedule.kernels):
        if _holds(kernel, node):
            return number
    return None


def _holds(kernel: Kernel, node: Node) -> bool:
    match kernel:
        case Loops():
            made = [x for x in kernel.steps if isinstance(x, Apply | Element | Fold)]
            return any(x.op == node.op and x.site == node.site for x in made)
        case Call():
            same = kernel.op == node.op and kernel.site == node.site
            return same or (kernel.after is not None and _holds(kernel.after, node))
        case Chain():
            return any(_holds(each, node) for each in kernel.body.kernels)
    return kernel.site == node.site
