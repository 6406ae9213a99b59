"""`backprop`: the values, deltas and rules of one gradient, as the textbooks draw them."""

from __future__ import annotations

import functools
import html
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pullback._public import public
from pullback.errors import Site, StructureError
from pullback.inspect.formulas import Formula, Printer, total
from pullback.inspect.names import LOSS, Names, function_name, name_values
from pullback.inspect.seeing.page import render
from pullback.inspect.seeing.table import print_table
from pullback.ir.array import Array
from pullback.ir.builder import building
from pullback.ir.graph import Graph, Node
from pullback.ir.types import Numbers, TensorType, is_float
from pullback.ops.operators import zeros
from pullback.ops.pointwise import Constant
from pullback.transforms.derivatives import _scalar_output
from pullback.transforms.graphs import TRANSFORMS
from pullback.transforms.reverse import Reverse
from pullback.transforms.trace import trace_leaves
from pullback.transforms.tree import TreeDef, flatten_arrays, unflatten

SHORT = 24
"""A formula of an unnamed value up to this many characters stands wherever the value is used."""
MODERATE = 60
"""Up to this many, when it is used once."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """A value that a formula reads; `cached` when the forward pass computed and had to keep it."""

    name: str
    cached: bool

    def __str__(self) -> str:
        return f"{self.name} (cached)" if self.cached else self.name


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one use of a value adds to its δ: `through` names the result of the node that used it.

    `rule` speaks of that node's operands and the δ of its result alone; `formula` of the values
    that the user named.
    """

    through: str
    op: str
    rule: str
    formula: str
    equation: str
    depends: tuple[Dependency, ...]
    value: Numbers


