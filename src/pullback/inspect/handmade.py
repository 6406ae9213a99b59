"""`Handmade`: a step that was written by hand, traced, so that its lines can be named."""

from __future__ import annotations

import contextlib
import dis
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pullback.compile.driver import uncompiled
from pullback.errors import Frame, LeakedValueError, Site
from pullback.inspect.around import Around, counted_up
from pullback.inspect.findings import with_lines
from pullback.ir.array import Array
from pullback.ir.graph import Graph, Node, depends_on, needed_nodes
from pullback.ir.types import Numbers
from pullback.ops.pointwise import Constant, Multiply
from pullback.ops.sampling import RandomBits
from pullback.transforms.trace import Traced, trace_leaves
from pullback.transforms.tree import flatten, flatten_arrays

EPOCH = 64
"""So many steps are traced, at the most, to see one that does what not every step does."""


class Handmade:
    """The graph of a step: from a batch to whatever it returns, the new model first."""

    def __init__(self, step: Callable[..., Any], batch: Sequence[Any], params: Any) -> None:
        self._step = uncompiled(step)
        self._batch = flatten_arrays(tuple(batch), "batch")
        self.graph = self._traced()
        self._shapes = [x.shape for x in flatten(params)[0]]

    def _traced(self) -> Graph:
        return trace_leaves(self._step, *self._batch, evaluating=True).graph

    @property
    def applied(self) -> Site | None:
        """Where the new parameters are made; else the last thing made that has their form."""
        made = [x for x in self._nodes if self._makes_new(x)]
        return _last(made or self._left)

    @property
    def dropped(self) -> Site | None:
        """Where something of the form of parameters is made that nothing reads."""
        return _last(self._left)

    @property
    def lost(self) -> Site | None:
        """Where new parameters are made that it does not return, or the last use of their name."""
        return last_use(self._left[-1].site) if self._left else self.applied

    @property
    def _left(self) -> list[Node]:
        read = {x for node in self.graph.nodes for x in node.inputs} | {*self.graph.outputs}
        return [x for x in self._nodes if read.isdisjoint(x.outputs) and self._like(x.outputs)]

    @property
    def used(self) -> Site | None:
        """Where the gradients that it returns are read first: by the optimiser."""
        told = self._like(self.graph.outputs[-len(self._shapes) :])
        readers = [x for x in self._nodes if not set(told).isdisjoint(x.inputs)]
        return readers[0].site if readers else self.handed

    def _makes_new(self, node: Node) -> bool:
        return not set(self._like(self.graph.outputs)).isdisjoint(node.outputs)

    @property
    def differentiated(self) -> Site | None:
        """Where the loss is called."""
        inputs = {*self.graph.inputs}
        readers = [x for x in self._nodes if not inputs.isdisjoint(x.inputs)]
        return readers[0].site if readers else None

    @property
    def begun(self) -> Site | None:
        """Where zeros of the form of parameters are made: a new memory; else where it is lost."""
        zeros = {x.outputs[0] for x in self._nodes if _is_zero(x)}
        made = [x for x in self._nodes if not zeros.isdisjoint(x.inputs) and self._like(x.outputs)]
        return made[0].site if made else self.forgotten

    @property
    def forgotten(self) -> Site | None:
        """Where the optimiser reads the gradients, and where what it gives is not returned."""
        site = self.used
        return site if site is None else with_lines(site, *_ends(site))

    @property
    def renewed(self) -> Site | None:
        """Where a model is drawn, in one of the steps that come: it may not be in each."""
        for _ in range(EPOCH):
            drawn = [x for x in self.graph.nodes if isinstance(x.op, RandomBits)]
            if drawn:
                return drawn[0].site
            self.graph = self._traced()
        return None

    @property
    def scaled(self) -> Site | None:
        """Where something of the form of parameters is multiplied by a number, at the last."""
        numbers = {x.outputs[0] for x in self._nodes if isinstance(x.op, Constant)}
        own = {x for x in self.graph.inputs if x.shape in self._shapes and x.ndim}
        made = [
            x
            for x in self._nodes
            if isinstance(x.op, Multiply)
            and not own.isdisjoint(x.inputs)
            and not numbers.isdisjoint(x.inputs)
        ]
        return _last(made) or self.applied

    @property
    def handed(self) -> Site | None:
        """Where the gradients that it returns are made."""
        return self._handed() or self.applied

    @property
    def taken(self) -> Site | None:
        """The same where not every step makes them: in the next one that does, or where old ones
        are read."""
        with contextlib.suppress(LeakedValueError):  # a step may keep the values of its trace
            for _ in range(EPOCH):
                site = self._handed()
                if site is not None:
                    return site
                self.graph = self._traced()
        return self.used

    def _handed(self) -> Site | None:
        told = set(self._like(self.graph.outputs[-len(self._shapes) :]))
        site = _last([x for x in self._nodes if not told.isdisjoint(x.outputs)])
        return site if site is None else self._within(site)

    def _within(self, site: Site) -> Site:
        """A line of the step itself, where a site lies within what it calls."""
        own = set() if self.applied is None else {x.code for x in self.applied.frames}
        place = next((i for i, x in enumerate(site.frames) if x.code in own), None)
        return site if place is None else Site(site.frames[place:], phase=site.phase)

    @property
    def _nodes(self) -> list[Node]:
        return [x for x in self.graph.nodes if x.site.frame is not None]

    def _like(self, values: Sequence[Array]) -> list[Array]:
        """The first of these that have the shapes of the parameters, one after the other."""
        found: list[Array] = []
        for x in values:
            if len(found) < len(self._shapes) and x.shape == self._shapes[len(found)]:
                found.append(x)
        return found or [x for x in values if x.shape in self._shapes and x.ndim > 0]


