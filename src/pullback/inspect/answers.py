"""What a loss makes of an output that is right, of one that says nothing, and of one that is wrong.

The output is put there by hand: of classes the logits that name the label, of numbers the targets
themselves. No weight is asked, so what comes out is said of the loss alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pullback.inspect.mixing import carried
from pullback.inspect.probe import Probe
from pullback.ir.array import Array
from pullback.ir.graph import needed_nodes
from pullback.ir.types import Numbers, float64, is_float, is_integer

SURE = 2.0
"""The logit of a class that is named; not more, because labels may be smoothed."""
REWARDS = frozenset(
    [
        *("reward", "rewards", "return", "returns", "advantage", "advantages"),
        *("gain", "gains", "profit", "profits", "utility"),
    ]
)
"""Names of arguments of which more is better."""


def is_reward(name: str) -> bool:
    """Whether an argument of this path is named as one of which more is better."""
    return name.rpartition(".")[2].lower() in REWARDS


@dataclass(frozen=True, slots=True)
class Answers:
    """The loss of three outputs."""

    right: float
    nothing: float
    wrong: float
    targets: Array
    is_reward: bool = False
    is_class: bool = True
    usual: float = 0.0
    """What a mean over the samples is for an output that says nothing."""

    @property
    def is_finite(self) -> bool:
        return all(map(math.isfinite, (self.right, self.nothing, self.wrong)))

    @property
    def says(self) -> bool:
        """Whether the three are known, and differ."""
        return self.is_finite and not self.right == self.nothing == self.wrong

    @property
    def prefers_wrong(self) -> bool:
        """Whether the loss falls from right over nothing to wrong."""
        least = 1e-3 * max(abs(self.right - self.wrong), 1e-12)
        return self.right > self.nothing + least and self.nothing > self.wrong + least

    @property
    def prefers_right(self) -> bool:
        """Whether the loss rises from right over nothing to wrong."""
        return replace(self, right=self.wrong, wrong=self.right).prefers_wrong

    @property
    def prefers_none(self) -> bool:
        """Whether both are worse than an output that says nothing."""
        return self.right > 1.05 * abs(self.nothing) and self.wrong > self.nothing


def answers(probe: Probe) -> Iterator[Answers]:
    """Of each array of targets that fits the output."""
    out = _output(probe)
    if out is None or not is_float(out.dtype) or probe.draws_beyond or _is_asked_twice(probe, out):
        return
    names = probe.replay.names
    beside = [x for x in probe.integers_beside() if x.shape[:1] == (probe.batch,)]
    rewards = [x for x in beside if is_reward(names[x])]
    for x in beside:
        known = probe.numbers(x)
        kinds = _classes(known, out)
        if kinds is not None:
            signs = np.ones(()) if not rewards else _signs(probe.numbers(rewards[0]), kinds)
            yield _asked(probe, out, x, SURE * kinds * signs, is_reward=bool(rewards))
    if rewards or any(_fits_shares(probe.numbers(x), out) for x in beside):
        return
    fits = [x for x in beside if _fits(x, out)]
    if not beside and probe.network is not None:  # what comes in is to come out
        fits = [x for x in probe.inputs_of(probe.network) if _fits(x, out)]
    if len(fits) != 1:
        return  # one of them may be a mask, or weights
    for x in fits:
        known = probe.numbers(x)
        if np.isfinite(known).all():
            wide = known.astype(float64).reshape(out.shape)
            if np.isin(wide, (0, 1)).all():
                yield _asked(probe, out, x, SURE * (2 * wide - 1))
            elif (np.abs(wide) == 1).all():
                yield _asked(probe, out, x, SURE * wide)
            else:
                yield _of_numbers(probe, out, x, wide)


def loss_scale(known: Sequence[Answers]) -> float:
    """What a loss is of a mean over samples, of outputs that say nothing; 0 where not known.

    A cross-entropy of K classes is then ln K, one of yes and no ln 2; an error of one deviation
    about the deviation, or its square.
    """
    if len(known) != 1 or known[0].is_reward or not known[0].is_finite:
        return 0.0
    (it,) = known
    return max(it.nothing, 0.0) / it.usual if it.usual > 0 else 0.0


def falls_both_ways(probe: Probe) -> tuple[float, float] | None:
    """The loss of the output, and the highest far away from it, where it falls all around.

    A loss that is to be made small has a least value, or falls in one direction. One that falls
    without end along a line both ways, whichever line it is, is turned round. Where no layer gives
    an output, as of a mixture, the parameters are moved.
    """
    out, rng = probe.output, np.random.default_rng(0)
    if not math.isfinite(probe.loss) or probe.draws_beyond:
        return None
    moved = [x for x in probe.replay.parameters if is_float(x.dtype)] if out is None else [out]
    if not moved or not all(is_float(x.dtype) for x in moved):
        return None
    starts = [probe.numbers(x).astype(float64) for x in moved]
    steep = 2.0 if out is not None else 1.0  # as along a line; a mixture has kinks
    highest = -math.inf
    for _ in range(3):
        ways = [max(float(z.std()), 1.0) * rng.standard_normal(z.shape) for z in starts]
        for sign in (1.0, -1.0):
            near, far = [
                losses_of(
                    probe, moved, [z + sign * t * w for z, w in zip(starts, ways, strict=True)]
                )
                for t in (3.0, 9.0)
            ]
            if not far < near < probe.loss or far > near - steep * abs(near - probe.loss):
                return None  # it rises, or comes to an end
            highest = max(highest, far)
    return probe.loss, highest


def partners_apart(probe: Probe) -> tuple[float, float] | None:
    """The loss of two outputs that agree, and a lower one of such that do not.

    Two inputs, an output of each, and no targets: what belongs together stands in the same rows.
    """
    ends = [x.z for x in probe.layers if x.z.shape[:1] == (probe.batch,)]
    ends = [z for z in ends if not any(z in _before(probe, y) for y in ends if y is not z)]
    if len(ends) != 2 or ends[0].type != ends[1].type or probe.same(*ends) or probe.draws_beyond:
        return None
    rows = {x for x in probe.replay.data if x.shape[:1] == (probe.batch,)}
    own = [_before(probe, z) & rows for z in ends]
    if not all(own) or own[0] & own[1] or rows - (own[0] | own[1]):
        return None
    z = np.random.default_rng(0).standard_normal(ends[0].shape)
    agree, apart = [losses_of(probe, ends, [z, x]) for x in (z, np.roll(z, 1, axis=0))]
    is_worse = agree > apart + 0.05 * abs(apart)
    return (agree, apart) if is_worse and math.isfinite(agree) else None


def _before(probe: Probe, x: Array) -> set[Array]:
    """What a value is made of."""
    return {y for node in needed_nodes(probe.nodes, [x]) for y in node.inputs}


def against_rewards(probe: Probe) -> float:
    """The cosine of the loss's slope and the rewards of all actions; above 0 they are avoided."""
    out, names = _output(probe), probe.replay.names
    bar = None if out is None else probe.bar(out)
    for x in probe.integers_beside():
        named = is_reward(names[x])
        if bar is not None and named and is_float(x.dtype) and x.shape == bar.shape:
            wide = probe.numbers(x).astype(float64)
            better = wide - wide.mean(axis=-1, keepdims=True)
            slope = bar.astype(float64)
            size = float(np.linalg.norm(better) * np.linalg.norm(slope))
            return float((better * slope).sum()) / size if size else 0.0
    return 0.0


