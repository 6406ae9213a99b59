"""`births`: which operation made the NaN or the infinity that reached the loss or a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pullback._public import public
from pullback._settings import override
from pullback.errors import Phase, PullbackError, Site
from pullback.inspect.findings import Finding
from pullback.inspect.patterns import Patterns
from pullback.inspect.report import Report
from pullback.inspect.rules.numeric import NUM01, NUM02
from pullback.inspect.tape import Tape, play
from pullback.ir.array import Array
from pullback.ir.builder import compute
from pullback.ir.families import Elementwise
from pullback.ir.graph import Graph, Node, needed_nodes
from pullback.ir.interpret import evaluate_node, interpret, watching
from pullback.ir.op import HigherOrder
from pullback.ir.types import Numbers, is_float
from pullback.ops.index import Gather
from pullback.ops.layout import Layout
from pullback.ops.pointwise import Cast, Constant, Select, Sigmoid, Subtract
from pullback.ops.reduce import Reduction

FRAMES = 10
"""Operations of the run-up that are kept."""
SHOWN = 20
"""Births that are told of: the first in full, the others as explained by it."""
TRIES = 3
"""Other samples that are put in the place of a suspected one."""
OF_LOGITS = "take both in one, of the logits z: pb.log_softmax(z), pb.nn.cross_entropy(z, y)"
OF_LOGIT = (
    "take both in one, of the logit: pb.nn.log_sigmoid(logit) for log p and "
    "pb.nn.log_sigmoid(-logit) for log(1 - p); pb.nn.binary_cross_entropy_with_logits(logit, y)"
)
PROBES = (1.0, 0.5)
"""Harmless numbers put in the place of non-finite operands; no function is undefined at both."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One operation of the run-up: its line, and the least and largest |x| of its result."""

    op: str
    type: str
    site: Site
    least: float
    largest: float
    is_finite: bool


@dataclass(frozen=True, slots=True, eq=False)
class Birth:
    """The operation that made a non-finite value, and everything that is known of the moment."""

    node: Node
    """The operation itself; in a gradient, one of the rule of `forward`."""
    forward: Node | None
    """For a birth in the backward pass: the operation whose derivative it is."""
    index: tuple[int, ...]
    value: float
    operands: tuple[float | None, ...]
    """The operands' numbers at the element; None where an element of the result has many."""
    count: int
    """How many elements of the result were born non-finite, of those that do harm."""
    samples: tuple[int, ...]
    """The samples of the batch that the element belongs to."""
    reached: tuple[str, ...]
    run_up: tuple[Frame, ...]
    forward_operands: tuple[float | None, ...] = ()
    within: Node | None = None
    """The loop or branch that holds `node`."""
    turn: int = 0
    """In which turn of the loop, from 1."""
    because: str = ""
    """Where the operand had its number from, if that is a known story."""
    instead: str = ""
    """What is written instead, in that story."""
    mask: Node | None = None
    """The selection that had masked the element out, where its cotangent was 0."""

    @property
    def site(self) -> Site:
        return self.node.site if self.forward is None else self.forward.site


@public
def births(f: Callable[..., Any], *args: Any, argnums: int | tuple[int, ...] = 0) -> Report:
    """Play one step again and report what made its NaN or infinity: `NUM01`, `NUM02`.

    `f(*args)` is a loss (one floating scalar), whose gradient with respect to the arguments
    `argnums` is played too, or a whole step that returns anything else. It may be compiled: then
    the native kernels of the same graph are played, with the same bits.

    A value is blamed if it was born non-finite from finite operands and reaches, element by
    element, a loss or gradient that is not finite; a masked -∞ that does no harm is not. The
    `evidence` of each finding is a `Birth`: operation, line, element, operands, sample, run-up.

    Raises as `grad` does for arguments that are no arrays. Costs a replay with every value kept.

    >>> import numpy as np
    >>> import pullback as pb
    >>> report = births(lambda x: pb.sum(pb.log(x)), np.array([1.0, 0.0]))
    >>> report.findings[0].what
    'log(0) = -inf in element 1'
    """
    tape = play(f, args, argnums)
    with override(check=0), np.errstate(all="ignore"):
        found = list(certificates(tape))
    finite = len([1 for _, y in tape.outputs if is_float(y.dtype)])
    title = f"births  {tape.name}  {len(tape.nodes)} operations played by {tape.player}"
    calm = f"the {finite} results are finite" if finite != 1 else "the result is finite"
    return Report.of(title, found, "" if found else calm)