def standing_draw(
    step: Callable[..., Any], before: Around, batch: Sequence[Any]
) -> tuple[Site, Site] | None:
    """The last draw of a step whose key is the same in each: where it is made, and drawn.

    Its key comes of arrays that stood around the loop before its first step and stand there now, or
    that the step itself makes. Of what the loop names itself something must have changed, or it is
    no loop that is looked at, but one step with its state. It is traced twice, and with other
    numbers in that state: the key must be the same.
    """
    step, now = uncompiled(step), Around.of(step)
    if now.numbers != before.numbers:  # they may count the steps
        return None
    same, names = {id(x) for x in (*before.direct, *before.deeper)}, {*map(id, now.direct)}
    is_one_step = names <= same
    if is_one_step:
        same -= names
    steps = step, step, counted_up(step, same, with_numbers=is_one_step)
    leaves = flatten_arrays(tuple(batch), "batch")
    traces = [trace_leaves(f, *leaves, evaluating=True) for f in steps]
    each = zip(*[x.captured for x in traces], strict=False)
    own = {id(x) for made in each if made[0] is not made[1] for x in made if not now.keeps}
    draws = [_draws(x, len(leaves[0]), lambda y: id(y) in own or id(y) in same) for x in traces]
    for first, *others in zip(*map(reversed, draws), strict=False):
        if all(np.array_equal(first[0], x[0]) for x in others):
            return first[1], first[2]
    return None


def _draws(
    traced: Traced, given: int, stands: Callable[[Array], bool]
) -> list[tuple[Numbers, Site, Site]]:
    """Of the draws whose keys stand: the key, where it is made, where it is used last."""
    graph = traced.graph
    outside = zip(graph.inputs[given:], traced.captured, strict=True)
    moving = [*graph.inputs[:given], *[x for x, y in outside if not stands(y)]]
    fed, found = depends_on(graph.nodes, moving), []
    bits = [x for x in graph.nodes if isinstance(x.op, RandomBits)]
    for i, node in enumerate(bits):
        made = depends_on(graph.nodes, node.outputs)
        is_key = any(x.inputs[0] in made for x in bits[i + 1 :])
        if not is_key and node.inputs[0] not in fed:
            before = needed_nodes(graph.nodes, node.inputs) or (node,)
            start = next((x.site for x in before if x.site.frame is not None), node.site)
            found.append((node.inputs[0].numpy(), start, node.site))
    return found


def _is_zero(node: Node) -> bool:
    return isinstance(node.op, Constant) and not node.op.value


def _last(nodes: Sequence[Node]) -> Site | None:
    return nodes[-1].site if nodes else None


def _ends(site: Site) -> list[Site]:
    """The lines at which the function of a line returns."""
    code = site.frames[0].code
    steps = [x for x in dis.get_instructions(code) if x.opname == "RETURN_VALUE"]
    return [Site((Frame(code, x.offset),)) for x in steps if _line(x)]


def last_use(site: Site) -> Site:
    """Where the name that a line gives to its value is read last; the line where it is not.

    Of a value that is made in a lambda, the line that calls it.
    """
    place = next((i for i, x in enumerate(site.frames) if x.code.co_name[0] != "<"), None)
    if place is None:
        return site
    frame = site.frames[place]
    steps = list(dis.get_instructions(frame.code))
    named = [
        x.argval
        for x in steps
        if x.offset > frame.offset and x.opname.startswith("STORE_") and _line(x) == frame.line
    ]
    reads = [
        x for x in steps if x.opname.startswith("LOAD_") and x.argval in named[:1] and _line(x)
    ]
    if not reads:
        return site
    there = Frame(frame.code, reads[-1].offset)
    return Site((there, *site.frames[place + 1 :]), site.scope, site.phase)


def _line(step: dis.Instruction) -> int | None:
    return None if step.positions is None else step.positions.lineno
