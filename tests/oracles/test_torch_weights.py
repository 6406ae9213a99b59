"""Weights that torch saved give torch's results, to 1e-6, whatever way they came."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.ir.samples import normal
from pullback.train import from_torch, to_torch
from pullback.train.safetensors import packed

nn = pb.nn
KEY = pb.random.key(5)
SEQUENCE = normal(2, 5, 8).astype(np.float32)
IMAGES = normal(3, 4, 7, 6).astype(np.float32)
WORDS = np.array([[0, 4, 4], [1, 0, 2]])


def first(layer, x):
    return layer(x)[0]


def plain(layer, x):
    return layer(x)


CASES = {
    "Linear": (lambda: nn.Linear(8, 3, key=KEY), lambda t: t.nn.Linear(8, 3), SEQUENCE),
    "Linear without bias": (
        lambda: nn.Linear(8, 3, use_bias=False, key=KEY),
        lambda t: t.nn.Linear(8, 3, bias=False),
        SEQUENCE,
    ),
    "Conv1d": (
        lambda: nn.Conv1d(4, 6, 3, groups=2, key=KEY),
        lambda t: t.nn.Conv1d(4, 6, 3, groups=2),
        IMAGES[..., 0],
    ),
    "Conv2d": (
        lambda: nn.Conv2d(4, 6, (3, 2), padding=1, key=KEY),
        lambda t: t.nn.Conv2d(4, 6, (3, 2), padding=1),
        IMAGES,
    ),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, key=KEY),
        lambda t: t.nn.ConvTranspose2d(4, 6, 3, stride=2),
        IMAGES,
    ),
    "Embedding": (lambda: nn.Embedding(5, 3, key=KEY), lambda t: t.nn.Embedding(5, 3), WORDS),
    "LayerNorm": (lambda: nn.LayerNorm(8), lambda t: t.nn.LayerNorm(8), SEQUENCE),
    "RMSNorm": (lambda: nn.RMSNorm(8), lambda t: t.nn.RMSNorm(8, eps=1e-6), SEQUENCE),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), lambda t: t.nn.GroupNorm(2, 4), IMAGES),
    "Sequential": (
        lambda: nn.Sequential(nn.Linear(8, 6, key=KEY), nn.relu, nn.Linear(6, 2, key=KEY)),
        lambda t: t.nn.Sequential(t.nn.Linear(8, 6), t.nn.ReLU(), t.nn.Linear(6, 2)),
        SEQUENCE,
    ),
    "MultiHeadAttention": (
        lambda: nn.MultiHeadAttention(8, 2, key=KEY),
        lambda t: _self(t, t.nn.MultiheadAttention(8, 2, batch_first=True)),
        SEQUENCE,
    ),
    "TransformerBlock": (
        lambda: nn.TransformerBlock(8, 2, 12, key=KEY),
        lambda t: t.nn.TransformerEncoderLayer(
            8, 2, 12, 0.0, t.nn.functional.gelu, batch_first=True, norm_first=True
        ),
        SEQUENCE,
    ),
    "RNN": (lambda: nn.RNN(8, 3, key=KEY), lambda t: t.nn.RNN(8, 3, batch_first=True), SEQUENCE),
    "GRU": (lambda: nn.GRU(8, 3, key=KEY), lambda t: t.nn.GRU(8, 3, batch_first=True), SEQUENCE),
    "LSTM": (lambda: nn.LSTM(8, 3, key=KEY), lambda t: t.nn.LSTM(8, 3, batch_first=True), SEQUENCE),
    "LSTM without bias": (
        lambda: nn.LSTM(8, 3, use_bias=False, key=KEY),
        lambda t: t.nn.LSTM(8, 3, bias=False, batch_first=True),
        SEQUENCE,
    ),
}


def _self(torch, layer):
    class Self(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = layer

        def forward(self, x):
            return self.inner(x, x, x, need_weights=False)[0]

    return Self()


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    module.manual_seed(0)
    return module


def states(torch, theirs):
    with torch.no_grad():
        for p in theirs.parameters():  # biases of 0 and norms of 1 would hide mistakes
            p += 0.1 * torch.randn_like(p)
    return {name.removeprefix("inner."): x.numpy() for name, x in theirs.state_dict().items()}


@pytest.mark.parametrize("name", CASES)
def test_same_results(name, torch, tmp_path):
    make, make_theirs, x = CASES[name]
    theirs = make_theirs(torch).eval()
    arrays = states(torch, theirs)
    file = tmp_path / "model.safetensors"
    file.write_bytes(packed(arrays, {}))
    with torch.no_grad():
        expected = theirs(torch.tensor(x))
    expected = expected[0] if isinstance(expected, tuple) else expected
    for weights in (arrays, file):
        y = from_torch(make(), weights)(x)
        y = y[0] if isinstance(y, tuple) else y
        np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_the_way_back(name, torch):
    """Other weights of ours in torch's module give our results."""
    make, make_theirs, x = CASES[name]
    ours, theirs = make(), make_theirs(torch).eval()
    inner = getattr(theirs, "inner", theirs)
    inner.load_state_dict({n: torch.tensor(w) for n, w in to_torch(ours).items()}, strict=True)
    with torch.no_grad():
        given = theirs(torch.tensor(x))
    given = given[0] if isinstance(given, tuple) else given
    y = ours(x)
    y = y[0] if isinstance(y, tuple) else y
    np.testing.assert_allclose(given.numpy(), y.numpy(), rtol=1e-6, atol=1e-6)


def test_names_and_bidirectional(torch):
    """The two directions of one torch LSTM beside a head of another name."""
    theirs = torch.nn.ModuleDict(
        {
            "encoder": torch.nn.LSTM(8, 3, batch_first=True, bidirectional=True),
            "classifier": torch.nn.Linear(6, 2),
        }
    )
    arrays = states(torch, theirs)
    ours = {
        "ahead": nn.LSTM(8, 3, key=KEY),
        "back": nn.LSTM(8, 3, reverse=True, key=KEY),
        "head": nn.Linear(6, 2, key=KEY),
    }
    places = {"['ahead']": "encoder", "['back']": "encoder", "['head']": "classifier"}
    ours = from_torch(ours, arrays, names=places)
    h = pb.concat([ours["ahead"](SEQUENCE)[0], ours["back"](SEQUENCE)[0]], axis=-1)
    with torch.no_grad():
        expected = theirs["classifier"](theirs["encoder"](torch.tensor(SEQUENCE))[0])
    np.testing.assert_allclose(ours["head"](h).numpy(), expected.numpy(), rtol=1e-6, atol=1e-6)
    assert to_torch(ours, names=places).keys() == arrays.keys()


def test_batch_norm_in_a_network(torch):
    theirs = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3), torch.nn.BatchNorm2d(4))
    theirs(torch.tensor(IMAGES))
    arrays = states(torch, theirs.eval())
    ours = from_torch(nn.Sequential(nn.Conv2d(4, 4, 3, key=KEY), nn.BatchNorm(4)), arrays)
    statistics = nn.BatchNormState(
        pb.asarray(arrays["1.running_mean"]), pb.asarray(arrays["1.running_var"])
    )
    y, _ = ours(IMAGES, (None, statistics), train=False)
    with torch.no_grad():
        expected = theirs(torch.tensor(IMAGES))
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-6, atol=2e-6)
