"""The passes in their order, what is checked between them, and who watches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Protocol

from pullback._settings import settings
from pullback.errors import GraphError, PassError
from pullback.ir.graph import Graph, verify
from pullback.passes.algebra import algebra
from pullback.passes.check import compare
from pullback.passes.cleanup import clean_up, forget_derivatives
from pullback.passes.dump import Dump
from pullback.passes.layout import sink_layouts
from pullback.passes.stability import TOLERANCE, stabilize

Pass = Callable[[Graph], Graph]


class Observer(Protocol):
    """Told of each pass that changed the graph."""

    def __call__(self, name: str, before: Graph, after: Graph) -> None: ...


PIPELINE: tuple[Pass, ...] = (forget_derivatives, clean_up, algebra, sink_layouts)
"""Exact passes, for a graph whose derivatives have been taken."""

BEFORE_DERIVATIVES: tuple[Pass, ...] = (stabilize,)
"""Approximate passes. A derivative taken afterwards is that of the rewritten function, so forward
and backward agree; rewriting both apart would not keep them so."""

ROUNDS = 8
"""A pass may uncover work for an earlier one, so they take turns until all are idle. Two rounds do;
the bound is for passes that undo each other."""


def optimize(graph: Graph, observe: Observer | None = None) -> Graph:
    """`graph` with the same results, to the bit, from fewer nodes and layouts.

    Each node keeps, or inherits, the site of the node it stands for.
    """
    watch = observer() if observe is None else observe
    idle = 0
    for step in itertools.islice(itertools.cycle(PIPELINE), ROUNDS * len(PIPELINE)):
        before = graph
        graph = run((step,), graph, watch)
        idle = idle + 1 if graph is before else 0
        if idle == len(PIPELINE) - 1:  # all but the one that came last, and left nothing to itself
            break
    return graph


def prepare(graph: Graph, observe: Observer | None = None) -> Graph:
    """`graph` in a form at least as accurate: to be called before it is differentiated."""
    watch = observer() if observe is None else observe
    return run(BEFORE_DERIVATIVES, graph, watch, TOLERANCE)


def run(passes: Iterable[Pass], graph: Graph, observe: Observer, tolerance: float = 0.0) -> Graph:
    """The passes one after the other; verified at CHECK ≥ 1, compared by numbers at CHECK = 2."""
    for step in passes:
        after = step(graph)
        if after is not graph:
            _check(step.__name__, graph, after, tolerance)
            observe(step.__name__, graph, after)
        graph = after
    return graph


def observer() -> Observer:
    """Who watches when nobody was named: the dump, if there is a folder for it."""
    folder = settings().dump
    return Dump(folder) if folder else _nobody


def _nobody(name: str, before: Graph, after: Graph) -> None:
    pass


def _check(name: str, before: Graph, after: Graph, tolerance: float) -> None:
    level = settings().check
    if level >= 1:
        try:
            verify(after)
        except GraphError as error:
            raise PassError(f"the pass {name} made no valid graph: {error}") from error
        if _types(before) != _types(after):
            raise PassError(f"the pass {name} changed the type of a result")
    if level >= 2:
        compare(name, before, after, tolerance)


def _types(graph: Graph) -> list[object]:
    return [x.type for x in (*graph.inputs, *graph.outputs)]
