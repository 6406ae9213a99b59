"""Rewrite rules written as code: a function of its variables that returns (pattern, replacement).

    @rule()
    def sum_with_negative(x, y):
        return x + -y, x - y

The function is traced like a user's. Its parameters stand for what an example gives them: a tensor
type for a value of any shape, a float for a literal, anything else for an attribute of an op. The
pattern is matched against the graph; the replacement is traced anew on the types that were found.

A rule tests itself: `tests/conformance/test_rules.py` evaluates both sides of every rule on every
example, on random numbers and on the extremes. `exact` means equal bits (NaN is NaN).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pullback.ir.array import Array
from pullback.ir.builder import record
from pullback.ir.graph import Graph, Node, with_outputs
from pullback.ir.op import Op
from pullback.ir.types import DType, TensorType, bool_, is_float
from pullback.ops.pointwise import Constant
from pullback.passes.rewrite import LITERAL, Head, Heads, Sweep

Example = tuple[Any, ...]
Function = Callable[..., tuple[Array, Array]]

# ---- patterns -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variable:
    """Any value; the same one wherever the parameter at `position` stands."""

    position: int


@dataclass(frozen=True)
class Literal:
    """A literal: `value`, or any when it is the parameter at `position`."""

    value: float
    position: int | None


@dataclass(frozen=True)
class Application:
    """An op with these attributes (None: the parameter of that position) on these operands."""

    op: type[Op]
    attributes: tuple[tuple[str, Any, int | None], ...]
    operands: tuple[Pattern, ...]

    @functools.cached_property
    def numbers(self) -> tuple[tuple[int, Literal], ...]:
        """The operands that are one number, by their places."""
        every = enumerate(self.operands)
        return tuple([(i, x) for i, x in every if isinstance(x, Literal) and x.position is None])


Pattern = Variable | Literal | Application

Found = list[Any]
"""What each parameter stands for; None where that is not known yet."""


def matches(pattern: Pattern, x: Array, sweep: Sweep, found: Found) -> bool:
    """Whether `x` was made as the pattern says; fills in `found`."""
    if isinstance(pattern, Variable):
        if found[pattern.position] is None:
            found[pattern.position] = x
        return found[pattern.position] is x
    if isinstance(pattern, Literal):
        literal = sweep.literals.get(x)
        return literal is not None and _agrees(pattern, literal.value, found)
    node = sweep.made_by.get(x)
    return node is not None and applies(pattern, node.op, node.inputs, sweep, found)


def applies(
    pattern: Application, op: Op, inputs: tuple[Array, ...], sweep: Sweep, found: Found
) -> bool:
    """`matches` for an application that is not recorded yet."""
    if type(op) is not pattern.op or len(inputs) != len(pattern.operands):
        return False
    for i, number in pattern.numbers:  # where most applications differ from most patterns
        if not matches(number, inputs[i], sweep, found):
            return False
    for name, expected, position in pattern.attributes:
        actual = getattr(op, name)
        if position is None:
            if actual != expected:
                return False
        elif found[position] is None:
            found[position] = actual
        elif found[position] != actual:
            return False
    for operand, x in zip(pattern.operands, inputs, strict=True):
        if not matches(operand, x, sweep, found):
            return False
    return True


def _agrees(pattern: Literal, value: float, found: Found) -> bool:
    if pattern.position is None:
        return value == pattern.value and math.copysign(1, value) == math.copysign(1, pattern.value)
    if found[pattern.position] is None:
        found[pattern.position] = value
        return True
    return repr(found[pattern.position]) == repr(value)


# ---- rules ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rule:
    """A pattern and its replacement.

    In the examples, values of the `generic` element type stand for all that `on` accepts. `when`
    is asked about what the parameters stand for. An approximate rule has a `tolerance`: on the
    `domain` its replacement is as precise as its pattern, or errs by no more than that many
    roundings of the operands and of a result of at least `magnitude`.
    """

    function: Function
    examples: tuple[Example, ...]
    on: Callable[[DType], bool] = is_float
    when: Callable[..., bool] | None = None
    tolerance: float = 0.0
    domain: tuple[float, float] = (-math.inf, math.inf)
    magnitude: float = 0.0

    @functools.cached_property
    def patterns(self) -> tuple[Application, ...]:
        """The pattern, once for each order of the operands of its commutative ops."""
        return tuple(self._patterns())

    @functools.cached_property
    def generic(self) -> DType:
        """The element type of the first example's first value that is not bool."""
        types = [x.dtype for x in self.examples[0] if isinstance(x, TensorType)]
        return next((dtype for dtype in types if dtype != bool_), bool_)

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def exact(self) -> bool:
        return self.tolerance == 0.0

    def at(self, op: type[Op], heads: Heads) -> Ordered | None:
        fitting = [
            pattern
            for pattern in self.patterns
            if op is pattern.op and all(map(_has_head, pattern.operands, heads))
        ]
        return Ordered(self, fitting) if fitting else None

    def __call__(self, sweep: Sweep, op: Op, inputs: tuple[Array, ...]) -> Array | None:
        return Ordered(self, self.patterns)(sweep, op, inputs)

    def sides(self, example: Example) -> Graph:
        """The graph that computes pattern and replacement of these parameters."""
        types = [each for each in example if isinstance(each, TensorType)]

        def both(*values: Array) -> tuple[Array, Array]:
            supply = iter(values)
            return self.function(
                *[next(supply) if isinstance(each, TensorType) else each for each in example]
            )

        return record(both, types)

    def holds(self, found: Found) -> bool:
        for x, example in zip(found, self.examples[0], strict=True):
            if isinstance(example, TensorType):
                generic = example.dtype == self.generic
                if not (self.on(x.dtype) if generic else x.dtype == example.dtype):
                    return False
        return self.when is None or self.when(*found)

    def replacement(self, sweep: Sweep, found: Found) -> Array:
        values = [x for x in found if isinstance(x, Array)]
        kinds = tuple([x.type if isinstance(x, Array) else x for x in found])
        spelled = repr([x for x in kinds if not isinstance(x, TensorType)])
        graph = _replacement(self, kinds, spelled)
        env = dict(zip(graph.inputs, values, strict=True))
        for node in graph.nodes:
            made = sweep.record(node.op, [env[x] for x in node.inputs])
            env.update(zip(node.outputs, made, strict=True))
        return env[graph.outputs[0]]

    def _patterns(self) -> Iterator[Application]:
        example = self.examples[0]
        graph = self.sides(example)
        made_by = {x: node for node in graph.nodes for x in node.outputs}
        places = [i for i, each in enumerate(example) if isinstance(each, TensorType)]
        variables = dict(zip(graph.inputs, places, strict=True))
        for pattern in _variants(graph.outputs[0], made_by, variables, example):
            assert isinstance(pattern, Application), f"{self.name}: a pattern is an application"
            yield pattern


