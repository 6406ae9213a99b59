"""`NUM04` … `NUM06`: places where a number may stop being finite, read off the graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pullback.inspect.findings import Finding, Rule, Severity, Threshold
from pullback.inspect.program import Body, Program
from pullback.ir.array import Array, concrete
from pullback.ir.builder import quiet
from pullback.ir.families import Elementwise, Linear
from pullback.ir.graph import Node
from pullback.ir.range import Range
from pullback.ir.types import bool_, float64
from pullback.ops.index import Gather
from pullback.ops.pointwise import Log, Select, Sigmoid


class Hazard(Rule):
    """A rule that reads a traced program before anything goes wrong."""

    @classmethod
    def find(cls, program: Program) -> Iterator[Finding]:
        raise NotImplementedError


class Inward(Hazard):
    """A hazard that may also lie inside a loop, a branch or a checkpoint."""

    @classmethod
    def find(cls, program: Program) -> Iterator[Finding]:
        for each in program.every:
            yield from cls.within(each)

    @classmethod
    def within(cls, program: Program) -> Iterator[Finding]:
        """What one graph has."""
        raise NotImplementedError


class NUM04(Inward):
    """A function that is not defined everywhere is applied to what may lie outside its domain.

    log, √, division, powers, asin, acosh, atanh and their like. The range of the operand is
    computed from the operations before it: `log(1 + x*x)` and `sqrt(pb.maximum(x, 1e-6))` are
    safe. Where the range is known to touch the bound (log of a softmax, of a relu, √ of a sum of
    squares) it is a warning; where nothing is known of the operand it is a note.

    Of √ and asin the *derivative* is infinite at the bound, although the value is finite.
    """

    id = "NUM04"
    title = "a partial function without a guard"
    severity = Severity.WARN
    fix = "keep the operand inside the domain before the operation"
    intended = "a comment on the line: # intended: NUM04 positive by construction"
    source = "GRIST's list of operations; interval analysis"
    near = Threshold(
        1e-2, "of what depends on parameters alone: distance from the end below", "own"
    )

    @classmethod
    def within(cls, program: Program) -> Iterator[Finding]:
        for node, operand, smooth in partial_nodes(program):
            if masks(program, node) or NUM06.applies(program, node):
                continue
            if program.softmax(node.outputs[0]) is not None:
                continue  # the largest of the powers is e⁰
            yield cls.about(program, node, operand, smooth)

    @classmethod
    def about(cls, program: Program, node: Node, operand: int, smooth: bool) -> Finding:
        assert isinstance(node.op, Elementwise)
        known = program.ranges[node.inputs[operand]]
        domain = (node.op.smooth_on() if smooth else node.op.finite_on())[operand]
        whose = f"the derivative of {node.op.name}" if smooth else node.op.name
        names = _names(node)
        x = names[operand]
        reached = f"nothing is known of {x}" if known.is_unknown else f"here {known.text(x)}"
        return cls.found(
            f"{node.op.formula(*names)}: {whose} is finite only for {domain.text(x)}",
            node.site,
            severity=Severity.INFO
            if known.is_unknown or cls._is_away(program, node.inputs[operand], domain)
            else cls.severity,
            why=f"{reached}, whatever the parameters are",
            fix=node.op.remedy or cls.fix,
            numbers={"operation": node.op.name, "range": str(known), "domain": str(domain)},
            evidence=node,
        )

    @classmethod
    def _is_away(cls, program: Program, x: Array, domain: Range) -> bool:
        """Whether it depends on parameters alone, which begin far from the end of the domain."""
        if x in program.fed or x not in program.learnt or isinstance(program, Body):
            return False
        numbers = program.numbers(x).astype(float64)
        ends = [end for end in (domain.low, domain.high) if np.isfinite(end)]
        ends += [0.0] if domain.holed else []
        return bool(numbers.size) and all(np.abs(numbers - end).min() > cls.near for end in ends)


class NUM05(Inward):
    """`where(mask, f(x), …)` with a function that is not defined where the mask is false.

    The value is right, because the other branch is chosen. The derivative is not safe: the
    cotangent 0 of the branch that is not chosen meets an infinite or undefined slope, and 0·∞ and
    0·NaN are NaN. In this library products with the slopes of log, √, division and their like are
    0 where the cotangent is 0, so most such lines are right (a note); where an operation between
    has a slope that NaN makes NaN (tanh, sigmoid, a matrix product), it is a warning. PyTorch and
    JAX give NaN in both cases.
    """

    id = "NUM05"
    title = "a partial function in a branch of where"
    severity = Severity.WARN
    fix = "make the operand safe before: pb.where(ok, f(pb.where(ok, x, 1.0)), other)"
    intended = "a comment on the line: # intended: NUM05"
    source = "pytorch issue 68425; the JAX FAQ (gradients contain NaN where using where)"

    @classmethod
    def within(cls, program: Program) -> Iterator[Finding]:
        for node, _, smooth in partial_nodes(program):
            way = masks(program, node)
            if not way:
                continue
            unsafe = [n for n in way[:-1] if not keeps_zero(program, n)]
            if smooth and not unsafe:
                continue
            through = f" through {unsafe[0].op.name}" if unsafe else ""
            why = (
                f"0 times the slope of {unsafe[0].op.name} at NaN or infinity is NaN"
                if unsafe
                else "this library keeps 0 times its slope at 0; PyTorch and JAX give NaN"
            )
            yield cls.found(
                f"{node.op.name} is masked by where only after it was computed{through}",
                node.site,
                severity=cls.severity if unsafe else Severity.INFO,
                why=why,
                numbers={"operation": node.op.name, "mask": way[-1].op.name},
                evidence=node,
            )


class NUM06(Inward):
    """The logarithm of a softmax or of a sigmoid, in two steps.

    The probability underflows to 0 (in float32 for a logit 104 below the largest) or rounds to 1,
    and the logarithm is -∞ or 0, with the gradient lost. `log_softmax` and `log_sigmoid` are exact
    there. `pb.compile` rewrites the plain pattern by itself; an eager run does not, and an `eps`
    inside the logarithm bounds the loss but still loses the gradient.
    """

    id = "NUM06"
    title = "log of a softmax or a sigmoid"
    severity = Severity.WARN
    fix = "pb.log_softmax(logits) or pb.nn.log_sigmoid(logits); as a loss, pb.nn.cross_entropy"
    intended = "a comment on the line: # intended: NUM06"
    source = "TheDeepChecker; every framework's documentation of log_softmax"

    @classmethod
    def within(cls, program: Program) -> Iterator[Finding]:
        for node in program.nodes:
            name = cls.applies(program, node)
            if name:
                bounded = program.outside(node, smooth=False) is None
                yield cls.found(
                    f"log of {name}: the probability underflows before the logarithm",
                    node.site,
                    severity=Severity.INFO if bounded else cls.severity,
                    why="a bound keeps the value finite; the gradient is lost beyond it"
                    if bounded
                    else "where it underflows to 0, the loss is infinite",
                    numbers={"bounded": bounded},
                    evidence=node,
                )

    @classmethod
    def applies(cls, program: Program, node: Node) -> str:
        """What the logarithm is taken of, if it is a softmax or a sigmoid; else nothing."""
        if not isinstance(node.op, Log) or node.outputs[0] not in program.learnt:
            return ""
        x = program.unguarded(node.inputs[0], Gather)
        if program.softmax(x) is not None:
            return "a softmax"
        return "a sigmoid" if program.made_by(x, Sigmoid) is not None else ""


# ---- what they share ------------------------------------------------------------------------


def partial_nodes(program: Program) -> Iterator[tuple[Node, int, bool]]:
    """Operations that depend on a parameter and may leave their domain: (node, operand, smooth).

    `smooth` says that the derivative alone is at risk. One of several at the same place is told.
    """
    seen = set()
    for node in program.nodes:
        if program.learnt.isdisjoint(node.outputs):
            continue
        for smooth in (False, True):
            risk = program.outside(node, smooth)
            place = (node.site.frames, node.op)
            if risk is None or place in seen:
                continue
            if smooth and node.inputs[risk[0]] not in program.learnt:
                continue
            seen.add(place)
            yield node, risk[0], smooth
            break


def masks(program: Program, node: Node) -> list[Node]:
    """The way from a node to a `where` that may leave it out; [] if it reaches something else.

    Every reader on the way must be on it: what is also used unmasked is not masked.
    """
    way: list[Node] = []
    x = node.outputs[0]
    while True:
        readers = program.readers.get(x, [])
        if len(readers) != 1:
            return []
        (reader,) = readers
        way.append(reader)
        if isinstance(reader.op, Select):
            return way if not {x}.isdisjoint(reader.inputs[1:]) else []
        if not isinstance(reader.op, Elementwise | Linear):
            return []
        x = reader.outputs[0]


def keeps_zero(program: Program, node: Node) -> bool:
    """Whether a cotangent 0 stays 0 in the op's rule, whatever its operands are."""
    op = node.op
    if isinstance(op, Linear) or (isinstance(op, Elementwise) and op.guarded):
        return True
    if not isinstance(op, Elementwise):
        return False

    def held(x: Array) -> Array:
        return concrete(program.numbers(x).copy())

    with quiet():
        partials = op.partials(held(node.outputs[0]), *[held(x) for x in node.inputs])
    return all(not isinstance(p, Array) or p.dtype == bool_ for p in partials)


def _names(node: Node) -> list[str]:
    return ["x"] if len(node.inputs) == 1 else list("xyz"[: len(node.inputs)])
