"""Sums over the steps of a loop that are one operation on all the rows after it.

A weight that a loop uses in each step has the gradient Σₜ xₜᵀ ȳₜ. In the loop that is a product and
an addition to all of the gradient in each step; after it, one product of the stacked x and ȳ, which
sums over the steps too. It needs the ȳ of all steps at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pullback.ir.array import Array
from pullback.ir.graph import Graph, Node, with_outputs
from pullback.ir.op import Op
from pullback.ops.contract import LETTERS, Contract
from pullback.ops.reduce import Sum


@dataclass(frozen=True, slots=True)
class Late:
    """Output `position` of a step, summed over all steps: `op` of the stacked `operands`."""

    position: int
    op: Op
    operands: tuple[Array, ...]

    def total(self, rows: Mapping[Array, Array]) -> Array:
        (total,) = self.op.outputs(*[rows[x] for x in self.operands])
        return total


@dataclass(frozen=True, slots=True)
class Division:
    """What a step of a loop still does, and what is left for after it.

    The outputs of `step` are those to be summed in the loop, the `summed` ones, the outputs that
    are no sums, and the values `kept` for the sums after it.
    """

    step: Graph
    summed: list[int]
    late: list[Late]
    kept: tuple[Array, ...]

    def totals(self, in_loop: Sequence[Array], rows: Mapping[Array, Array]) -> list[Array]:
        """All sums in order, from those of the loop and from rows of what they need."""
        found = dict(zip(self.summed, in_loop, strict=True))
        found |= {each.position: each.total(rows) for each in self.late}
        return [found[i] for i in range(len(found))]


def divided(
    step: Graph, count: int, stacked: AbstractSet[Array], fixed: AbstractSet[Array], room: int
) -> Division:
    """A step of which the first `count` outputs are summed over the loop."""
    late = late_sums(step, count, stacked, fixed, room)
    kept = kept_rows(late, stacked)
    summed = [i for i in range(count) if i not in {each.position for each in late}]
    outputs = (*[step.outputs[i] for i in summed], *step.outputs[count:], *kept)
    return Division(with_outputs(step, outputs), summed, late, kept)


def late_sums(
    step: Graph, count: int, stacked: AbstractSet[Array], fixed: AbstractSet[Array], room: int
) -> list[Late]:
    """Which of the first `count` outputs of a step may be summed after the loop.

    The values `stacked` are at hand for all steps, those `fixed` are the same in each. Others must
    be kept for it; these are products' operands, and take at most `room` bytes a step.
    """
    makers = {y: node for node in step.nodes for y in node.outputs}
    made = [makers.get(y) for y in step.outputs[:count]]
    known = set(stacked)
    chosen: list[Late] = []
    for position, node in enumerate(made):
        if node is None or not isinstance(node.op, Contract) or _touches(node, fixed):
            continue
        more = {x for x in node.inputs if x not in known}
        cost = sum(x.type.nbytes for x in more)
        if cost <= room:
            room -= cost
            known |= more
            chosen.append(Late(position, _over_rows(node.op), node.inputs))
    for position, node in enumerate(made):
        if node is not None and isinstance(node.op, Sum) and node.inputs[0] in known:
            axes = (0, *[axis + 1 for axis in node.op.axes])
            chosen.append(Late(position, Sum(axes), node.inputs))
    return sorted(chosen, key=_position)


def kept_rows(late: Sequence[Late], stacked: AbstractSet[Array]) -> tuple[Array, ...]:
    """The values of a step that must be stacked for the sums, each once."""
    operands = [x for each in late for x in each.operands]
    return tuple(dict.fromkeys([x for x in operands if x not in stacked]))


def _position(late: Late) -> int:
    return late.position


def _touches(node: Node, values: AbstractSet[Array]) -> bool:
    return any(x in values for x in node.inputs)


def _over_rows(op: Contract) -> Contract:
    """The contraction that also sums over a new first axis of both operands."""
    row = next(c for c in LETTERS if c not in op.left + op.right)
    return Contract(row + op.left, row + op.right, op.result)
