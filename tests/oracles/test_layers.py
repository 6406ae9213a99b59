"""Layers against torch with the same weights: results and all gradients, float64, 1e-9 relative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import pullback as pb
from pullback.ir.samples import normal
from pullback.transforms.tree import flatten, map_leaves, paths

nn = pb.nn
KEY = pb.random.key(5)
SEQUENCE, IMAGES = normal(2, 5, 8), normal(3, 4, 7, 6)


@dataclass(frozen=True)
class Case:
    """Our layer, theirs, and where our arrays stand in theirs.

    `names` maps our path to theirs, or to theirs and the rows that are ours; a name not in it is
    the same in both.
    """

    name: str
    ours: Callable[[], nn.Module]
    theirs: Callable[[Any], Any]
    x: np.ndarray
    names: dict[str, Any] = field(default_factory=dict)
    call: Callable[[Any, Any], Any] = lambda layer, x: layer(x)
    their_call: Callable[[Any, Any, Any], Any] = lambda torch, layer, x: layer(x)


def conv(rank, **options):
    return Case(
        f"Conv{rank}d {options}",
        lambda: getattr(nn, f"Conv{rank}d")(4, 6, 3, key=KEY, dtype="float64", **options),
        lambda t: getattr(t.nn, f"Conv{rank}d")(4, 6, 3, **options),
        IMAGES if rank == 2 else IMAGES[..., 0],
    )


def transposed(**options):
    return Case(
        f"ConvTranspose2d {options}",
        lambda: nn.ConvTranspose2d(4, 6, 3, key=KEY, dtype="float64", **options),
        lambda t: t.nn.ConvTranspose2d(4, 6, 3, **options),
        IMAGES,
    )


def heads(prefix="", theirs="", size=8):
    """Rows of torch's stacked projection that are ours."""
    return {
        f"{prefix}{name}.{kind}": (f"{theirs}in_proj_{kind}", slice(size * i, size * (i + 1)))
        for i, name in enumerate(("query", "key", "value"))
        for kind in ("weight", "bias")
    } | {f"{prefix}output.{kind}": f"{theirs}out_proj.{kind}" for kind in ("weight", "bias")}


def recurrent(kind, names=(), call=lambda layer, x: layer(x)[0], reverse=False, **options):
    ours = {k: v for k, v in options.items() if k == "activation"}
    theirs = {"nonlinearity": options["activation"].__name__} if options else {}

    def their_call(t, layer, x):
        return layer(x.flip(1))[0].flip(1) if reverse else layer(x)[0]

    return Case(
        " ".join([kind, *theirs.values(), *["reverse"] * reverse]),
        lambda: getattr(nn, kind)(8, 3, reverse=reverse, key=KEY, dtype="float64", **ours),
        lambda t: getattr(t.nn, kind)(8, 3, batch_first=True, **theirs),
        SEQUENCE,
        {
            "weight_input": "weight_ih_l0",
            "weight_hidden": "weight_hh_l0",
            "bias": "bias_ih_l0",
            **dict(names),
        },
        call,
        their_call,
    )


def attend_causally(t, layer, x):
    hidden = t.triu(t.ones(5, 5, dtype=bool), 1)
    return layer(x, x, x, attn_mask=hidden, need_weights=False)[0]


def attend_to_context(t, layer, x):
    context = t.tensor(normal(2, 4, 6, seed=3))
    return layer(x, context, context, need_weights=False)[0]


def grouped_rotary(t, layer, x):
    """Grouped-query attention with rotary positions, written out with complex numbers."""
    project = lambda name, n: layer[name](x).reshape(2, 5, n, 4).transpose(1, 2)
    angle = t.arange(5.0)[:, None].double() * 10.0 ** (-t.arange(2.0) / 2).double()
    turn = t.polar(t.ones_like(angle), angle)
    turned = lambda z: t.cat([(w := t.complex(z[..., :2], z[..., 2:]) * turn).real, w.imag], -1)
    q, k, v = turned(project("query", 4)), turned(project("key", 2)), project("value", 2)
    f = t.nn.functional
    y = f.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return layer["output"](y.transpose(1, 2).reshape(2, 5, 16))


def in_torch_dict(t):
    linear = t.nn.Linear
    sizes = {"query": (8, 16), "key": (8, 8), "value": (8, 8), "output": (16, 8)}
    return t.nn.ModuleDict({name: linear(*size) for name, size in sizes.items()})


