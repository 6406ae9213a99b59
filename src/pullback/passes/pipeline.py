"""The passes in their order, what is checked between them, and who watches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from pullback._settings import settings
from pullback.errors import GraphError, PassError
from pullback.ir.graph import Graph, verify
from pullback.passes.algebra import ALGEBRA
from pullback.passes.check import compare
from pullback.passes.cleanup import CLEANUP, PRIMAL
from pullback.passes.dump import Dump
from pullback.passes.indexing import INDEXING
from pullback.passes.layout import SINKING
from pullback.passes.loop_order import in_loop_order
from pullback.passes.loops import LOOPS
from pullback.passes.pieces import PIECES
from pullback.passes.rewrite import Rewrites, settled, sweep
from pullback.passes.saved import choose_saved
from pullback.passes.segments import cuts, has_loops, in_segments
from pullback.passes.stability import TOLERANCE, stabilize
from pullback.passes.stacked import unstacked
from pullback.passes.turns import in_turns

Pass = Callable[[Graph], Graph]


class Observer(Protocol):
    """Told of each pass that changed the graph."""

    def __call__(self, name: str, before: Graph, after: Graph) -> None: ...


EXACT = Rewrites(
    *PRIMAL.every,
    *CLEANUP.every,
    *ALGEBRA.every,
    *SINKING.every,
    *INDEXING.every,
    *PIECES.every,
    *LOOPS.every,
)


def simplify(graph: Graph) -> Graph:
    """`graph` cleaned up, its algebra done, its layouts and indices sunk, all in one sweep.

    Each may uncover work for the others, and in one sweep it is done at once: three sweeps in turn
    took seven in all, and twice the time. A second one is made only where it has something to do.
    """
    return settled(graph, EXACT)


PIPELINE: tuple[Pass, ...] = (simplify, unstacked, in_loop_order, in_turns, choose_saved)
"""Exact passes, for a graph whose derivatives have been taken, but for those below."""

REORDERING: tuple[Pass, ...] = (in_loop_order, in_turns)
"""Passes that add in another order."""

BEFORE_DERIVATIVES: tuple[Pass, ...] = (stabilize,)
"""Approximate passes. A derivative taken afterwards is that of the rewritten function, so forward
and backward agree; rewriting both apart would not keep them so."""


def optimize(graph: Graph, observe: Observer | None = None) -> Graph:
    """`graph` with the same results, from fewer nodes and layouts.

    To the bit, but for sums over the steps of a loop (`in_loop_order`), and over what is made and
    used part by part (`in_turns`). Last it is
    decided what the forward pass keeps for the backward one. Each node keeps, or inherits, the
    site of the node it stands for.
    """
    return run(PIPELINE, graph, observer() if observe is None else observe)


def forms(graph: Graph) -> Iterator[tuple[str, Graph]]:
    """Other forms of `optimize(graph)`, with the same results to the bit, that may need less
    memory; and how each differs."""
    whole = run(PIPELINE[:-1], graph, _nobody) if has_loops(graph) else graph
    for count in cuts(whole):
        text, cut = in_segments(whole, count)
        if settings().check >= 1:
            verify(cut)
        yield text, run(PIPELINE[-1:], cut, _nobody)


def prepare(graph: Graph, observe: Observer | None = None) -> Graph:
    """`graph` in a form at least as accurate: to be called before it is differentiated."""
    watch = observer() if observe is None else observe
    return run(BEFORE_DERIVATIVES, graph, watch, TOLERANCE)


def run(passes: Iterable[Pass], graph: Graph, observe: Observer, tolerance: float = 0.0) -> Graph:
    """The passes one after the other; verified at CHECK ≥ 1, compared by numbers at CHECK = 2."""
    for step in passes:
        after = step(graph)
        if after is not graph:
            _check(step, graph, after, TOLERANCE if step in REORDERING else tolerance)
            observe(step.__name__, graph, after)
        graph = after
    return graph


def observer() -> Observer:
    """Who watches when nobody was named: the dump, if there is a folder for it."""
    folder = settings().dump
    return Dump(folder) if folder else _nobody


def _nobody(name: str, before: Graph, after: Graph) -> None:
    pass


def _check(step: Pass, before: Graph, after: Graph, tolerance: float) -> None:
    name, level = step.__name__, settings().check
    if level >= 1:
        try:
            verify(after)
        except GraphError as error:
            raise PassError(f"the pass {name} made no valid graph: {error}") from error
        if _types(before) != _types(after):
            raise PassError(f"the pass {name} changed the type of a result")
    if level >= 2:
        try:
            compare(f"pass {name}", before, after, tolerance)
        except PassError:
            _accuse(step, before)
            raise


def _accuse(step: Pass, graph: Graph) -> None:
    """Raise for the first rewrite of a pass that by itself changes a value."""
    for rewrite in EXACT.every if step is simplify else ():
        compare(f"rewrite {rewrite.name}", graph, sweep(graph, Rewrites(rewrite)))


def _types(graph: Graph) -> list[object]:
    return [x.type for x in (*graph.inputs, *graph.outputs)]