def _fits(x: Array, out: Array) -> bool:
    return is_float(x.dtype) and x.size == out.size > 1


def _output(probe: Probe) -> Array | None:
    """The logits of a cross-entropy, or what the last layer gives."""
    return probe.output if probe.class_logits is None else probe.class_logits


def _is_asked_twice(probe: Probe, out: Array) -> bool:
    """Whether the layer of the output is called again: that one would not be the answer's."""
    makers = [x for x in probe.layers if x.z is out or probe.same(x.z, out)]
    return bool(makers) and sum(x.weight is makers[-1].weight for x in probe.layers) > 1


def _classes(labels: Numbers, out: Array) -> Numbers | None:
    """1 for the class of each sample, -1 for the others; of shares their logarithms; or None."""
    k = out.shape[-1]
    if _fits_shares(labels, out):
        logs = np.log(labels.astype(float64) + 1e-2)
        apart: Numbers = (logs - logs.mean(axis=-1, keepdims=True)) / SURE
        return apart
    if not is_integer(labels.dtype) or labels.shape != out.shape[:-1] or k < 2 or not labels.size:
        return None
    if labels.min() < 0 or labels.max() >= k:
        return None
    return np.where(np.arange(k) == labels[..., None], 1.0, -1.0)


def _fits_shares(labels: Numbers, out: Array) -> bool:
    """Whether each row is the shares of the classes."""
    if not is_float(labels.dtype) or labels.shape != out.shape or labels.ndim < 2:
        return False
    wide = labels.astype(float64)
    return bool((wide >= 0).all() and np.abs(wide.sum(axis=-1) - 1).max(initial=0.0) < 1e-3)