CASES = [
    Case(
        "Linear",
        lambda: nn.Linear(8, 3, key=KEY, dtype="float64"),
        lambda t: t.nn.Linear(8, 3),
        SEQUENCE,
    ),
    conv(1),
    conv(1, stride=2, padding=1, dilation=2, groups=2),
    conv(2),
    conv(2, stride=(2, 1), padding=1, groups=2),
    conv(2, padding="same"),
    transposed(),
    transposed(stride=2, padding=1, output_padding=1, groups=2),
    Case(
        "Embedding",
        lambda: nn.Embedding(5, 3, key=KEY, dtype="float64"),
        lambda t: t.nn.Embedding(5, 3),
        np.array([[0, 4, 4], [1, 0, 2]]),
    ),
    Case(
        "Embedding.attend",
        lambda: nn.Embedding(5, 8, key=KEY, dtype="float64"),
        lambda t: t.nn.Embedding(5, 8),
        SEQUENCE,
        call=lambda layer, x: layer.attend(x),
        their_call=lambda t, layer, x: x @ layer.weight.T,
    ),
    Case(
        "LayerNorm",
        lambda: nn.LayerNorm((5, 8), dtype="float64"),
        lambda t: t.nn.LayerNorm((5, 8)),
        SEQUENCE,
    ),
    Case(
        "RMSNorm",
        lambda: nn.RMSNorm(8, dtype="float64"),
        lambda t: t.nn.RMSNorm(8, eps=1e-6),
        SEQUENCE,
    ),
    Case(
        "GroupNorm",
        lambda: nn.GroupNorm(2, 4, dtype="float64"),
        lambda t: t.nn.GroupNorm(2, 4),
        IMAGES,
    ),
    Case(
        "BatchNorm",
        lambda: nn.BatchNorm(4, dtype="float64"),
        lambda t: t.nn.BatchNorm2d(4),
        IMAGES,
        call=lambda layer, x: layer(x, layer.initial_state(), train=True)[0],
    ),
    Case(
        "BatchNorm in use",
        lambda: nn.BatchNorm(4, dtype="float64"),
        lambda t: t.nn.BatchNorm2d(4).eval(),
        IMAGES,
        call=lambda layer, x: layer(x, layer.initial_state(), train=False)[0],
    ),
    Case("MaxPool2d", lambda: nn.MaxPool2d(3, 2, 1), lambda t: t.nn.MaxPool2d(3, 2, 1), IMAGES),
    Case("AvgPool2d", lambda: nn.AvgPool2d(2), lambda t: t.nn.AvgPool2d(2), IMAGES),
    Case(
        "Sequential",
        lambda: nn.Sequential(
            nn.Linear(8, 6, key=KEY, dtype="float64"),
            nn.gelu,
            nn.Linear(6, 2, key=KEY, dtype="float64"),
        ),
        lambda t: t.nn.Sequential(t.nn.Linear(8, 6), t.nn.GELU(), t.nn.Linear(6, 2)),
        SEQUENCE,
        {f"layers[{i}].{name}": f"{i}.{name}" for i in (0, 2) for name in ("weight", "bias")},
    ),
    Case(
        "MultiHeadAttention",
        lambda: nn.MultiHeadAttention(8, 2, causal=True, key=KEY, dtype="float64"),
        lambda t: t.nn.MultiheadAttention(8, 2, batch_first=True),
        SEQUENCE,
        heads(),
        their_call=attend_causally,
    ),
    Case(
        "MultiHeadAttention of a context",
        lambda: nn.MultiHeadAttention(8, 2, context_size=6, key=KEY, dtype="float64"),
        lambda t: t.nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True),
        SEQUENCE,
        heads() | {f"{n}.weight": f"{n[0]}_proj_weight" for n in ("query", "key", "value")},
        call=lambda layer, x: layer(x, normal(2, 4, 6, seed=3)),
        their_call=attend_to_context,
    ),
    Case(
        "MultiHeadAttention, grouped and rotary",
        lambda: nn.MultiHeadAttention(
            8, 4, 2, 4, causal=True, rotary_base=10.0, key=KEY, dtype="float64"
        ),
        in_torch_dict,
        SEQUENCE,
        their_call=grouped_rotary,
    ),
    Case(
        "TransformerBlock",
        lambda: nn.TransformerBlock(8, 2, 12, key=KEY, dtype="float64"),
        lambda t: t.nn.TransformerEncoderLayer(
            8, 2, 12, 0.0, t.nn.functional.gelu, batch_first=True, norm_first=True
        ),
        SEQUENCE,
        heads("attention.", "self_attn.")
        | {
            f"{ours}.{kind}": f"{theirs}.{kind}"
            for ours, theirs in (
                ("attention_norm", "norm1"),
                ("feedforward_norm", "norm2"),
                ("expand", "linear1"),
                ("contract", "linear2"),
            )
            for kind in ("weight", "bias")
        },
    ),
    recurrent("RNN", activation=nn.tanh),
    recurrent("RNN", activation=nn.relu, reverse=True),
    recurrent("GRU", {"bias_hidden": ("bias_hh_l0", slice(6, 9))}),
    recurrent("LSTM"),
    recurrent("LSTM", reverse=True),
    Case(
        "LSTM, its last cell",
        lambda: nn.LSTM(8, 3, key=KEY, dtype="float64"),
        lambda t: t.nn.LSTM(8, 3, batch_first=True),
        SEQUENCE,
        {"weight_input": "weight_ih_l0", "weight_hidden": "weight_hh_l0", "bias": "bias_ih_l0"},
        call=lambda layer, x: layer(x)[1].cell,
        their_call=lambda t, layer, x: layer(x)[1][1][0],
    ),
]


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_layer(case, torch):
    ours = _away_from_zero(case.ours())
    theirs = case.theirs(torch).double()
    places = _places(torch, case, ours, theirs)
    x = torch.tensor(case.x)
    if x.is_floating_point():
        x.requires_grad_()
    expected = case.their_call(torch, theirs, x)
    bar = normal(*expected.shape, seed=9)
    (expected * torch.tensor(bar)).sum().backward()
    argnums = (0, 1) if x.is_floating_point() else (0,)

    def loss(layer, x):
        y = case.call(layer, x)
        return pb.sum(y * bar), y

    grads, y = pb.grad(loss, argnums=argnums, has_aux=True)(ours, case.x)
    _close(y, expected.detach())
    for path, bar_of in _by_path(grads[0]).items():
        parameter, rows = places[path]
        _close(bar_of, parameter.grad[rows])
    if x.is_floating_point():
        _close(grads[1], x.grad)


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (2, 4, 3, 3)])
def test_running_statistics(shape, torch):
    """After five steps of training, and in use, as torch's."""
    ours = nn.BatchNorm(4, momentum=0.3, dtype="float64")
    kind = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d"}[len(shape)]
    theirs = getattr(torch.nn, kind)(4, momentum=0.3).double()
    state = ours.initial_state()
    for i in range(5):
        x = 3 * normal(*shape, seed=i) + i
        y, state = ours(x, state, train=True)
        _close(y, theirs(torch.tensor(x)).detach())
        _close(state.mean, theirs.running_mean)
        _close(state.variance, theirs.running_var)
    y, after = ours(x, state, train=False)
    _close(y, theirs.eval()(torch.tensor(x)).detach())
    assert after is state


def _away_from_zero(layer):
    """Biases are 0 and norms are 1 at first, which would hide mistakes."""
    return map_leaves(lambda w: w + 0.1 * normal(*w.shape, seed=w.size), layer)


def _places(torch, case, ours, theirs):
    """For each of our paths their parameter and its rows; both are set to our numbers."""
    parameters = dict(theirs.named_parameters())
    places = {}
    with torch.no_grad():
        for each in parameters.values():
            each.zero_()
        for path, value in _by_path(ours).items():
            name = case.names.get(path, path)
            name, rows = name if isinstance(name, tuple) else (name, slice(None))
            places[path] = parameters[name], rows
            parameters[name][rows] = torch.tensor(value.numpy())
    return places


def _by_path(layer):
    leaves, structure = flatten(layer)
    return dict(zip([p.removeprefix(".") for p in paths(structure, "")], leaves, strict=True))


def _close(value, expected) -> None:
    expected = np.asarray(expected)
    assert value.shape == expected.shape
    assert value.dtype == np.float64
    size = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-9, atol=1e-12 * size)