def certificates(tape: Tape) -> Iterator[Finding]:
    """A finding for the first birth; the others that do harm are explained by it."""
    blame = _Blame(tape)
    found = [
        _finding(blame.certify(node, mask, whole=i == 0), blame.is_hidden)
        for i, (node, mask) in enumerate(blame.births[:SHOWN])
    ]
    if not found and blame.given:
        x, mask = next(iter(blame.given.items()))
        given = tape.given[x]
        yield NUM01.given(given.name, tape.numbers[x], mask, blame.reached, given.is_data)
        return
    if not found and blame.literals:
        found = [_finding(blame.certify(*blame.from_literals(), whole=True), blame.is_hidden)]
    yield from found[:1]
    if len(found) > 1:
        first = found[0]
        for other in found[1:]:
            yield other.rule.found(
                other.what,
                other.site,
                explained_by=first.id,
                evidence=other.evidence,
                severity=other.severity,
            )


def marked(found: Sequence[Finding], foretold: Callable[[Birth], str]) -> list[Finding]:
    """Births of a later step, with what the first step said of the operation already."""
    first = next((x.evidence for x in found if isinstance(x.evidence, Birth)), None)
    said = "" if first is None else foretold(first)
    if not said:
        return list(found)
    told = [replace(x, numbers={**x.numbers, "foretold": True}) for x in found]
    return [replace(x, why=f"{x.why}; {said}") if x.evidence is first else x for x in told]


def _finding(birth: Birth, is_hidden: bool) -> Finding:
    """NUM02, where the number was born on the way back or does not show in the loss."""
    if birth.node.site.phase is Phase.BACKWARD:
        return NUM02.of(birth)
    return NUM02.left_out(birth) if is_hidden else NUM01.of(birth)


def is_finite(numbers: Numbers) -> Numbers:
    """Element by element; integers and truth values are finite."""
    if not is_float(numbers.dtype):
        return np.ones(numbers.shape, bool)
    return np.asarray(np.isfinite(numbers))


# ---- who is to blame ------------------------------------------------------------------------


