"""Where a NaN or an infinity of a program was born (at CHECK ≥ 1)."""

from __future__ import annotations

from collections.abc import Sequence

from pullback._settings import override
from pullback.errors import NonFiniteError
from pullback.ir.array import Array
from pullback.ir.builder import is_finite, require_finite
from pullback.ir.graph import Graph, Node
from pullback.ir.interpret import evaluate_node, interpret
from pullback.ir.types import Numbers
from pullback.schedule.kernels import Apply, Call, Chain, Element, Fold, Kernel, Loops, Schedule


def explain(graph: Graph, schedule: Schedule, inputs: Sequence[Numbers]) -> None:
    """Raise `NonFiniteError` naming the kernel, the operation and the line where it was born.

    The graph is evaluated again, by its reference, on what the program was given. What is infinite
    and reaches no result, as behind a mask, is nobody's fault. Returns where nothing is born from
    finite numbers: an input was not finite.
    """
    born: dict[Node, NonFiniteError] = {}
    bad: set[Array] = set()

    def evaluate(node: Node, operands: Sequence[Numbers]) -> tuple[Numbers, ...]:
        made = evaluate_node(node, operands)
        bad.update(
            x for x, numbers in zip(node.outputs, made, strict=True) if not is_finite(numbers)
        )
        try:
            require_finite(node.op, operands, made)
        except NonFiniteError as error:
            born[node] = error
        return made

    with override(check=0):
        interpret(graph, inputs, evaluate)
    for node in _reaching(graph, bad):
        if node in born:
            number = _kernel_of(schedule, node)
            place = "" if number is None else f", in kernel {number} of {len(schedule.kernels)}"
            error = NonFiniteError(f"{born[node].what}{place}")
            error.locate(node.op.name, node.site)
            raise error
    if all(map(is_finite, inputs)):
        raise NonFiniteError(
            "a result is not finite, though it is where the operations are evaluated one by one",
            hint="a number is close to the limit of its element type",
        )


def _reaching(graph: Graph, bad: set[Array]) -> list[Node]:
    """The nodes from which values that are not finite lead to a result, in order."""
    seen = bad.intersection(graph.outputs)
    nodes = []
    for node in reversed(graph.nodes):
        if not seen.isdisjoint(node.outputs):
            seen |= bad.intersection(node.inputs)
            nodes.append(node)
    return nodes[::-1]


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