@dataclass(frozen=True, eq=False)
class Ordered:
    """A rule with its operands in some of their orders."""

    rule: Rule
    patterns: Sequence[Application]

    @property
    def name(self) -> str:
        return self.rule.name

    def at(self, op: type[Op], heads: Heads) -> Ordered | None:
        return self.rule.at(op, heads)

    def __call__(self, sweep: Sweep, op: Op, inputs: tuple[Array, ...]) -> Array | None:
        for pattern in self.patterns:
            found: Found = [None] * len(self.rule.examples[0])
            if applies(pattern, op, inputs, sweep, found) and self.rule.holds(found):
                return self.rule.replacement(sweep, found)
        return None


@functools.lru_cache(maxsize=4096)
def _replacement(rule: Rule, example: Example, spelled: str) -> Graph:
    """The replacement on these types. `spelled` keeps apart what is equal, as 0.0 and -0.0 are."""
    graph = rule.sides(example)
    return with_outputs(graph, graph.outputs[1:])


def rule(
    *examples: Example,
    on: Callable[[DType], bool] = is_float,
    when: Callable[..., bool] | None = None,
    tolerance: float = 0.0,
    domain: tuple[float, float] = (-math.inf, math.inf),
    magnitude: float = 0.0,
) -> Callable[[Function], Rule]:
    """The decorator of a rule. Without examples every parameter is a float value.

    The attributes and literals of the first example differ from each other and from all that the
    pattern itself writes: by their values they are recognised.
    """

    def made(function: Function) -> Rule:
        given = examples or (("float32[2,3]",) * function.__code__.co_argcount,)
        parsed = tuple(tuple(map(_parsed, each)) for each in given)
        return Rule(function, parsed, on, when, tolerance, domain, magnitude)

    return made


def _has_head(pattern: Pattern, head: Head) -> bool:
    if isinstance(pattern, Application):
        return head is pattern.op
    return isinstance(pattern, Variable) or head in LITERAL


def _parsed(example: Any) -> Any:
    return TensorType.parse(example) if isinstance(example, str) else example


# ---- from a traced rule to patterns ---------------------------------------------------------


def _variants(
    x: Array, made_by: dict[Array, Node], variables: dict[Array, int], example: Example
) -> Iterator[Pattern]:
    """The pattern of `x`, once for each order of the operands of its commutative ops."""
    if x in variables:
        yield Variable(variables[x])
        return
    node = made_by[x]
    if type(node.op) is Constant:
        yield Literal(node.op.value, _position(node.op.value, example))
        return
    attributes = tuple(_attributes(node.op, example))
    choices = [list(_variants(y, made_by, variables, example)) for y in node.inputs]
    for operands in itertools.product(*choices):
        yield Application(type(node.op), attributes, operands)
        if node.op.commutative and operands[0] != operands[1]:
            yield Application(type(node.op), attributes, operands[::-1])


def _attributes(op: Op, example: Example) -> Iterator[tuple[str, Any, int | None]]:
    for each in fields(op):
        value = getattr(op, each.name)
        yield each.name, value, _position(value, example)


def _position(value: Any, example: Example) -> int | None:
    """The parameter that the value is, if any."""
    for i, each in enumerate(example):
        if type(each) is type(value) and each == value:
            return i
    return None