def _signs(reward: Numbers, kinds: Numbers) -> Numbers:
    """Above the mean the action is to be taken, below it left."""
    wide = reward.astype(float64)
    signs = np.where(wide >= wide.mean(), 1.0, -1.0)
    return signs.reshape(signs.shape + (1,) * (kinds.ndim - signs.ndim))


def _asked(
    probe: Probe, out: Array, targets: Array, right: Numbers, is_reward: bool = False
) -> Answers:
    good, nothing, wrong = [loss_of(probe, out, z) for z in (right, 0 * right, -right)]
    of_classes = is_integer(targets.dtype) and targets.ndim < out.ndim
    usual = math.log(out.shape[-1]) if of_classes or probe.classes > 1 else math.log(2)
    return Answers(good, nothing, wrong, targets, is_reward, usual=usual)


def _of_numbers(probe: Probe, out: Array, targets: Array, right: Numbers) -> Answers:
    """Right are the targets; nothing and wrong lie one and ten deviations beside them.

    An output may be another function of what is told, as the logarithm of a rate: one is enough of
    which the loss prefers what is right.
    """
    usual = float(right.std())
    found = _beside(probe, out, targets, right, min(usual, usual * usual))
    if found.says and not found.prefers_wrong:
        return found
    standard = (right - right.mean()) / (usual + 1e-12)
    links = [standard, -standard, 0 * right]
    if right.min() >= 0:
        logs = np.log(right + 1e-3 * right.mean() + 1e-12)
        links += [logs, -logs, np.sqrt(right)]
    others = [_beside(probe, out, targets, x, 0.0) for x in links]
    wrong = [x for x in (found, *others) if x.prefers_wrong]
    return next(iter([x for x in others if x.prefers_right] or wrong), found)


def _beside(probe: Probe, out: Array, targets: Array, right: Numbers, usual: float) -> Answers:
    """The mean of both ways, so that what is linear in the output counts for nothing."""
    away = np.random.default_rng(0).choice([-1.0, 1.0], right.shape) * (right.std() or 1.0)
    at, near, far = [
        (loss_of(probe, out, right + t * away) + loss_of(probe, out, right - t * away)) / 2
        for t in (0.0, 1.0, 10.0)
    ]
    return Answers(at, near, far, targets, is_class=False, usual=usual)


def loss_of(probe: Probe, out: Array, z: Numbers) -> float:
    """The loss where the output is another one."""
    return losses_of(probe, [out], [z])


def losses_of(probe: Probe, values: Sequence[Array], given: Sequence[Numbers]) -> float:
    """The loss where some values are other ones, each in all of its equal calls."""
    known: dict[Array, Numbers] = {}
    made = [y for node in probe.nodes for y in node.outputs]
    for out, z in zip(values, given, strict=True):
        equal = [y for y in made if y.type == out.type and probe.same(y, out)]
        known |= {y: z.astype(out.dtype) for y in (*equal, out)}
    with np.errstate(all="ignore"):
        found = carried(probe, probe.graph, known)
    return float(found.get(probe.graph.outputs[0], probe.numbers(probe.graph.outputs[0])))
