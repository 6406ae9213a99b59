"""What every step of a loop computes alike is computed once, and what it gives twice, too."""

from __future__ import annotations

from dataclasses import replace

from pullback.ir.array import Array
from pullback.ir.graph import Graph, Node, depends_on, needed_nodes, with_outputs
from pullback.ops.control import Check
from pullback.ops.layout import Layout
from pullback.ops.remat import Barrier
from pullback.ops.scan import Scan
from pullback.passes.cleanup import inlined
from pullback.passes.rewrite import Result, Rewrites, Sweep, rewrites


@rewrites(Scan)
def same_in_each_step(sweep: Sweep, op: Scan, *inputs: Array) -> Result:
    """What depends on the constants of a loop alone becomes a constant of it.

    Layouts cost nothing and stay. So does what depends on no operand: it takes no memory there. A
    loop of no steps computes nothing, and so cannot fail.
    """
    body, cut = op.body, op.constants
    wanted = _invariants(body, cut) if op.length else ()
    if not wanted:
        return None
    before = Graph(body.inputs[:cut], needed_nodes(body.nodes, wanted), wanted)
    rest = [node for node in body.nodes if not set(wanted).issuperset(node.outputs)]
    inside = Graph(
        (*body.inputs[:cut], *wanted, *body.inputs[cut:]),
        needed_nodes(rest, body.outputs),
        body.outputs,
    )
    made = inlined(before, inputs[:cut], sweep)
    loop = replace(op, body=inside, constants=cut + len(wanted))
    return loop.outputs(*inputs[:cut], *made, *inputs[cut:])


def _invariants(body: Graph, constants: int) -> tuple[Array, ...]:
    """The values that depend on constants alone and that something else in the step uses."""
    kept = [y for node in body.nodes if isinstance(node.op, Barrier | Check) for y in node.outputs]
    varying = depends_on(body.nodes, (*body.inputs[constants:], *kept))
    moving = depends_on(body.nodes, body.inputs[:constants]) - varying

    def stays(node: Node) -> bool:
        return isinstance(node.op, Layout) or moving.isdisjoint(node.outputs)

    used = {x for node in body.nodes if stays(node) for x in node.inputs} | set(body.outputs)
    made = [y for node in body.nodes if not stays(node) for y in node.outputs]
    return tuple([y for y in made if y in used])


@rewrites(Scan)
def stacked_once(sweep: Sweep, op: Scan, *inputs: Array) -> Result:
    """Results that are the same value in each step are stacked once."""
    carried, rows = op.body.outputs[: op.carries], op.body.outputs[op.carries :]
    once = tuple(dict.fromkeys(rows))
    if len(once) == len(rows):
        return None
    loop = replace(op, body=with_outputs(op.body, (*carried, *once)))
    made = loop.outputs(*inputs)
    stacked = dict(zip(once, made[op.carries :], strict=True))
    return (*made[: op.carries], *[stacked[y] for y in rows])


LOOPS = Rewrites(same_in_each_step, stacked_once)
