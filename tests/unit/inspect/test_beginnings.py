"""What a network begins with: equal factors and centres, attention that has chosen, loud tables."""

from functools import partial

import numpy as np
import pytest

import pullback as pb
from pullback import inspect, nn
from pullback.inspect.choices import choices
from pullback.inspect.probe import Probe
from pullback.inspect.symmetry import copies

RNG = np.random.default_rng(0)


def probed(loss, model, *batch):
    return Probe(loss, (model, *batch))


def twice(probe):
    return {probe.named[x.parameter]: (x.axis, x.groups, x.count) for x in copies(probe)}


PAIRS = RNG.integers(0, 8, (64, 2))
LIKED = (PAIRS.sum(axis=1) % 2).astype(np.float32)


def liking(model, pairs, liked):
    a, b = model["a"][pairs[:, 0]], model["b"][pairs[:, 1]]
    return nn.binary_cross_entropy_with_logits(pb.sum(a * b, axis=1), liked)


def test_factors_that_begin_equal_stay_one_and_different_ones_do_not():
    column = RNG.standard_normal((2, 8, 1)).astype(np.float32)
    a, b = np.repeat(column, 4, axis=2)
    told = twice(probed(liking, {"a": pb.asarray(a), "b": pb.asarray(b)}, PAIRS, LIKED))
    assert told == {"['a']": (1, 1, 4), "['b']": (1, 1, 4)}
    sound = {"a": pb.asarray(a), "b": pb.random.normal(pb.random.key(0), (8, 4))}
    assert not twice(probed(liking, sound, PAIRS, LIKED))


def test_rows_that_an_index_chooses_are_no_copies_whatever_a_batch_says():
    def loss(model, pairs, liked):
        return nn.binary_cross_entropy_with_logits(
            pb.sum(model["a"][pairs[:, 0]] * np.float32([1, 2]), axis=1), liked
        )

    pairs, liked = np.tile(np.arange(8)[:, None], (8, 2)), np.ones(64, np.float32)
    assert not twice(probed(loss, {"a": pb.zeros((8, 2))}, pairs, liked))


def test_centres_that_begin_in_one_place():
    def loss(model, x):
        far = pb.sum((x[:, None, :] - model["means"]) ** 2, axis=2)
        return -pb.mean(pb.logsumexp(-far, axis=1))

    x = RNG.standard_normal((64, 2)).astype(np.float32)
    told = inspect.preflight({"means": pb.ones((3, 2))}, loss, x).alarms[0]
    assert told.id == "SIG06"
    assert told.what.startswith("2 of the 3 slices of ['means'] along axis 0")
    assert told.site.frame.function == "loss"


# ---- attention and tables -------------------------------------------------------------------

WORDS = RNG.integers(0, 9, (32, 6))


def reading(scale, key=0, std=1.0):
    """A model that attends, with scores that are multiplied by a number, and its loss."""
    keys = pb.random.split(pb.random.key(key), 4)
    table = partial(nn.init.normal, std=std)
    model = {
        "words": nn.Embedding(9, 16, key=keys[0], initializer=table),
        "q": nn.Linear(16, 16, key=keys[1]),
        "k": nn.Linear(16, 16, key=keys[2]),
        "head": nn.Linear(16, 9, key=keys[3]),
    }

    def loss(model, x, y):
        h = model["words"](x)
        scores = model["q"](h) @ model["k"](h).mT
        scores = scores * scale
        return nn.cross_entropy(model["head"](pb.softmax(scores, axis=2) @ h), y)

    return model, loss


@pytest.mark.parametrize(("scale", "chosen"), [(0.25, False), (16.0, True)])
def test_scores_that_are_multiplied_choose_one_from_the_first_step_on(scale, chosen):
    model, loss = reading(scale)
    (one,) = choices(probed(loss, model, WORDS, WORDS))
    assert (one.flat > 0.5) is chosen
    assert one.made.site.frame.source.startswith(
        "scores = scores * scale" if chosen else "scores = model"
    )
    told = [x for x in inspect.preflight(model, loss, (WORDS, WORDS)).alarms if not x.explained_by]
    assert [x.id for x in told] == (["SIG04"] if chosen else [])


def test_a_table_that_is_too_large_is_named_before_what_follows_from_it():
    model, loss = reading(0.25, std=20.0)
    first, *others = inspect.preflight(model, loss, (WORDS, WORDS)).alarms
    assert first.id == "SIG07"
    assert "['words'].weight" in first.what
    assert {x.explained_by for x in others} == {"SIG07"}


# ---- constant weights -----------------------------------------------------------------------


def of_one_value(layer, value):
    return layer.replace(weight=pb.full(layer.weight.shape, value))


@pytest.mark.parametrize(
    ("values", "severity"),
    [((0.2, 0.1, 0.1), "FAIL"), ((0.2, None, None), "WARN"), ((None, None, 0.1), None)],
)
def test_layers_of_one_value(values, severity):
    """Behind a last layer of equal rows the first gradient is 0, and says nothing of copies."""
    model = nn.MLP(2, 4, 8, 2, key=pb.random.key(0))
    pairs = zip(model.layers, values, strict=True)
    layers = [layer if v is None else of_one_value(layer, v) for layer, v in pairs]
    x = RNG.standard_normal((32, 2)).astype(np.float32)
    y = RNG.integers(0, 4, 32)
    report = inspect.preflight(
        model.replace(layers=tuple(layers)), lambda m, x, y: nn.cross_entropy(m(x), y), (x, y)
    )
    told = [x.severity.value for x in report.findings if x.id == "SIG06"]
    assert told[:1] == ([severity] if severity else [])


def test_units_that_a_bias_keeps_off_explain_the_gradients_that_die_in_them():
    model = nn.MLP(2, 1, 8, 2, key=pb.random.key(0))
    hidden = [x.replace(bias=pb.full((8,), -9.0)) for x in model.layers[:-1]]
    model = model.replace(layers=(*hidden, model.layers[-1]))
    x = RNG.standard_normal((32, 2)).astype(np.float32)
    report = inspect.preflight(model, lambda m, x: nn.mse(m(x)[:, 0], x[:, 0]), x)
    assert report.alarms[0].id == "SIG03"
    assert "the bias layers[0].bias is -9" in report.alarms[0].why
    assert {x.explained_by for x in report.findings if x.id == "CUT04"} == {"SIG03"}
