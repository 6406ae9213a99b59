"""`OBJ`: losses that do not say what they should."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from pullback.errors import Site
from pullback.inspect.findings import Finding, Severity, Threshold, short_place, with_lines
from pullback.inspect.patterns import Softmax
from pullback.inspect.places import activation_site
from pullback.inspect.probe import Probe
from pullback.inspect.program import Program
from pullback.inspect.rules.ending import bounded, crossed, downhill, logistic
from pullback.inspect.rules.hazards import Hazard
from pullback.inspect.rules.labels import labels_below, labels_ignored
from pullback.ir.array import Array
from pullback.ir.families import Elementwise, Multilinear
from pullback.ir.graph import Node, depends_on
from pullback.ir.interpret import evaluate_node
from pullback.ir.range import Range
from pullback.ops.layout import Layout
from pullback.ops.pointwise import (
    Absolute,
    Add,
    Divide,
    Multiply,
    Power,
    Select,
    Sigmoid,
    Square,
    Subtract,
)
from pullback.ops.reduce import Reduction, Sum


class OBJ01(Hazard):
    """The last activation does not fit the loss.

    A softmax of a softmax (`cross_entropy` takes logits and has its own), a sigmoid before a loss
    that has its own, a softmax over an axis of length 1, which is 1 whatever the logits are, a
    softmax over the batch axis, by which samples leak into each other, or over another axis than
    that along which the targets are shares. Logits are to be any number: a tanh before the loss
    bounds what it can fall to, and a relu has no slope for the logits that it holds at 0.
    """

    id = "OBJ01"
    title = "the last activation does not fit the loss"
    severity = Severity.FAIL
    fix = "give the loss the logits"
    intended = "a comment on the line: # intended: OBJ01"
    source = "TheDeepChecker, NeuraLint; Stack Overflow 31880720 and 42800203"
    floor = Threshold(
        0.1, "least loss of bounded logits / that of one who knows nothing above", "own"
    )
    held = Threshold(
        0.1, "or: share of the logits that an activation holds at a bound above", "own"
    )
    dead = Threshold(0.95, "and below: where all of them are held it is SIG03", "own")

    @classmethod
    def find(cls, program: Program) -> Iterator[Finding]:
        found = list(cls._patterns(program))
        yield from found
        if not found:
            yield from cls._bounded(program)
            yield from cls._crossed(program)

    @classmethod
    def _bounded(cls, program: Program) -> Iterator[Finding]:
        """Logits that an activation bounds."""
        told = set()
        for it in bounded(program):
            high = it.floor > cls.floor * it.usual
            if it.maker in told or not (high or cls.held < it.held < cls.dead):
                continue
            told.add(it.maker)
            name, which = it.maker.op.name, it.known.text("the logits")
            yield cls.found(
                f"{name} before the loss: the logits cannot be every number, {which}",
                with_lines(activation_site(program, it.maker), it.node.site),
                why=f"the loss of a sample stays above {it.floor:.3g}; who knows nothing has "
                f"{it.usual:.3g}"
                if high
                else f"{it.held:.0%} of the logits are held at the bound, where their slope is 0",
                fix=f"leave the {name} behind the last layer out",
                notes=(f"the loss: {_line(it.node)}",),
                numbers={"floor": it.floor, "held": it.held},
            )

    @classmethod
    def _crossed(cls, program: Program) -> Iterator[Finding]:
        """A softmax along another axis than that of the targets."""
        for it in crossed(program):
            if it.axis < 0:
                yield cls.found(
                    "a softmax, and labels that do not exclude each other",
                    activation_site(program, it.softmax.node),
                    why="its shares add up to 1: two labels of a sample can not both be likely",
                    fix="a sigmoid for each: pb.nn.binary_cross_entropy_with_logits(logits, y)",
                    numbers={"axes": list(it.softmax.axes)},
                )
                return
            yield cls.found(
                f"a softmax over axis {_said(it.softmax.axes)} of {it.softmax.logits.type}, and "
                f"targets that are shares along axis {it.axis}",
                activation_site(program, it.softmax.node),
                why="what the loss takes for the probabilities of classes do not add up to 1",
                fix=f"axis={it.axis}",
                numbers={"axes": list(it.softmax.axes), "targets": it.axis},
            )
            return

    @classmethod
    def _patterns(cls, program: Program) -> Iterator[Finding]:
        seen = set()
        for softmax in (*program.softmaxes(), *program.class_losses()):
            if softmax.logits in seen or softmax.out not in program.learnt:
                continue
            seen.add(softmax.logits)
            yield from cls._about(program, softmax)
        told = set()
        for node in program.nodes:
            inner = cls._sigmoid(program, node)
            if inner is not None and inner not in told:
                told.add(inner)
                yield cls.found(
                    "a sigmoid before a loss that has its own",
                    with_lines(activation_site(program, inner), node.site),
                    why="the loss is given probabilities instead of logits: it stays above "
                    "log(1 + 1/e) = 0.31 for positive targets",
                    fix="leave the sigmoid out: binary_cross_entropy_with_logits takes logits",
                    notes=(f"the loss: {_line(node)}",),
                )

    @classmethod
    def _about(cls, program: Program, softmax: Softmax) -> Iterator[Finding]:
        site, kind = activation_site(program, softmax.node), softmax.logits.type
        inner = program.softmax(softmax.logits)
        if softmax.length == 1:
            yield cls.found(
                f"a softmax over an axis of length 1 of {kind} is always 1",
                site,
                why="its gradient is 0: nothing before it can learn",
                fix="for one output use a sigmoid: pb.nn.binary_cross_entropy_with_logits",
                numbers={"axes": list(softmax.axes), "shape": list(kind.shape)},
            )
        elif inner is not None and inner.axes == softmax.axes:
            yield cls.found(
                "a softmax of a softmax: the loss is given probabilities instead of logits",
                with_lines(activation_site(program, inner.node), site),
                why="the inner one bounds its input to [0, 1]: the loss of K classes "
                "cannot fall below log(1 + (K - 1)/e)",
                fix="leave the inner softmax out; the loss has its own",
                notes=(f"the outer one: {_line(softmax.node)}",),
            )
        elif _is_over_batch(program, softmax):
            yield cls.found(
                f"a softmax over axis 0 of {kind}, the batch"
                if softmax.axes == (0,)
                else f"a softmax over all of {kind}, the batch with it",
                site,
                severity=Severity.WARN,
                why="the samples of a batch share one distribution: they leak into each other",
                fix="axis=-1, the classes",
                numbers={"axes": list(softmax.axes), "shape": list(kind.shape)},
            )

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """What a wrong softmax makes so small that its logarithm is not safe, or a gradient 0."""
        follows = ("NUM06", "CUT04") if mine.what.endswith("is always 1") else ("NUM06",)
        return mine.severity is not Severity.INFO and other.rule.id in follows

    @classmethod
    def _sigmoid(cls, program: Program, node: Node) -> Node | None:
        """The sigmoid whose result a softplus, log(1 + e^x), takes for a logit."""
        if node.outputs[0] not in program.learnt:
            return None
        inner = [program.made_by(x, Sigmoid) for x in logistic(program, node)]
        return next((x for x in inner if x is not None), None)


class OBJ03(Hazard):
    """The output cannot reach the targets: they lie outside the range of the last operation.

    A sigmoid gives [0, 1], tanh [-1, 1], relu [0, ∞), a softmax [0, 1]. The range is computed from
    the operations before the difference; the targets are those of the batch at hand. Targets of a
    binary cross-entropy that are not in [0, 1], as -1 and 1, let it fall without end; of labels 0
    and 1 that multiply the logits, those of 0 say nothing.
    """

    id = "OBJ03"
    title = "the output cannot reach the targets"
    severity = Severity.FAIL
    fix = "a linear last layer, or targets scaled into the range"
    intended = "a comment on the line: # intended: OBJ03 targets are clipped"
    source = "Stack Overflow 48251943 and 48221692; interval analysis"
    few = Threshold(0.05, "a note where the share of the targets is below", "own: outliers")

    @classmethod
    def find(cls, program: Program) -> Iterator[Finding]:
        for node, share in downhill(program):
            numbers = program.numbers(share)
            yield cls.found(
                f"the targets of a cross-entropy of yes and no are not in [0, 1]: {node.op.name} "
                f"by {numbers.min():.3g}",
                node.site,
                why="a surprise counts less than nothing: the loss falls without end",
                fix="labels of 0 and 1: (y + 1) / 2 for those of -1 and 1",
                numbers={"least": float(numbers.min())},
            )
            break
        else:
            if isinstance(program, Probe):
                yield from cls._labels(program)
        for node in program.nodes:
            if isinstance(node.op, Subtract) and is_distance(program, node):
                x, y = node.inputs
                yield from cls._compare(program, x, y, node)
                yield from cls._compare(program, y, x, node)

    @classmethod
    def _labels(cls, probe: Probe) -> Iterator[Finding]:
        """Labels of -1 and 1 for a loss that wants 0 and 1, and the other way round."""
        outside, ignored = labels_below(probe), labels_ignored(probe)
        if outside is not None:
            x, least = outside
            values = probe.numbers(x).astype(np.float64)
            readers = [n for y in (x, *layouts(probe, x)) for n in probe.readers.get(y, [])]
            yield cls.found(
                f"the targets of a loss of yes and no go from {values.min():.3g} to "
                f"{values.max():.3g}, and not from 0 to 1",
                readers[0].site if readers else None,
                why=f"with logits of 1000 the loss is {least:.3g}: it falls without end",
                fix="labels of 0 and 1: (y + 1) / 2 for those of -1 and 1",
                numbers={"least": float(values.min()), "largest": float(values.max())},
            )
        elif ignored is not None:
            x, node = ignored
            yield cls.found(
                f"labels of 0 in {probe.replay.names[x]}: the loss has no slope for these samples",
                node.site,
                why="the label multiplies the logit, so it is to be -1 or 1",
                fix="labels of -1 and 1: 2 * y - 1 for those of 0 and 1",
            )

    @classmethod
    def _compare(
        cls, program: Program, output: Array, targets: Array, node: Node
    ) -> Iterator[Finding]:
        if output not in program.learnt or targets in program.learnt or targets not in program.fed:
            return
        known = program.ranges[output]
        if program.softmax(output) is not None:
            known = known.met(Range(0.0, 1.0))
        numbers = program.numbers(targets).astype(np.float64)
        outside = (numbers < known.low) | (numbers > known.high)
        if outside.any() and not known.is_unknown:
            share = float(outside.mean())
            last = _bounding(program, output)
            yield cls.found(
                f"{share:.0%} of the targets lie outside what the output can be: {known.text('y')}",
                cls._place(program, last, node),
                severity=Severity.INFO if share < cls.few else cls.severity,
                why=f"the targets of this batch go from {numbers.min():.4g} to {numbers.max():.4g}",
                notes=(f"the difference: {_line(node)}",),
                numbers={"share": share, "low": known.low, "high": known.high},
            )

    @classmethod
    def _place(cls, program: Program, last: Node | None, node: Node) -> Site:
        if last is None:
            return node.site
        return with_lines(activation_site(program, last), node.site)


class OBJ07(Hazard):
    """Predictions and targets of different rank are broadcast against each other in the loss.

    (B, 1) - (B,) is (B, B): every prediction is compared with every target, and the network learns
    their mean. It is an accident when neither shape was spread on purpose: an index with None, a
    reshape or an expand_dims of the operand counts as intent. The losses of `pb.nn` refuse it.
    """

    id = "OBJ07"
    title = "an accidental broadcast in the loss"
    severity = Severity.FAIL
    fix = "give both one shape: predictions[..., 0], or targets[:, None]"
    intended = "x[:, None] - y, or a comment on the line: # intended: OBJ07 all pairs"
    source = "a classic; the shapes say it"

    @classmethod
    def find(cls, program: Program) -> Iterator[Finding]:
        for node in program.nodes:
            if isinstance(node.op, Elementwise):
                pairs = itertools.combinations(node.inputs, 2)
                found = [each for x, y in pairs for each in cls._about(program, node, x, y)]
                yield from found[:1]

    @classmethod
    def _about(cls, program: Program, node: Node, x: Array, y: Array) -> Iterator[Finding]:
        out = node.outputs[0]
        if x.ndim == y.ndim or out.size <= max(x.size, y.size) or not _both_sides(program, x, y):
            return
        longer, shorter = (x, y) if x.ndim > y.ndim else (y, x)
        batch = shorter.shape[0]
        spread = (*(1,) * (longer.ndim - shorter.ndim), *shorter.shape)
        clash = [
            i for i, (a, b) in enumerate(zip(longer.shape, spread, strict=True)) if a == 1 != b
        ]
        if batch not in program.batches or longer.shape[0] != batch or not clash:
            return
        if _was_spread(program, longer):
            return
        yield cls.found(
            f"{longer.type} and {shorter.type} are broadcast to {out.type}",
            node.site,
            why="every sample is compared with every other: the network learns the mean target",
            numbers={"shapes": [list(x.shape), list(y.shape)], "result": list(out.shape)},
            evidence=node,
        )


# ---- what they share ------------------------------------------------------------------------


def _said(axes: tuple[int, ...]) -> str:
    return ", ".join(map(str, axes))


def _line(node: Node) -> str:
    return f"{node.op.name}  {short_place(node.site)}".rstrip()


def _bounding(program: Program, x: Array) -> Node | None:
    """The last operation that is more than a scale and a shift of one value."""
    node = program.makers.get(program.strip(x))
    while node is not None and isinstance(node.op, Add | Subtract | Multiply | Divide):
        learnt = [y for y in node.inputs if y in program.learnt]
        if len(learnt) != 1 or program.ranges[learnt[0]].is_unknown:
            break
        node = program.makers.get(program.strip(learnt[0]))
    return node


def _is_over_batch(program: Program, softmax: Softmax) -> bool:
    """Whether the samples, or all there is, share one distribution. Pairs of samples may."""
    x, axes = softmax.logits, softmax.axes
    if x not in program.fed or x.ndim < 2 or x.shape[0] not in program.batches:
        return False
    is_of_pairs = x.shape[0] == x.shape[1]
    return axes == (0,) or (len(axes) == x.ndim and not is_of_pairs)


def _both_sides(program: Program, x: Array, y: Array) -> bool:
    """Whether one operand is a prediction and the other depends on the data alone."""
    sides = [(a in program.learnt, a in program.fed) for a in (x, y)]
    return (True, True) in sides and (False, True) in sides


def _was_spread(program: Program, x: Array) -> bool:
    """Whether the axis of length 1 was put there by hand: a reshape that is no `keepdims`."""
    node = program.made_by(x, Layout)
    if node is None or node.inputs[0].size != x.size:
        return False
    inner = program.made_by(node.inputs[0], Reduction)
    return inner is None or inner.site is not node.site


def is_error(program: Program, node: Node) -> bool:
    """Whether a difference is squared, or its size taken, and then only added up to the loss."""
    readers = program.readers.get(node.outputs[0], [])
    if len(readers) != 1:
        return False
    (reader,) = readers
    even = isinstance(reader.op, Power) and reader.op.exponent % 2 == 0
    product = isinstance(reader.op, Multiply) and reader.inputs[0] is reader.inputs[1]
    if not (even or product or isinstance(reader.op, Square | Absolute)):
        return False
    return _adds_up(program, reader.outputs[0])


def is_distance(program: Program, node: Node) -> bool:
    """Whether the loss grows with the size of a difference, whichever its sign: of any such loss.

    A Huber loss, a root of squares, of a quantile: it is asked of the difference times 0, -1, 1, 2.
    """
    if is_error(program, node):
        return True
    y = node.outputs[0]
    data = [x for x in node.inputs if x in program.fed and x not in program.learnt]
    if y not in program.learnt or len(data) != 1:
        return False
    behind = depends_on(program.nodes, [y])
    if any(
        isinstance(n.op, Multilinear)
        and not behind.isdisjoint(n.inputs)
        and any(x in program.learnt and x not in behind for x in n.inputs)
        for n in program.nodes
    ):
        return False  # more weights come behind
    nothing, turned, own, twice = [_loss_with(program, y, t) for t in (0.0, -1.0, 1.0, 2.0)]
    return nothing < turned and nothing < own < twice


def layouts(program: Program, x: Array) -> list[Array]:
    """The same numbers in other layouts and types."""
    return [n.outputs[0] for n in program.nodes if n.inputs and program.strip(n.outputs[0]) is x]


def _loss_with(program: Program, x: Array, factor: float) -> float:
    """The loss where a value is so many times itself."""
    known = {x: (factor * program.numbers(x)).astype(x.dtype)}
    with np.errstate(all="ignore"):
        for node in program.nodes:
            if node.outputs[0] is not x and any(y in known for y in node.inputs):
                given = [known[y] if y in known else program.numbers(y) for y in node.inputs]
                known.update(zip(node.outputs, evaluate_node(node, given), strict=True))
    return float(known.get(program.graph.outputs[0], np.float32(np.nan)))


def _adds_up(program: Program, x: Array) -> bool:
    """Whether nothing but sums and constant factors stand between `x` and the result."""
    while x is not program.graph.outputs[0]:
        readers = program.readers.get(x, [])
        if not readers:
            return False
        reader = readers[0]
        scales = isinstance(reader.op, Multiply | Divide) and any(
            y not in program.learnt for y in reader.inputs
        )
        plus = isinstance(reader.op, Add) or (
            isinstance(reader.op, Subtract) and x is reader.inputs[0]
        )
        if not (scales or plus or isinstance(reader.op, Sum | Layout | Select)):
            return False
        x = reader.outputs[0]
    return True
