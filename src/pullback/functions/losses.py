"""Losses, and how they are reduced: `"mean"` over the batch, `"sum"`, or `"none"` at all.

Classifiers give logits: the losses are computed from them directly, finite in value and gradient
for every finite logit. For half precision a loss is computed, and returned, in float32.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from pullback._public import public
from pullback.errors import ArgumentError, DTypeError, ShapeError
from pullback.functions.activations import log_softmax, softplus
from pullback.functions.axes import accumulated
from pullback.functions.reductions import sum as total
from pullback.ir.array import Array
from pullback.ir.families import Scale
from pullback.ir.types import is_float, is_integer, normalize_axis
from pullback.ops import pointwise
from pullback.ops.index import Gather, no_label
from pullback.ops.operators import (
    absolute,
    as_float,
    broadcast_to,
    cast,
    equal,
    float_pair,
    full,
    less_equal,
    lift,
    not_equal,
    reshape,
    select,
)

Reduction = Literal["mean", "sum", "none"]


# ---- regression -----------------------------------------------------------------------------


@public
def mse(predictions: Any, targets: Any, reduction: Reduction = "mean") -> Array:
    """Mean squared error (ŷ - y)². Both shapes are equal: nothing is broadcast."""
    error = _difference(predictions, targets)
    return _reduced(error * error, reduction)


@public
def mae(predictions: Any, targets: Any, reduction: Reduction = "mean") -> Array:
    """Mean absolute error |ŷ - y|; gradient 0 where they are equal."""
    return _reduced(absolute(_difference(predictions, targets)), reduction)


@public
def huber(
    predictions: Any, targets: Any, delta: float = 1.0, reduction: Reduction = "mean"
) -> Array:
    """e²/2 for an error |e| ≤ `delta`, else `delta`·(|e| - `delta`/2) (Huber 1964)."""
    if isinstance(delta, int | float) and not delta > 0:
        raise ArgumentError(f"delta is a positive number, not {delta!r}")
    error = _difference(predictions, targets)
    size = absolute(error)
    loss = select(less_equal(size, delta), error * error * 0.5, (size - 0.5 * delta) * delta)
    return _reduced(loss, reduction)


# ---- classification -------------------------------------------------------------------------


@public
def cross_entropy(
    logits: Any,
    targets: Any,
    *,
    axis: int = -1,
    weights: Any = None,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
) -> Array:
    """-log softmax(logits) of the target class; the gradient of the mean is (p - y) / B.

    `targets` are integer labels, of the shape of `logits` without the class `axis`, or
    probabilities of the shape of `logits`. `weights` has one number a class; the mean is then
    Σ w l / Σ w [torch]. A label equal to `ignore_index` counts nothing; a batch of nothing else
    has the mean 0. Smoothing replaces y by (1 - ε) y + ε / classes.

    Raises `OutOfRangeError` for a label that is no class, `ShapeError` for shapes that do not fit.
    """
    scores, labels = accumulated(logits)[0], lift(targets)
    place = normalize_axis(axis, scores.ndim)
    weighted = None if weights is None else _class_weights(weights, scores, place)
    if is_float(labels.dtype):
        return _soft_cross_entropy(scores, labels, place, weighted, label_smoothing, reduction)
    safe, counts = _labels(labels, scores, place, ignore_index)
    surprise = -log_softmax(scores, axis=place)
    if weighted is not None:
        surprise = surprise * weighted
        counts = counts * _picked(weighted, safe, place)
    loss = _picked(surprise, safe, place)
    if label_smoothing:
        uniform = _class_mean(surprise, place)
        loss = loss * (1.0 - label_smoothing) + uniform * label_smoothing
    loss = select(equal(counts, 0.0), 0.0, loss)
    if reduction == "mean":
        weight = total(counts)
        return total(loss) / select(equal(weight, 0.0), 1.0, weight)
    return _reduced(loss, reduction)


@public
def binary_cross_entropy_with_logits(
    logits: Any, targets: Any, *, positive_weight: Any = None, reduction: Reduction = "mean"
) -> Array:
    """-y log σ(x) - (1 - y) log(1 - σ(x)) for y in [0, 1], of the shape of the logits.

    `positive_weight` multiplies the first term. The gradient is σ(x) - y.
    """
    scores, labels = _matched(logits, targets, ("logits", "targets"))
    positive = labels * softplus(-scores)
    if positive_weight is not None:
        positive = positive * positive_weight
    return _reduced(positive + (1.0 - labels) * softplus(scores), reduction)


@public
def kl_divergence(
    logits: Any, targets: Any, *, axis: int = -1, reduction: Reduction = "mean"
) -> Array:
    """Σ y (log y - log softmax(logits)) over the class `axis`, for probabilities y; 0 log 0 = 0."""
    scores, labels = _matched(logits, targets, ("logits", "targets"))
    place = normalize_axis(axis, scores.ndim)
    entropy = labels * pointwise.Log()(select(equal(labels, 0.0), 1.0, labels))
    cross = Scale()(labels, log_softmax(scores, axis=place))
    return _reduced(total(entropy - cross, axis=place), reduction)


@public
def focal(
    logits: Any,
    targets: Any,
    *,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    reduction: Reduction = "mean",
) -> Array:
    """Binary cross-entropy times (1 - p)^`gamma`, p that of the target (Lin et al. 2017).

    `alpha` weighs the targets 1 against 1 - `alpha` for the targets 0.
    """
    scores, labels = _matched(logits, targets, ("logits", "targets"))
    others = 1.0 - labels
    loss = labels * softplus(-scores) + others * softplus(scores)
    missed = labels * pointwise.Sigmoid()(-scores) + others * pointwise.Sigmoid()(scores)
    if gamma:
        loss = loss * missed**gamma
    if alpha is not None:
        loss = loss * (labels * alpha + others * (1.0 - alpha))
    return _reduced(loss, reduction)


# ---- parts ----------------------------------------------------------------------------------


def _reduced(loss: Array, reduction: Reduction) -> Array:
    if reduction not in get_args(Reduction):
        raise ArgumentError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}")
    if reduction == "none":
        return loss
    summed = total(loss)
    return summed if reduction == "sum" else summed / float(loss.size)


def _difference(predictions: Any, targets: Any) -> Array:
    left, right = _matched(predictions, targets, ("predictions", "targets"))
    return left - right


def _matched(left: Any, right: Any, names: tuple[str, str]) -> tuple[Array, Array]:
    """Both as floats of one element type, not half; `ShapeError` unless of one shape."""
    x, y = (accumulated(each)[0] for each in float_pair(left, right))
    if x.shape == y.shape:
        return x, y
    hint = None
    for name, longer, shorter in ((names[0], x, y), (names[1], y, x)):
        if longer.shape == (*shorter.shape, 1):
            hint = f"drop the last axis of the {name}: {name}[..., 0]"
    raise ShapeError(
        f"{names[0]} {x.type} and {names[1]} {y.type} differ in shape; a loss broadcasts nothing",
        hint=hint or "give both one shape, with pb.broadcast_to where repetition is meant",
    )


def _class_weights(weights: Any, scores: Array, axis: int) -> Array:
    """One weight a class, spread over the shape of the scores."""
    array = cast(as_float(weights), scores.dtype)
    classes = scores.shape[axis]
    if array.shape != (classes,):
        raise ShapeError(f"weights {array.type} for {classes} classes")
    spread = tuple(classes if i == axis else 1 for i in range(scores.ndim))
    return broadcast_to(reshape(array, spread), scores.shape)


def _labels(
    labels: Array, scores: Array, axis: int, ignore_index: int | None
) -> tuple[Array, Array]:
    """Labels that are classes, and how much each counts: 1, or 0 for an ignored one."""
    if not is_integer(labels.dtype):
        raise DTypeError(f"labels are integers or probabilities, not {labels.dtype}")
    expected = scores.type.without((axis,)).shape
    if labels.shape != expected:
        raise ShapeError(
            f"labels {labels.type} do not fit logits {scores.type} with classes along axis {axis}",
            hint=f"labels have the shape {expected}, probabilities that of the logits",
        )
    if labels.has_numbers:
        _check_labels(labels.numpy(), scores.shape[axis], ignore_index)
    if ignore_index is None:
        return labels, full(labels.type.of(scores.dtype), 1.0)
    used = not_equal(labels, ignore_index)
    return select(used, labels, 0), cast(used, scores.dtype)


def _check_labels(labels: np.ndarray[Any, Any], classes: int, ignore_index: int | None) -> None:
    wrong = (labels < 0) | (labels >= classes)
    if ignore_index is not None:
        wrong &= labels != ignore_index
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        raise no_label(int(labels[place]), classes, place)


def _picked(x: Array, labels: Array, axis: int) -> Array:
    """The element of `x` at the label, along the class axis."""
    others = tuple(i for i in range(x.ndim) if i != axis)
    return Gather((axis,), others, from_end=False)(x, labels)


def _class_mean(x: Array, axis: int) -> Array:
    return total(x, axis=axis) / float(x.shape[axis])


def _soft_cross_entropy(
    scores: Array,
    targets: Array,
    axis: int,
    weights: Array | None,
    smoothing: float,
    reduction: Reduction,
) -> Array:
    logits, labels = _matched(scores, targets, ("logits", "targets"))
    if smoothing:
        labels = labels * (1.0 - smoothing) + smoothing / labels.shape[axis]
    if weights is not None:
        labels = labels * weights
    return _reduced(-total(Scale()(labels, log_softmax(logits, axis=axis)), axis=axis), reduction)
