"""`SIG`: signals and gradients that fade, blow up, die or repeat themselves on the way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from pullback.errors import listed
from pullback.inspect.choices import choices
from pullback.inspect.edits import cooled, skipped, unsquashed
from pullback.inspect.findings import (
    NO_TRIAL,
    Finding,
    Kind,
    Place,
    Remedy,
    Severity,
    Threshold,
    short_place,
)
from pullback.inspect.initial import (
    MISFIT,
    REPEATED,
    misfit,
    misfit_layer,
    misfit_loop,
    misfit_table,
    offset,
    scale_of,
)
from pullback.inspect.moments import MISPREDICTED, Signal
from pullback.inspect.probe import FLAT, Layer, Probe
from pullback.inspect.recurrence import Recurrence, recurrences
from pullback.inspect.rules.cuts import CUT04
from pullback.inspect.rules.start import CLIPPED, FRESH, OBJ04, Check
from pullback.inspect.seen import Seen
from pullback.inspect.symmetry import constants, copies, copies_along
from pullback.ir.array import Array
from pullback.ir.families import Elementwise, Multilinear
from pullback.ir.graph import Node

STEEPER = Remedy("tanh or relu, and weights to fit", steps=120, initialises=True, edit=unsquashed)
COOLED = Remedy("scores of standard deviation 1", steps=120, edit=cooled)
SKIPS = Remedy("x + f(x) in place of f(x)", steps=120, edit=skipped)


class SIG01(Check):
    """The gradient vanishes with depth: each layer hands on a fraction of what it gets.

    A sigmoid's slope is at most 1/4; with weights that keep the forward signal each layer divides
    the gradient by four or more. The norm of the cotangent at the first layer is compared with
    that at the last.
    """

    id = "SIG01"
    title = "a gradient that vanishes with depth"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "relu or gelu with he_normal, residual connections or normalisation in between"
    intended = "intended=('SIG01',)"
    source = "Hochreiter 1991, Glorot & Bengio 2010; TheDeepChecker, AUTOTRAINER"
    remedies = (FRESH, STEEPER)
    per_layer = Threshold(0.5, "mean factor a layer below", "TheDeepChecker")
    in_all = Threshold(1e-3, "first / last below", "AUTOTRAINER")
    in_doubt = Threshold(
        0.02, "and where nothing else explains a symptom: first / last below", "own"
    )
    lost = Threshold(1e-6, "a symptom by itself: first / last below", "resolution of float32")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        flow = _flow(seen.signals)
        if flow is not None and flow.factor < cls.per_layer and flow.total < cls.in_doubt:
            severity = Severity.INFO if flow.total >= cls.in_all else cls.gated(seen)
            severity = Severity.WARN if flow.total < cls.lost else severity
            yield _along(cls, "vanishes", flow, severity)

    @classmethod
    def likely(cls, seen: Seen) -> Iterator[Finding]:
        """In a run with a symptom that nothing else explains: over the layers, or over time."""
        flow = _flow(seen.signals)
        if flow is not None and flow.factor < cls.per_layer and flow.total < cls.in_doubt:
            yield _along(cls, "vanishes", flow, Severity.WARN)
            return
        found = [x for x in recurrences(seen.probe) if x.total < cls.in_all]
        if found:
            yield _over_time(cls, "vanishes", min(found, key=lambda x: x.total))


class SIG02(Check):
    """The gradient explodes with depth: each layer hands on a multiple of what it gets."""

    id = "SIG02"
    title = "a gradient that explodes with depth"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "a smaller initialisation (he_normal, lecun_normal), normalisation, clipping"
    intended = "intended=('SIG02',)"
    source = "Pascanu et al. 2013; TheDeepChecker, AUTOTRAINER"
    remedies = (FRESH, CLIPPED)
    per_layer = Threshold(2.0, "mean factor a layer above", "TheDeepChecker")
    in_all = Threshold(1e3, "first / last above", "AUTOTRAINER")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        flow = _flow(seen.signals)
        if flow is not None and flow.factor > cls.per_layer and flow.total > cls.in_all:
            yield _along(cls, "explodes", flow, cls.gated(seen))

    @classmethod
    def likely(cls, seen: Seen) -> Iterator[Finding]:
        """In a run with a symptom that nothing else explains: over time."""
        found = [x for x in recurrences(seen.probe) if x.total > cls.in_all]
        if found:
            yield _over_time(cls, "explodes", max(found, key=lambda x: x.total))


class SIG03(Check):
    """Units that give 0 with slope 0 for every sample: nothing before them learns through them.

    Counted are units that are dead for the whole batch, never zero elements: half of those of a
    sound relu layer are 0. A plain relu net of depth 10 has 23 % dead units at the start, so few
    dead units alarm nobody.
    """

    id = "SIG03"
    title = "dead units"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "he_normal with bias 0, a smaller learning rate, leaky_relu or gelu"
    intended = "intended=('SIG03',)"
    source = "TheDeepChecker, SageMaker"
    remedies = (FRESH,)
    nearly_all = Threshold(0.95, "FAIL: share of a layer's units at least", "own")
    many = Threshold(0.5, "WARN with a symptom: share above", "TheDeepChecker, SageMaker")

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """Gradients that die in these units, or behind them in a product with their zeros.

        Not behind the last layer: outputs that are cut off are told as such.
        """
        if other.rule is not CUT04 or not mine.numbers.get("cuts"):
            return False
        deaths = other.evidence
        assert isinstance(deaths, tuple)
        return bool(deaths) and all(
            x.name == mine.numbers["activation"] or isinstance(x.node.op, Multilinear)
            for x in deaths
        )

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        if seen.probe.batch < 8:
            return
        for each in seen.probe.activations:
            if each.dead <= cls.many:
                continue
            severity = Severity.FAIL if each.dead >= cls.nearly_all else cls.gated(seen)
            yield cls.found(
                f"{each.dead:.0%} of {each.layer.width} units behind {each.layer.name} are dead",
                each.node.site,
                severity=severity,
                why=f"{each.node.op.name} has slope 0 for each of {seen.probe.batch} samples"
                f"{offset(seen.probe, each.layer)}",
                numbers={
                    "dead": each.dead,
                    "layer": each.layer.name,
                    "activation": each.node.op.name,
                    "cuts": each.dead >= cls.nearly_all and each.layer is not seen.probe.layers[-1],
                },
            )


class SIG04(Check):
    """A bounded activation works where it is flat: most of its slopes are nearly 0.

    So does a softmax inside the network whose scores are large: attention then chooses one place
    from the first step on, and p (1 - p) lets no gradient by to what the scores are made of.
    """

    id = "SIG04"
    title = "saturated units"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "scale the inputs, a smaller initialisation, normalisation before the activation"
    intended = "intended=('SIG04',)"
    source = "Karpathy (|tanh| > 0.97); DeepDiagnosis, SageMaker (50 %)"
    remedies = (FRESH,)
    share = Threshold(
        0.5,
        "share of a layer's elements, or of a softmax's rows, above",
        "SageMaker, DeepDiagnosis",
    )
    nearly_all = Threshold(0.9, "a warning by itself: share of a layer at least", "own")
    slope = Threshold(FLAT, "with a slope below this share of the largest", "Karpathy")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        for each in seen.probe.activations:
            if each.flat > cls.share:
                yield cls.found(
                    f"{each.flat:.0%} of {each.node.op.name} behind {each.layer.name} is saturated",
                    each.node.site,
                    severity=Severity.WARN if each.flat >= cls.nearly_all else cls.gated(seen),
                    why=scale_of(seen.probe, each.layer),
                    numbers={"share": each.flat},
                    remedies=(NO_TRIAL,) if each.flat >= cls.nearly_all else (),
                )
        for one in choices(seen.probe):
            if one.flat > cls.share:
                yield cls.found(
                    f"{one.flat:.0%} of the rows of a softmax begin as a choice of one",
                    one.made.site,
                    severity=Severity.WARN,
                    why=f"the scores of a row have std {one.std:.3g}; of 1 each place has a share",
                    fix="divide the scores by the square root of the width, as attention does",
                    notes=(f"the softmax: {short_place(one.node.site)}",),
                    numbers={"share": one.flat, "std": one.std},
                    remedies=(COOLED,),
                    stands=True,
                )


class SIG05(Check):
    """Gradients are shattered: those of neighbouring inputs have nothing to do with each other.

    Gradients of deep relu nets without skips look like white noise (Balduzzi et al. 2017). The
    cosine of ∂(r·f)/∂x at x and at x + 0.1‖x‖u, averaged over the batch, is 0.97 in residual nets
    of any depth and 0.32 in a plain relu net of 50 layers.
    """

    id = "SIG05"
    title = "shattered gradients"
    kind = Kind.MEASURE
    severity = Severity.WARN
    fix = "residual connections with scaled branches, an orthogonal initialisation"
    intended = "intended=('SIG05',)"
    source = "Balduzzi et al. 2017; calibrated on dense nets"
    cosine = Threshold(0.4, "mean cosine below", "own calibration")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        cosine, depth = seen.shattering, len(seen.probe.chain)
        if cosine is None or cosine >= cls.cosine:
            return
        deep = depth >= 20 and bool(seen.symptom)
        yield cls.found(
            f"gradients of neighbouring inputs have cosine {cosine:.2f} over {depth} layers",
            None,
            severity=Severity.WARN if deep else Severity.INFO,
            why="a step that helps one sample does nothing for its neighbour",
            numbers={"cosine": cosine, "depth": depth},
        )


class SIG06(Check):
    """Two units of a layer have the same weights and the same gradient: they stay the same forever.

    So do the factors of a table, the centres of a mixture, the units of a recurrence: the slices
    of any parameter, where each of them comes twice at least. A layer of zeros alone is fine, if
    the gradients of its units differ. What is reported is exact: equal weights *and* equal
    gradients; where those are 0 at first, gradients of a random function of the output. A layer
    before the last whose weights all have one value other than 0 is a warning: its units begin as
    one, and what lies behind it must tell them apart.
    """

    id = "SIG06"
    title = "a symmetric initialisation"
    severity = Severity.FAIL
    fix = "random initial weights: pb.nn.init.he_normal"
    source = "Goodfellow et al. 2016, 8.4; TheDeepChecker, NeuraLint"
    alike = "equal weights and equal gradients: no step can tell them apart"

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        probe, found = seen.probe, False
        for layer in _first_uses(probe):
            count = _twins(probe, layer)
            if count:
                found = True
                yield cls.found(
                    f"{count} of the {layer.width} units of {layer.name} are copies of others",
                    layer.node.site,
                    why=cls.alike,
                    numbers={"copies": count, "units": layer.width, "layer": layer.name},
                )
        of_any = [] if found else list(cls._of_any(probe))
        yield from of_any or ([] if found else cls._of_one_value(probe))

    @classmethod
    def _of_one_value(cls, probe: Probe) -> Iterator[Finding]:
        """All weights of a layer the same, and not 0: what is behind it tells its units apart."""
        for x, site in constants(probe):
            name, value = probe.named[x], float(probe.numbers(x).flat[0])
            yield cls.found(
                f"all {x.size} weights of {name} are {value:.3g}: its units begin alike",
                site,
                severity=Severity.WARN,
                why="each unit adds up the same: of its inputs one number is left",
                numbers={"layer": name, "value": value},
            )
            return

    @classmethod
    def _of_any(cls, probe: Probe) -> Iterator[Finding]:
        """Of parameters that are no weights of a layer."""
        known = list(copies(probe))
        for x in known[:1]:
            names = [probe.named[each.parameter] for each in known]
            site = probe.readers[x.parameter][0].site
            yield cls.found(
                f"{x.count - x.groups} of the {x.count} slices of {names[0]} along axis {x.axis} "
                "are copies of others",
                site,
                why=cls.alike,
                notes=(listed(names),) if len(names) > 1 else (),
                numbers={"copies": x.count - x.groups, "units": x.count, "parameters": names},
            )


class SIG07(Check):
    """The scale of the signal runs away from layer to layer: the weights do not fit the width.

    The second moment of what each layer gives is predicted from the weights, the activation and
    the one before (mean field, Gauss quadrature) and measured with the real batch. Reported is a
    moment that leaves the range below, or a prediction that is wrong by a factor of two, and by
    more than twice what narrow layers let networks differ (Hanin & Nica 2019): then the weights are
    not independent and alike, as an initialisation makes them. A table of which an index chooses
    rows is told where its scale is far above 1.
    """

    id = "SIG07"
    title = "an initial scale that does not fit"
    kind = Kind.MEASURE
    severity = Severity.WARN
    comes = Place.SCALE
    fix = "he_normal for relu, lecun_normal or xavier_normal otherwise, or normalisation"
    intended = "intended=('SIG07',)"
    source = "He et al. 2015, Poole et al. 2016, Schoenholz et al. 2017; SageMaker"
    remedies = (FRESH,)
    drift = Threshold(
        1e2, "E[z²] / that of the first layer above, or below its inverse", "SageMaker"
    )
    weights = Threshold(MISFIT, "std of the weights / usual above, or below its inverse", "own")
    repeated = Threshold(REPEATED, "the same of weights that are used again and again", "own")
    misprediction = Threshold(
        MISPREDICTED, "predicted / measured above, or below its inverse", "own"
    )

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """A loss or scores that begin large behind what makes the signal so."""
        return other.rule is OBJ04 or (mine.stands and other.rule is SIG04)

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        signals = [x for x in seen.signals if x.forward > 0]
        # a last layer before a softmax is OBJ04
        worst = misfit_layer(seen.probe, hidden=seen.probe.classes > 1)
        loop = misfit_loop(seen.probe)
        away = _away(signals, cls.drift)
        if loop is not None:
            yield cls._of_loop(seen, *loop)
        elif away and worst is None and _is_gradual(signals):
            yield cls._of_drift(seen, signals[0].forward, away[0], away[-1])
        elif worst is not None:
            yield cls._of_weights(seen, worst)
        elif (table := misfit_table(seen.probe)) is not None:
            yield cls._of_table(seen, *table)
        else:
            yield from cls._mispredicted(seen, signals)

    @classmethod
    def _of_weights(cls, seen: Seen, worst: Layer) -> Finding:
        factor = misfit(seen.probe, worst)
        large = "large" if factor > 1 else "small"
        times = factor if factor > 1 else 1 / factor
        lost = factor > 1 and OBJ04.is_lost(seen.probe)
        return cls.found(
            f"the weights of {worst.name} are {times:.2g} times too {large}",
            worst.node.site,
            severity=Severity.WARN if lost else cls.gated(seen),
            why=scale_of(seen.probe, worst),
            numbers={"layer": worst.name, "factor": factor},
            stands=lost,
        )

    @classmethod
    def _of_table(cls, seen: Seen, node: Node, name: str, std: float) -> Finding:
        hard = any(x.flat > SIG04.share for x in choices(seen.probe))
        lost = hard or OBJ04.is_lost(seen.probe)
        return cls.found(
            f"the rows of the table {name} are {std:.2g} times too large",
            node.site,
            severity=Severity.WARN if lost else cls.gated(seen),
            why=f"std {std:.3g}; layers are made for inputs of variance 1",
            fix="a table of std 1 and less: initializer=partial(nn.init.normal, std=0.1)",
            numbers={"layer": name, "factor": std},
            remedies=(COOLED,),
            stands=lost,
        )

    @classmethod
    def _of_loop(cls, seen: Seen, name: str, std: float, fits: float) -> Finding:
        large = "large" if std > fits else "small"
        return cls.found(
            f"the recurrent weights {name} are {max(std / fits, fits / std):.2g} times too {large}",
            None,
            severity=cls.gated(seen),
            why=f"std {std:.3g}; orthogonal: {fits:.3g}; each step multiplies by them again",
            fix="hidden_initializer=nn.init.orthogonal",
            numbers={"layer": name, "factor": std / fits},
        )

    @classmethod
    def _of_drift(cls, seen: Seen, first: float, begins: Signal, last: Signal) -> Finding:
        """The weights are as usual, and the signal runs away all the same: where it has."""
        layer = begins.layer
        lost = last.forward > first and OBJ04.is_lost(seen.probe)
        return cls.found(
            f"E[z²] goes from {first:.2g} to {begins.forward:.2g} at {layer.name}, and to "
            f"{last.forward:.2g} at {last.layer.name}",
            layer.node.site,
            severity=Severity.WARN if lost else cls.gated(seen),
            why=scale_of(seen.probe, layer),
            numbers={"first": first, "last": last.forward, "layer": layer.name},
            stands=lost,
        )

    @classmethod
    def _mispredicted(cls, seen: Seen, signals: Sequence[Signal]) -> Iterator[Finding]:
        for x in signals:
            if not x.is_predicted:
                yield cls.found(
                    f"E[z²] of {x.layer.name} is {x.forward:.2g}, theory predicts "
                    f"{x.forward_predicted:.2g}",
                    x.layer.node.site,
                    severity=Severity.INFO,
                    why=scale_of(seen.probe, x.layer),
                    numbers={"measured": x.forward, "predicted": x.forward_predicted},
                    remedies=(NO_TRIAL,),
                )
                return


def _is_gradual(signals: Sequence[Signal]) -> bool:
    """Whether many layers share in it: no single step, as a normalisation is one, is half of it."""
    logs = [math.log(x.forward) for x in signals]
    steps = [abs(b - a) for a, b in itertools.pairwise(logs)]
    return max(steps) <= abs(logs[-1] - logs[0]) / 2


def _away(signals: Sequence[Signal], drift: float) -> list[Signal]:
    """The layers whose signal is far from that of the first; the last one may be small."""
    if len(signals) < 2:
        return []
    first = signals[0].forward
    found = [x for x in signals[1:-1] if not _within(x.forward / first, drift)]
    return [*found, *[x for x in signals[-1:] if x.forward / first > drift]]


class SIG08(Check):
    """A deep chain of layers, without a skip, a gate or a normalisation.

    It is a note, which says what suffers: a gradient that vanishes or explodes (SIG01, SIG02), a
    scale that runs away (SIG07), shattered gradients (SIG05). It becomes a warning where the same
    layers learn far better with skips around them, as was tried.
    """

    id = "SIG08"
    title = "a deep net without residual connections or normalisation"
    kind = Kind.MEASURE
    severity = Severity.INFO
    fix = "x + f(norm(x)) in place of f(x): pb.nn.ResidualBlock with pb.nn.LayerNorm"
    intended = "intended=('SIG08',)"
    remedies = (SKIPS,)
    source = "He et al. 2016, Balduzzi et al. 2017"
    deep = Threshold(12, "layers, one after the other, at least", "own")

    @classmethod
    def find(cls, seen: Seen) -> Iterator[Finding]:
        probe, graph = seen.probe, seen.probe.network
        depth = probe.depth
        if graph is None or depth < cls.deep or any(_joins(probe, x) for x in graph.nodes):
            return
        flow, cosine = _flow(seen.signals), seen.shattering
        said = [] if flow is None else [f"the gradient changes by {flow.total:.1g} on the way"]
        said += [] if cosine is None else [f"gradients of neighbours have cosine {cosine:.2f}"]
        first, middle, last = (probe.chain[i] for i in (0, len(probe.chain) // 2, -1))
        yield cls.found(
            f"{depth} layers in a chain, from {first.name} to {last.name}: no skip, no gate, no "
            "normalisation",
            middle.node.site,
            why="; ".join(said),
            numbers={"depth": depth, "layer": middle.name},
        )


def _joins(probe: Probe, node: Node) -> bool:
    """Whether an elementwise operation meets two values that come from the data and parameters."""
    both = [x for x in node.inputs if x in probe.fed and x in probe.learnt]
    return isinstance(node.op, Elementwise) and len(both) > 1


# ---- what flows through the layers ----------------------------------------------------------


class _Flow:
    """The norm of the cotangent from the last layer back to the first."""

    def __init__(self, signals: Sequence[Signal]) -> None:
        norms = [math.sqrt(x.backward * x.layer.z.size) for x in signals]
        self.first, self.last = signals[0], signals[-1]
        self.count = len(signals)
        self.total = norms[0] / norms[-1]
        self.factor = self.total ** (1 / (self.count - 1))
        before = self.first.backward_predicted / self.last.backward
        self.predicted = math.sqrt(before * self.first.layer.z.size / self.last.layer.z.size)
        steps = [abs(math.log(a / b)) for a, b in itertools.pairwise(norms)]
        self.steepest = signals[steps.index(max(steps))]


def _within(ratio: float, factor: float) -> bool:
    return 1 / factor <= ratio <= factor


def _along(rule: type[Check], verb: str, flow: _Flow, severity: Severity) -> Finding:
    return rule.found(
        f"the gradient {verb}: {flow.factor:.2g} a layer, {flow.total:.1g} in all",
        flow.steepest.layer.node.site,
        severity=severity,
        why=f"from {flow.last.layer.name} to {flow.first.layer.name} over "
        f"{flow.count} layers; theory predicts {flow.predicted:.1g}",
        numbers={"factor": flow.factor, "total": flow.total, "predicted": flow.predicted},
    )


def _over_time(rule: type[Check], verb: str, it: Recurrence) -> Finding:
    return rule.found(
        f"the gradient {verb} over time: {it.factor:.2g} a step, {it.total:.1g} in all",
        it.last.node.site,
        severity=Severity.WARN,
        why=f"from the last of {it.steps} uses of {it.last.name} back to the first: what came "
        "early is not learnt from",
        fix="nn.LSTM or nn.GRU, tanh and hidden_initializer=nn.init.orthogonal, clipping",
        numbers={
            "factor": it.factor,
            "total": it.total,
            "steps": it.steps,
            "layer": it.last.name,
        },
    )


def _flow(signals: Sequence[Signal]) -> _Flow | None:
    alive = [x for x in signals if x.backward > 0 and math.isfinite(x.backward)]
    return _Flow(alive) if len(alive) >= 3 else None


def _first_uses(probe: Probe) -> list[Layer]:
    """Of layers that are used again and again the first use."""
    first: dict[Array, Layer] = {}
    for layer in probe.layers:
        first.setdefault(layer.weight, layer)
    return list(first.values())


def _twins(probe: Probe, layer: Layer) -> int:
    """Units with the weights and the gradient of another; 0 where all are different."""
    axis = _unit_axis(probe, layer) if layer.width > 1 else None
    return 0 if axis is None else copies_along(probe, layer.weight, axis)


def _unit_axis(probe: Probe, layer: Layer) -> int | None:
    """The axis of the parameter along which the units lie, where one has that length alone."""
    shape = layer.weight.shape
    fits = [k for k, n in enumerate(shape) if n == layer.width]
    if layer.weight is layer.operand or len(fits) == 1 or len(shape) > 2:
        return fits[0] if len(fits) == 1 or len(shape) > 2 else 1 if fits else None
    return 0 if fits else None
