"""The rules of five published tools, on the signals of `signals.py`, with their own thresholds.

Each gives alarms as (message, rule ids that say the same, layer or ""). The ids are chosen in
favour of the tool: where its message could mean any of several causes, all of them are given.

- SageMaker Debugger: built-in rules with the default parameters of their documentation
  (docs.aws.amazon.com/sagemaker/latest/dg/debugger-built-in-rules.html).
- AUTOTRAINER (Zhang et al., ICSE 2021): `utils/monitor.py` of its repository, default parameters.
- UMLAUT (Schoop et al., CHI 2021): `umlaut/heuristics.py` of its repository, and the rates of the
  paper. Its rule on a softmax before the loss reads Keras' `from_logits`; here a loss that has its
  own softmax counts as `from_logits=True`.
- DeepLocalize (Wardat et al., ICSE 2021): numbers that are not finite, layer by layer, and means
  of outputs, weights or gradients that stay the same from one look to the next; a model that does
  not learn.
- NeuraLint (Nikanjam et al., TOSEM 2021): those of its 23 rules that can be read off these
  programs: constant initial weights, a missing activation between layers, a last activation that
  does not fit the loss.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

Alarm = tuple[str, tuple[str, ...], str]
Run = dict[str, Any]
"""`losses` of all steps, `scores` and `looks` of some, `rate` as it stands in the source."""

EXPLODES = ("SIG02", "OPT01", "NUM01", "NUM02")
SLEEPS = ("VER01", "OPT02")


def sagemaker(run: Run) -> list[Alarm]:
    """VanishingGradient, ExplodingTensor, DeadRelu, SaturatedActivation, PoorWeightInitialization,
    WeightUpdateRatio, LossNotDecreasing, UnchangedTensor, AllZero.
    """
    found: list[Alarm] = []
    looks = run["looks"]
    for look in looks:
        for x in look["layers"]:
            if x["finite"] and x["grad_mean"] < 1e-7:
                found.append(("VanishingGradient", ("SIG01", "CUT04"), x["name"]))
            if not x["finite"]:
                found.append(("ExplodingTensor", EXPLODES, x["name"]))
            if x.get("activation") == "relu" and x["dead"] > 0.5:
                found.append(("DeadRelu", ("SIG03",), x["name"]))
            if x.get("activation") == "tanh" and (x["z_min"] < -9.5 or x["z_max"] > 9.5):
                found.append(("SaturatedActivation", ("SIG04",), x["name"]))
            if x.get("activation") == "sigmoid" and (x["z_min"] < -23 or x["z_max"] > 17):
                found.append(("SaturatedActivation", ("SIG04",), x["name"]))
    if looks and looks[0]["layers"]:
        stds = [x["weight_std"] for x in looks[0]["layers"]]
        if min(stds) < 1e-12 or max(stds) / max(min(stds), 1e-30) > 10:
            found.append(("PoorWeightInitialization", ("SIG06", "SIG07", "OBJ04"), ""))
    for ratio, name in run["ratios"]:
        if ratio > 10 or 0 <= ratio < 1e-8:
            found.append(("WeightUpdateRatio", ("OPT01", "OPT02", "CUT02", "CUT03"), name))
    losses = run["losses"]
    for i in range(10, len(losses), 10):
        if losses[i] > losses[i - 10] * (1 - 0.001):  # diff_percent 0.1 in num_steps 10
            found.append(("LossNotDecreasing", (*SLEEPS, "OPT01"), ""))
            break
    return found


def autotrainer(run: Run) -> list[Alarm]:
    """Explode, dying ReLU, vanish, slow convergence, unstable: β 1e-3, 1e-4, 70; γ 0.7; ζ 0.03;
    η 0.2; δ 0.01; Θ 0.7.
    """
    scores = run["scores"]
    if any(not math.isfinite(x) for x in run["losses"]):
        return [("explode", EXPLODES, "")]
    features = set()
    for look in run["looks"][1:]:
        norms = [x["grad_norm"] for x in look["layers"]]
        if not norms:
            continue
        if any(not x["finite"] for x in look["layers"]):
            return [("explode", EXPLODES, "")]
        rate = norms[0] / norms[-1] if norms[-1] else math.inf if norms[0] else 0.0
        if rate < 1e-3 and norms[0] < 1e-4:
            features.add("vanish")
        if rate > 70:
            features.add("explode")
        if sum(x["grad_zero"] for x in look["layers"]) / len(norms) >= 0.7:
            features.add("relu")
    gains = [b - a for a, b in itertools.pairwise(scores)]
    slow = max(gains, default=0.0) < 0.01
    first = run["looks"][0]["layers"][0]["name"] if run["looks"][0]["layers"] else ""
    if slow or max(scores, default=0.0) < 0.7:
        if "relu" in features:
            return [("dying ReLU", ("SIG03", "CUT04"), first)]
        if "explode" in features:
            return [("explode", EXPLODES, first)]
        if "vanish" in features:
            return [("vanish", ("SIG01", "CUT04"), first)]
        if slow:
            return [("slow convergence", SLEEPS, "")]
        return []
    peaks = [b for a, b, c in _triples(scores) if b >= a and b >= c]
    valleys = [b for a, b, c in _triples(scores) if b <= a and b <= c]
    swings = sum(a - b >= 0.03 for a, b in zip(peaks, valleys, strict=False))
    return [("unstable", ("OPT01", "DAT02"), "")] if swings >= 0.2 * len(scores) else []


def _triples(x: list[float]) -> list[tuple[float, float, float]]:
    return list(zip(x, x[1:], x[2:], strict=False))


def umlaut(run: Run) -> list[Alarm]:
    """Inputs beyond [-1, 1] or no floats, NaN, softmax and loss, rates, a score that is too good,
    overfitting.
    """
    found: list[Alarm] = []
    given, scores, looks = run["looks"][0].get("input", {}), run["scores"], run["looks"]
    if any(math.isnan(x) for x in run["losses"]):
        found.append(("NaN in loss", ("NUM01", "NUM02"), ""))
    if given and (given["min"] < -1 or given["max"] > 1) and given["floating"]:
        found.append(("input not normalised", ("DAT01",), ""))
    if given and not given["floating"]:
        found.append(("input not floating", ("DAT01",), ""))
    if looks[0].get("softmaxes", 0) > 1 and looks[0].get("last") == "softmax":
        found.append(("softmax before the loss", ("OBJ01",), ""))
    if run["rate"] is not None and not 1e-7 < run["rate"] < 0.01:
        found.append(("learning rate", ("OPT01", "OPT02"), ""))
    if looks[0].get("bare"):
        found.append(("missing activation", ("SIG09",), looks[0]["bare"][0]))
    if any(x > 0.95 for x in scores):
        found.append(("validation accuracy very high", ("DAT06",), ""))
    for a, b in itertools.pairwise(looks):
        i, j = looks.index(a), looks.index(b)
        if j < len(scores) and b["loss"] <= a["loss"] and scores[j] < scores[i]:
            found.append(("overfitting", ("GEN01",), ""))
            break
    return found


def deeplocalize(run: Run) -> list[Alarm]:
    """Numbers that are not finite, layer by layer; means that do not change; no learning."""
    for look in run["looks"]:
        for x in look["layers"]:
            if not x["finite"]:
                return [("numerical error", EXPLODES, x["name"])]
    if any(not math.isfinite(x) for x in run["losses"]):
        return [("numerical error in the loss", EXPLODES, "")]
    for a, b in itertools.pairwise(run["looks"]):
        for x, y in zip(a["layers"], b["layers"], strict=False):
            if "out_mean" in x and "out_mean" in y and _same(x["out_mean"], y["out_mean"]):
                return [("output does not change", ("SIG03", "SIG04", "CUT04"), x["name"])]
            if _same(x["weight_mean"], y["weight_mean"]):
                return [("weights do not change", (*SLEEPS, "CUT01", "CUT03"), x["name"])]
            if x["grad_norm"] == 0:
                return [("gradient is 0", ("SIG01", "CUT04", "CUT01"), x["name"])]
    scores = run["scores"]
    if scores and max(scores) - scores[0] < 0.01:
        return [("model does not learn", SLEEPS, "")]
    return []


def _same(x: float, y: float) -> bool:
    return abs(x - y) <= 1e-6 * max(abs(x), abs(y))


def neuralint(run: Run) -> list[Alarm]:
    """Constant weights, no activation between layers, last activation and loss."""
    look = run["looks"][0]
    found: list[Alarm] = [
        ("constant initial weights", ("SIG06", "CUT04"), x["name"])
        for x in look["layers"]
        if x["weight_std"] == 0
    ]
    if look.get("bare"):
        found.append(("no activation between layers", ("SIG09",), look["bare"][0]))
    if look.get("softmaxes", 0) > 1 and look.get("last") == "softmax":
        found.append(("last activation and loss", ("OBJ01",), ""))
    return found


TOOLS: dict[str, Callable[[Run], list[Alarm]]] = {
    "SageMaker Debugger": sagemaker,
    "AUTOTRAINER": autotrainer,
    "UMLAUT": umlaut,
    "DeepLocalize": deeplocalize,
    "NeuraLint": neuralint,
}