class _Blame:
    """One walk backwards over the tape, from the non-finite results to where they were born.

    `guilty` holds for each value the elements whose being non-finite did harm.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.births: list[tuple[Node, Numbers]] = []
        self.literals: list[Node] = []
        self.guilty: dict[Array, Numbers] = {}
        self.reached = [n for n, y in tape.outputs if not is_finite(tape.numbers[y]).all()]
        losses = [y for n, y in tape.outputs if n.endswith("loss")]
        self.is_hidden = bool(losses) and all(is_finite(tape.numbers[y]).all() for y in losses)
        for _, y in tape.outputs:
            self._accuse(y, ~is_finite(tape.numbers[y]))
        for node in reversed(tape.nodes):
            if any(y in self.guilty for y in node.outputs):
                self._examine(node)
        self.births.reverse()
        self.given = {x: mask for x, mask in self.guilty.items() if x in tape.given}

    def _accuse(self, x: Array, mask: Numbers) -> None:
        mask = mask & ~is_finite(self.tape.numbers[x])
        if mask.any():
            before = self.guilty.get(x)
            self.guilty[x] = mask if before is None else before | mask

    def _examine(self, node: Node) -> None:
        guilty = [self.guilty.get(y) for y in node.outputs]
        operands = self.tape.operands(node)
        sick = [i for i, x in enumerate(operands) if not is_finite(x).all()]
        if isinstance(node.op, Constant):
            self.literals.append(node)
            return
        own = self._own(node, operands, sick, guilty)
        if own is not None:
            self.births.append((node, own))
        accused = False
        for i in sick:
            hit = self._due_to(node, operands, i, sick, guilty, own)
            if hit is not None:
                self._accuse(node.inputs[i], traced_back(node, operands, i, hit))
                accused = True
        if not accused and own is None:
            for i in sick:
                self._accuse(node.inputs[i], ~is_finite(operands[i]))

    def _own(
        self,
        node: Node,
        operands: Sequence[Numbers],
        sick: Sequence[int],
        guilty: Sequence[Numbers | None],
    ) -> Numbers | None:
        """The guilty elements of the first guilty result that are born here."""
        k = next(i for i, mask in enumerate(guilty) if mask is not None)
        mask = guilty[k]
        assert mask is not None
        if not sick:
            return mask
        if isinstance(node.op, HigherOrder):
            return None
        for probe in PROBES:
            mask = mask & ~is_finite(_evaluated(node, _healed(operands, sick, probe))[k])
        return mask if mask.any() else None

    def _due_to(
        self,
        node: Node,
        operands: Sequence[Numbers],
        i: int,
        sick: Sequence[int],
        guilty: Sequence[Numbers | None],
        own: Numbers | None,
    ) -> Numbers | None:
        """The guilty elements that are non-finite because operand `i` alone is."""
        k = next(i for i, mask in enumerate(guilty) if mask is not None)
        mask = guilty[k]
        assert mask is not None
        if own is not None:
            mask = mask & ~own
        if len(sick) > 1 and not isinstance(node.op, HigherOrder):
            others = [j for j in sick if j != i]
            mask = mask & ~is_finite(_evaluated(node, _healed(operands, others, PROBES[0]))[k])
        return mask if mask.any() else None

    def from_literals(self) -> tuple[Node, Numbers]:
        """Where written infinities did harm: the first NaN made of them, or else themselves."""
        for node in self.tape:
            if any(y in self.guilty for y in node.outputs) and node.inputs:
                guilty = [y for y in node.outputs if y in self.guilty]
                floats = [x for x in self.tape.operands(node) if is_float(x.dtype)]
                nan = np.isnan(self.tape.numbers[guilty[0]]) & self.guilty[guilty[0]]
                if nan.any() and not any(np.isnan(x).any() for x in floats):
                    return node, nan
        literal = self.literals[-1]
        return literal, np.ones(self.tape.numbers[literal.outputs[0]].shape, bool)

    # ---- the certificate ----

    def certify(self, node: Node, mask: Numbers, whole: bool) -> Birth:
        """All that is known of a birth; unless `whole`, without what takes further replays."""
        tape = self.tape
        k = next((i for i, y in enumerate(node.outputs) if y.shape == mask.shape), 0)
        index = tuple(map(int, np.argwhere(mask)[0]))
        forward = tape.forward_of.get(node)
        if node.site.phase is not Phase.BACKWARD:
            forward = None
        result = tape.results(node)[k]
        same = (forward or node).outputs[0].shape == mask.shape
        because, instead = _underflow(tape, node, index) if same else ("", "")
        birth = Birth(
            node=node,
            forward=forward,
            index=index,
            value=float(result[index]),
            operands=elements(node, tape.operands(node), index, mask.shape),
            count=int(mask.sum()),
            samples=_samples(tape, node, k, index) if whole else (),
            reached=tuple(self.reached),
            run_up=_run_up(tape, node) if whole else (),
            forward_operands=()
            if forward is None
            else elements(forward, tape.operands(forward), index, mask.shape),
            because=because,
            instead=instead,
            mask=(_mask_over(tape, forward or node, index) if same else None)
            or (_mask_behind(tape, node) if self.is_hidden else None),
        )
        inner = _inside(node, tape.operands(node))
        return birth if inner is None else _moved_in(birth, inner)


def _evaluated(node: Node, operands: Sequence[Numbers]) -> tuple[Numbers, ...]:
    return compute(node.op, operands, [y.type for y in node.outputs])


def _healed(operands: Sequence[Numbers], sick: Sequence[int], probe: float) -> list[Numbers]:
    healed = list(operands)
    for i in sick:
        x = operands[i]
        healed[i] = np.where(is_finite(x), x, np.asarray(probe, x.dtype)).astype(x.dtype)
    return healed


def traced_back(node: Node, operands: Sequence[Numbers], i: int, hit: Numbers) -> Numbers:
    """The elements of operand `i` that the elements `hit` of the result are computed from.

    All of them, where the op's family does not say.
    """
    x = operands[i]
    if isinstance(node.op, Elementwise):
        lead = hit.ndim - x.ndim
        short = [a for a, n in enumerate(x.shape, lead) if n == 1 and hit.shape[a] != 1]
        whole: Numbers = np.any(hit, axis=(*range(lead), *short), keepdims=True)
        return whole.reshape(x.shape)
    if isinstance(node.op, Reduction):
        return np.broadcast_to(np.expand_dims(hit, node.op.axes), x.shape)
    if isinstance(node.op, Layout | Gather):
        places = np.arange(1, x.size + 1, dtype=np.float64).reshape(x.shape)
        moved = np.asarray(node.op.reference(places, *operands[1:]))
        mask = np.zeros(x.size + 1, bool)
        mask[moved[hit].astype(int)] = True
        return mask[1:].reshape(x.shape)
    return np.ones(x.shape, bool)


def elements(
    node: Node, operands: Sequence[Numbers], index: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[float | None, ...]:
    """The number of each operand that belongs to an element of the result, if it is only one."""
    if not isinstance(node.op, Elementwise) or node.outputs[0].shape != shape:
        return (None,) * len(operands)
    return tuple([float(np.broadcast_to(x, shape)[index]) for x in operands])


# ---- the sample -----------------------------------------------------------------------------


def _samples(tape: Tape, node: Node, k: int, index: tuple[int, ...]) -> tuple[int, ...]:
    """The samples that the element depends on, among those that its coordinates suggest.

    A suspicion is confirmed by putting another sample in the place: what the element is computed
    from must change.
    """
    shape = node.outputs[k].shape
    batches = {
        x.shape[0] for x, given in tape.given.items() if given.is_data and x.ndim and x.shape[0] > 1
    }
    suspects = {
        (index[axis] // (n // batch), batch)
        for batch in batches
        for axis, n in enumerate(shape)
        if n == batch or (axis == 0 and n % batch == 0)
    }
    if not suspects:
        return ()
    replaying = _Replaying(tape, node, k, index)
    return tuple(sorted({s for s, batch in suspects if replaying.depends(s, batch)}))


class _Replaying:
    """The part of the tape before a birth, to be played again with other samples."""

    def __init__(self, tape: Tape, node: Node, k: int, index: tuple[int, ...]) -> None:
        self.tape, self.node, self.k, self.index = tape, node, k, index
        self.born = np.zeros(node.outputs[k].shape, bool)
        self.born[index] = True
        values = (*node.inputs, node.outputs[k])
        nodes = needed_nodes(tape.nodes, values)
        made = {y for n in nodes for y in n.outputs}
        read = [x for n in nodes for x in n.inputs] + list(node.inputs)
        inputs = tuple(dict.fromkeys(x for x in read if x not in made))
        self.graph = Graph(inputs, nodes, values)

    def depends(self, sample: int, batch: int) -> bool:
        """Whether what the element is computed from changes with the sample."""
        for step in range(1, min(TRIES, batch - 1) + 1):
            other = (sample + step) % batch
            changed = [_replaced(self.tape, x, sample, other, batch) for x in self.graph.inputs]
            try:
                *operands, result = interpret(self.graph, changed)
            except PullbackError:
                return False
            if self._has_changed(operands, result):
                return True
        return False

    def _has_changed(self, operands: Sequence[Numbers], result: Numbers) -> bool:
        before = self.tape.operands(self.node)
        if not isinstance(self.node.op, Elementwise | Layout | Gather | Reduction):
            return bool(result[self.index] != self.tape.numbers[self.graph.outputs[-1]][self.index])
        masks = [traced_back(self.node, before, i, self.born) for i in range(len(before))]
        return any(
            not np.array_equal(x[mask], y[mask], equal_nan=is_float(x.dtype))
            for x, y, mask in zip(operands, before, masks, strict=True)
        )


def _replaced(tape: Tape, x: Array, sample: int, other: int, batch: int) -> Numbers:
    numbers = tape.numbers[x]
    given = tape.given.get(x)
    if given is None or not given.is_data or not x.ndim or x.shape[0] != batch:
        return numbers
    copy = numbers.copy()
    copy[sample] = numbers[other]
    return copy


# ---- the run-up -----------------------------------------------------------------------------


def _run_up(tape: Tape, node: Node) -> tuple[Frame, ...]:
    """The last operations that the birth depends on, and itself."""
    before = needed_nodes(tape.nodes[: tape.nodes.index(node) + 1], node.outputs)
    told = [n for n in before if n.inputs and not isinstance(n.op, Layout)] + [node]
    shown = [n for n in dict.fromkeys(told) if is_float(n.outputs[0].dtype)]
    return tuple([_frame(tape, n) for n in shown[-FRAMES:]])


def _frame(tape: Tape, node: Node) -> Frame:
    y = node.outputs[0]
    numbers = tape.numbers[y]
    finite = is_finite(numbers)
    size = np.abs(numbers[finite].astype(np.float64))
    return Frame(
        node.op.name,
        str(y.type),
        node.site,
        float(size.min()) if size.size else float("nan"),
        float(size.max()) if size.size else float("nan"),
        bool(finite.all()),
    )


def _underflow(tape: Tape, node: Node, index: tuple[int, ...]) -> tuple[str, str]:
    """The story of a 0 that a softmax or a sigmoid made, and what is written instead of it."""
    patterns = Patterns(tape.nodes)
    born = np.zeros(node.outputs[0].shape, bool)
    born[index] = True
    for i, x in enumerate(node.inputs if isinstance(node.op, Elementwise) else ()):
        operand, mask = tape.numbers[x], traced_back(node, tape.operands(node), i, born)
        if operand[tuple(np.argwhere(mask)[0])] != 0:
            continue
        maker = patterns.makers.get(x)
        while maker is not None and isinstance(maker.op, Layout | Cast | Gather):
            if not isinstance(maker.op, Cast):
                mask = traced_back(maker, tape.operands(maker), 0, mask)
            x = maker.inputs[0]
            maker = patterns.makers.get(x)
        found = patterns.softmax(x)
        if found is not None and found.logits.shape == mask.shape:
            logits = tape.numbers[found.logits].astype(np.float64)
            gap = (logits.max(axis=found.axes, keepdims=True) - logits)[mask][0]
            return f"the softmax underflowed: its logit is {gap:.4g} below the largest", OF_LOGITS
        logit = _saturated(tape, patterns, x, mask)
        if logit is not None:
            return f"the sigmoid saturated: its logit is {logit:.4g}", OF_LOGIT
    return "", ""


def _saturated(tape: Tape, patterns: Patterns, x: Array, mask: Numbers) -> float | None:
    """The logit of a p that is 0 or of a 1 - p that is 0, where p is a sigmoid."""
    maker = patterns.makers.get(x)
    if maker is not None and isinstance(maker.op, Subtract):
        if not np.all(tape.numbers[maker.inputs[0]] == 1):
            return None
        mask = traced_back(maker, tape.operands(maker), 1, mask)
        maker = patterns.made_by(patterns.strip(maker.inputs[1]), Sigmoid)
    if maker is None or not isinstance(maker.op, Sigmoid):
        return None
    logits = tape.numbers[maker.inputs[0]]
    return float(logits[mask][0]) if logits.shape == mask.shape else None


# ---- masks, loops ---------------------------------------------------------------------------


def _mask_over(tape: Tape, start: Node, index: tuple[int, ...]) -> Node | None:
    """The elementwise operation after `start` that leaves the element out."""
    shape = start.outputs[0].shape
    reached = set(start.outputs)
    for node in tape.nodes[tape.nodes.index(start) + 1 :]:
        used = [i for i, x in enumerate(node.inputs) if x in reached]
        if not used or not isinstance(node.op, Elementwise) or node.outputs[0].shape != shape:
            continue
        numbers = [float(np.broadcast_to(x, shape)[index]) for x in tape.operands(node)]
        if any(node.op.leaves_out(i, *numbers) for i in used):
            return node
        reached.update(node.outputs)
    return None


def _mask_behind(tape: Tape, start: Node) -> Node | None:
    """The selection behind which nothing is left of the numbers that `start` made non-finite."""
    reached = set(start.outputs)
    for node in tape.nodes[tape.nodes.index(start) + 1 :]:
        if node.site.phase is Phase.BACKWARD or reached.isdisjoint(node.inputs):
            continue
        if not all(is_finite(y).all() for y in tape.results(node)):
            reached.update(node.outputs)
        elif isinstance(node.op, Select):
            return node
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _Inner:
    node: Node
    operands: Sequence[Numbers]
    result: Numbers
    number: int


def _inside(node: Node, operands: Sequence[Numbers]) -> _Inner | None:
    """The first birth in the graphs that the op holds."""
    if not isinstance(node.op, HigherOrder):
        return None
    seen: list[_Inner] = []
    turns: dict[Node, int] = {}

    def evaluate(inner: Node, given: Sequence[Numbers]) -> tuple[Numbers, ...]:
        results = evaluate_node(inner, given)
        turns[inner] = turns.get(inner, 0) + 1
        clean = inner.inputs and all(is_finite(x).all() for x in given)
        bad = [y for y in results if not is_finite(y).all()]
        if clean and bad and not isinstance(inner.op, HigherOrder):
            seen.append(_Inner(inner, given, bad[0], turns[inner]))
        return results

    with watching(evaluate):
        compute(node.op, operands, [y.type for y in node.outputs])
    return seen[0] if seen else None


def _moved_in(birth: Birth, inner: _Inner) -> Birth:
    """The birth as it happened inside the loop or branch."""
    mask = ~is_finite(inner.result)
    index = tuple(map(int, np.argwhere(mask)[0]))
    return replace(
        birth,
        node=inner.node,
        within=birth.node,
        turn=inner.number,
        index=index,
        value=float(inner.result[index]),
        count=int(mask.sum()),
        operands=elements(inner.node, inner.operands, index, mask.shape),
        samples=(),
        mask=None,
    )