@dataclass(frozen=True, slots=True)
class Passed:
    """What the node of a value hands on: `rule` is its part of the δ of its operand `to`."""

    to: str
    rule: str


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One value of the computation: how it was made, and its δ = ∂L/∂value.

    `formula` and `depends` speak of the values that the user named; `contributions` of the nodes
    that used the value, one by one.
    """

    name: str
    kind: str
    """`argument`, `captured`, `value`, `loss` or `literal`."""
    type: TensorType
    equation: str
    value: Numbers
    delta: Numbers | None
    formula: str
    depends: tuple[Dependency, ...]
    contributions: tuple[Contribution, ...]
    passes: tuple[Passed, ...]
    reads: tuple[str, ...]
    node: Node | None
    named: bool

    @property
    def symbol(self) -> str:
        """`∂L/∂W` for an argument, `δ_z` for a value on the way."""
        return f"∂{LOSS}/∂{self.name}" if self.kind == "argument" else f"δ_{self.name}"

    @property
    def site(self) -> Site | None:
        return None if self.node is None else self.node.site


@dataclass(frozen=True, eq=False)
class Backprop:
    """One run of backpropagation, kept: see `pb.backprop`."""

    graph: Graph
    value: Array
    grads: Any
    nodes: tuple[Step, ...]
    """Every value, arguments first, in forward order."""
    steps: tuple[Step, ...]
    """The rows of the step table, in backward order."""
    loss_name: str | None
    name: str

    def step(self, name: str) -> Step:
        """The entry of the value with this name."""
        entries = {each.name: each for each in self.nodes}
        if name == self.loss_name and LOSS in entries:
            return entries[LOSS]
        if name in entries:
            return entries[name]
        known = ", ".join(each.name for each in self.nodes if each.kind != "literal")
        raise StructureError(f"no value is called {name!r}", hint=f"the values are {known}")

    def delta(self, name: str) -> Numbers | None:
        """∂L/∂value; None where the loss does not depend on the value through floating numbers."""
        return self.step(name).delta

    def table(self) -> str:
        """The backward pass as a table, one step a row, contributions at a merge below it."""
        return print_table(self.steps)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """One self-contained page with graph, numbers, rules and lines; also written to `path`."""
        page = render(self)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def _repr_html_(self) -> str:
        """The page in a frame, so that a notebook keeps its own style."""
        page = html.escape(self.to_html(), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:640px;border:0"></iframe>'

    def __repr__(self) -> str:
        return f"Backprop of {self.name}: {LOSS} = {self.value.item():.6g}\n{self.table()}"


@public
def backprop(f: Callable[..., Any], *args: Any) -> Backprop:
    """Run `f(*args)` and its reverse pass, and keep everything: values, deltas, rules, lines.

    `f` returns a scalar loss. All floating arguments are differentiated, others are held fixed.
    `.table()` is the step table of the textbooks, `.to_html()` a page with the graph,
    `.delta("z1")` the δ of any value, `.grads` the gradients in the structure of the arguments
    (None for a leaf that is not floating; the bare structure when there is one argument).

    Every formula is printed from the nodes that the op's own derivative rule recorded.

    Raises `ShapeError` or `StructureError` when the result is not one scalar, `TracedValueError`
    inside an abstract trace, where values have no numbers.
    """
    leaves, treedef = flatten_arrays(args, "argument")
    for leaf in leaves:
        leaf.numpy()
    traced = trace_leaves(f, leaves, treedef, evaluating=True)
    value = _scalar_output(traced, traced.graph.outputs, "backprop")
    run = _Run(traced.graph, (*leaves, *traced.captured), [is_float(x.dtype) for x in leaves])
    names = name_values(f, treedef, traced.graph, traced.captured)
    record = _Record(run, names, len(leaves))
    return Backprop(
        graph=traced.graph,
        value=Array(value.type, value.numpy()),
        grads=_gradients(run, leaves, treedef),
        nodes=record.entries(),
        steps=record.steps(),
        loss_name=names.loss,
        name=function_name(f),
    )


def _gradients(run: _Run, leaves: Sequence[Array], treedef: TreeDef) -> Any:
    found: list[Array | None] = []
    for x, leaf in zip(run.graph.inputs, leaves, strict=False):
        bar = run.totals.get(x)
        if not is_float(leaf.dtype):
            found.append(None)
        elif bar is None:
            found.append(zeros(leaf.type))
        else:
            found.append(Array(bar.type, bar.numpy()))
    grads = unflatten(treedef, found)
    return grads[0] if len(grads) == 1 else grads


# ---- the two passes -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Use:
    """A contribution as the reverse pass made it."""

    node: Node
    bar: Array


class _Run:
    """A graph played forward and backward in one evaluating builder, so that every number is known.

    `values`, `totals` and the bars of `uses` are arrays of that builder; `printer` prints them.
    """

    def __init__(self, graph: Graph, inputs: Sequence[Array], floats: Sequence[bool]) -> None:
        self.graph = graph
        self.totals: dict[Array, Array] = {}
        self.uses: dict[Array, list[_Use]] = {}
        with building(evaluating=True) as builder:
            played = [builder.input(x) for x in inputs]
            wrt = [i for i, differentiated in enumerate(floats) if differentiated]
            reverse = Reverse(graph, played, wrt, TRANSFORMS)
            loss = graph.outputs[0]
            seed = zeros(loss.type) + 1
            self.totals[loss] = seed
            reverse.pull([seed], self._observe)
        self.values = reverse.env
        self.active = reverse.active
        self.printer = Printer(builder.nodes)

    def _observe(self, node: Node, x: Array, bar: Array, so_far: Array) -> None:
        self.uses.setdefault(x, []).append(_Use(node, bar))
        self.totals[x] = so_far


# ---- what is told about them ----------------------------------------------------------------


class _Record:
    """The entries of a run: two tellings, one by nodes (every value has a name) and one as a person
    would write it (in the variables of the user, the values between them composed away)."""

    def __init__(self, run: _Run, names: Names, arguments: int) -> None:
        self.run = run
        self.names = names
        self.arguments = set(run.graph.inputs[:arguments])
        self.captured = set(run.graph.inputs[arguments:])
        self.makers = {x: node for node in run.graph.nodes for x in node.outputs}
        self.computed = {
            names.of[x]
            for node in run.graph.nodes
            if not isinstance(node.op, Constant)
            for x in node.outputs
        }
        self.every = self._named(self.makers)
        self.written = self._written_values()
        self.symbols: dict[Array, str] = dict(self.written)
        self.read: dict[Array, tuple[str, ...]] = {}
        self.parts: dict[Array, list[Formula]] = {}
        self.told, self.rows = self._written_deltas()

    def _named(self, values: Iterable[Array]) -> dict[Array, str]:
        """The run's arrays with their names: all arguments, and these values unless literals."""
        chosen = [*self.run.graph.inputs, *(x for x in values if not self._is_literal(x))]
        return {self.run.values[x]: self.names.of[x] for x in chosen}

    def _is_literal(self, x: Array) -> bool:
        return x in self.makers and isinstance(self.makers[x].op, Constant)

    # ---- as a person would write it ----

    def _written_values(self) -> dict[Array, str]:
        """Names of the forward values that formulas mention; the others are spelled out."""
        written = self._named(x for x in self.makers if x in self.names.known)
        for node in self.run.graph.nodes:
            for x in node.outputs:
                array = self.run.values[x]
                if array in written or self._is_literal(x):
                    continue
                if len(str(self.run.printer.formula(array, written))) > SHORT:
                    written[array] = self.names.of[x]
        return written

    def _written_deltas(self) -> tuple[dict[Array, Formula], list[Array]]:
        """The δ of each value in terms of earlier rows, and which values get a row of their own."""
        told: dict[Array, Formula] = {}
        rows: list[Array] = []
        for x in self._backward_order():
            bar = self.run.totals[x]
            if x is self.run.graph.outputs[0] and x in self.makers:
                told[x] = self.run.printer.formula(bar, self.symbols)
                continue
            uses = [(use, self._names_at(use, rows)) for use in self.run.uses.get(x, ())]
            self.parts[x] = [self.run.printer.formula(use.bar, names) for use, names in uses]
            told[x] = total(self.parts[x]) if uses else self.run.printer.formula(bar, {})
            self.read[x] = tuple(
                name for use, names in uses for name in self.run.printer.reads(use.bar, names)
            )
            if x in self.names.known or not self._fits(x, told[x]):
                rows.append(x)
                if x in self.makers:
                    self.symbols.setdefault(bar, f"δ_{self.names.of[x]}")
        return told, rows

    def _names_at(self, use: _Use, rows: Iterable[Array]) -> dict[Array, str]:
        """The written names at a node: the δ that it passes on goes by the node's own name."""
        own = {
            self.run.totals[x]: f"δ_{self.names.of[x]}"
            for x in set(rows).intersection(use.node.outputs)
        }
        return self.symbols | own

    def _fits(self, x: Array, formula: Formula) -> bool:
        """Whether the δ of an unnamed value is written out where it is used."""
        node = self.makers.get(x)
        readers = 0 if node is None else sum(each in self.run.active for each in node.inputs)
        length = len(str(formula))
        return length <= SHORT or (readers <= 1 and length <= MODERATE)

    def _backward_order(self) -> list[Array]:
        """Values in the order in which their δ is complete, arguments in their own order."""
        loss = self.run.graph.outputs[0]
        if loss not in self.makers:
            return [loss] if loss in self.arguments else []
        last = {x: uses[-1].node for x, uses in self.run.uses.items()}
        done: dict[Node, list[Array]] = {}
        for x in self.run.graph.inputs:
            if x in last:
                done.setdefault(last[x], []).append(x)
        order: list[Array] = []
        waiting: list[Array] = []
        for node in reversed(self.run.graph.nodes):
            ready = [x for x in node.outputs if x in self.run.totals]
            if any(x in self.names.known for x in ready):
                order += self._in_order(waiting)
                waiting = []
            order += ready
            waiting += done.get(node, [])
        return order + self._in_order(waiting)

    def _in_order(self, arguments: list[Array]) -> list[Array]:
        chosen = set(arguments)
        return [x for x in self.run.graph.inputs if x in chosen]

    # ---- entries ----

    def entries(self) -> tuple[Step, ...]:
        values = [*self.run.graph.inputs, *self.makers]
        return tuple(self._entry(x) for x in values)

    def steps(self) -> tuple[Step, ...]:
        return tuple(self._entry(x) for x in self.rows)

    @functools.cache  # noqa: B019  (a record lives as long as one call)
    def _entry(self, x: Array) -> Step:
        bar = self.run.totals.get(x)
        formula = self.told.get(x)
        return Step(
            name=self.names.of[x],
            kind=self._kind(x),
            type=x.type,
            equation=self._equation(x),
            value=self.run.values[x].numpy(),
            delta=None if bar is None else bar.numpy(),
            formula="" if formula is None else str(formula),
            depends=self._depends(formula, self.read.get(x, ())),
            contributions=tuple(
                self._contribution(use, part)
                for use, part in zip(self.run.uses.get(x, ()), self.parts.get(x, ()), strict=True)
            ),
            passes=self._passes(x),
            reads=self._reads(x),
            node=self.makers.get(x),
            named=x in self.names.known,
        )

    def _passes(self, x: Array) -> tuple[Passed, ...]:
        node = self.makers.get(x)
        operands = () if node is None else dict.fromkeys(node.inputs)
        return tuple(
            Passed(
                self.names.of[operand],
                str(self.run.printer.formula(use.bar, self._own_names(use.node))),
            )
            for operand in operands
            for use in self.run.uses.get(operand, ())
            if use.node is node
        )

    def _reads(self, x: Array) -> tuple[str, ...]:
        node = self.makers.get(x)
        operands = () if node is None else dict.fromkeys(node.inputs)
        return tuple(self.names.of[each] for each in operands if not self._is_literal(each))

    def _kind(self, x: Array) -> str:
        if x in self.arguments:
            return "argument"
        if x in self.captured:
            return "captured"
        if self._is_literal(x):
            return "literal"
        return "loss" if x is self.run.graph.outputs[0] else "value"

    def _equation(self, x: Array) -> str:
        """How the value is made, in the written names."""
        array, name = self.run.values[x], self.names.of[x]
        if x not in self.makers:
            return name
        names = {y: n for y, n in self.written.items() if y is not array}
        text = str(self.run.printer.formula(array, names))
        return text if self._is_literal(x) else f"{name} = {text}"

    def _contribution(self, use: _Use, part: Formula) -> Contribution:
        names = self._own_names(use.node)
        formula = self.run.printer.formula(use.bar, names)
        return Contribution(
            through=", ".join(self.names.of[x] for x in use.node.outputs),
            op=use.node.op.name,
            rule=str(formula),
            formula=str(part),
            equation=self._equation(use.node.outputs[0]),
            depends=self._depends(formula, self.run.printer.reads(use.bar, names)),
            value=use.bar.numpy(),
        )

    def _own_names(self, node: Node) -> dict[Array, str]:
        """What a node's rule speaks of: every forward value, and the δ of its results."""
        deltas = {
            self.run.totals[x]: f"δ_{self.names.of[x]}"
            for x in node.outputs
            if x in self.run.totals
        }
        return self.every | deltas

    def _depends(self, formula: Formula | None, read: Sequence[str]) -> tuple[Dependency, ...]:
        """What the formula mentions, then what its computation reads besides."""
        uses = () if formula is None else formula.uses
        return tuple(Dependency(x, x in self.computed) for x in dict.fromkeys((*uses, *read)))
