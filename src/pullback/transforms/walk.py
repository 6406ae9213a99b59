"""What every walk over a graph shares: the site that new nodes inherit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from pullback.errors import Operand, Phase, PullbackError
from pullback.ir.array import Array
from pullback.ir.builder import apply, current, quiet
from pullback.ir.graph import Graph, Node
from pullback.ir.op import Op

Prepare = Callable[[Graph], Graph]
_prepare: ContextVar[Prepare | None] = ContextVar("pullback prepares for derivatives", default=None)

At = Callable[[Node, Phase | None], None]


@contextmanager
def walking() -> Iterator[At]:
    """Gives `at(node, phase)`: nodes recorded after it inherit that node's site, in that phase."""
    builder = current()
    if builder is None:
        with quiet():
            yield _nowhere
        return
    before = builder.inherited

    def at(node: Node, phase: Phase | None) -> None:
        builder.inherited = node.site if phase is None else node.site.during(phase)

    try:
        with quiet():
            yield at
    finally:
        builder.inherited = before


@contextmanager
def preparing(prepare: Prepare) -> Iterator[None]:
    """Graphs are handed to `prepare` before derivatives are taken of them in an abstract trace."""
    token = _prepare.set(prepare)
    try:
        yield
    finally:
        _prepare.reset(token)


def prepared(graph: Graph) -> Graph:
    """`graph` in the form to differentiate. What has its numbers already is not computed again."""
    prepare, builder = _prepare.get(), current()
    if prepare is None or builder is None or builder.evaluating:
        return graph
    return prepare(graph)


def _nowhere(node: Node, phase: Phase | None) -> None:
    pass


@contextmanager
def blaming(node: Node) -> Iterator[None]:
    """An error that leaves the block without a place is `node`'s: it gets the node's line."""
    try:
        yield
    except PullbackError as error:
        operands = [Operand(f"operand {i}", str(x.type), "") for i, x in enumerate(node.inputs, 1)]
        error.locate(node.op.name, node.site, operands)
        raise


def inline(graph: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of `graph` on `inputs`, computed or recorded anew, node by node."""
    env = dict(zip(graph.inputs, inputs, strict=True))
    with walking() as at:
        for node in graph.nodes:
            at(node, None)
            env.update(
                zip(node.outputs, apply(node.op, [env[x] for x in node.inputs]), strict=True)
            )
    return tuple(env[x] for x in graph.outputs)


def apply_known(op: Op, inputs: Sequence[Array], known: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of `op` on `inputs`, recorded with the numbers of `known`, which are its own."""
    builder = current()
    if builder is None or not builder.evaluating:
        return apply(op, inputs)
    site = builder.inherited or builder._capture()
    return builder.adopt(Node(op, tuple(inputs), tuple(known), site), inputs)
