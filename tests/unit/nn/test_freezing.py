"""A mark of freezing is part of a model's structure, is seen, and stops the optimiser there."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.errors import StructureError
from pullback.transforms.tree import flatten, paths, unflatten

nn = pb.nn
KEY = pb.random.key(0)
X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def model():
    return nn.MLP(4, 2, 3, 2, nn.tanh, key=KEY)


def frozen_paths(tree):
    leaves, structure = flatten(nn.trainable(tree))
    known = [path.removeprefix(".") for path in paths(structure, "")]
    return [path for path, trains in zip(known, leaves, strict=True) if not trains]


BODY = ["layers[0].weight", "layers[0].bias", "layers[1].weight", "layers[1].bias"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (lambda m: m.layers[0].weight, ["layers[0].weight"]),
        (lambda m: m.layers[:2], BODY),
        (lambda m: {"a": m.layers[0], "b": [m.layers[1].bias]}, [*BODY[:2], BODY[3]]),
        ("layers[0]", BODY[:2]),
        ("layers[0].weight", BODY[:1]),
        ("*.weight", ["layers[0].weight", "layers[1].weight", "layers[2].weight"]),
        ("*[1]*", BODY[2:]),
    ],
)
def test_where(where, expected):
    assert frozen_paths(nn.freeze(model(), where)) == expected


def test_all_and_none():
    frozen = nn.freeze(model())
    assert len(frozen_paths(frozen)) == 6
    head = nn.unfreeze(frozen, lambda m: m.layers[-1])
    assert frozen_paths(head) == BODY
    assert frozen_paths(nn.unfreeze(head)) == []
    assert flatten(nn.unfreeze(head))[1] == flatten(model())[1]
    both = nn.freeze(nn.freeze(model(), "layers[0]"), "layers[1]")
    assert frozen_paths(both) == BODY


def test_a_container_of_models():
    pair = nn.freeze({"encoder": model(), "head": [nn.Linear(3, 2, key=KEY)]}, "['encoder']")
    assert frozen_paths(pair) == [
        f"['encoder'].{path}" for path in frozen_paths(nn.freeze(model()))
    ]
    with pytest.raises(StructureError, match="only an array that a module holds"):
        nn.freeze({"scale": X})


def test_it_is_seen():
    assert repr(nn.freeze(model().layers[0], "bias")).splitlines() == [
        "Linear()  15 parameters (3 frozen), 60 B",
        "  weight: float32[3,4]",
        "  bias: float32[3]  frozen",
    ]


def test_it_survives():
    frozen = nn.freeze(model(), "layers[:2]".replace(":2", "0"))
    expected = frozen_paths(frozen)
    loss = lambda m, x: pb.sum(m(x) ** 2)
    leaves, structure = flatten(frozen)
    survivors = [
        unflatten(structure, leaves),
        frozen.replace(activation=nn.relu),
        pb.grad(loss)(frozen, X),
        pb.compile(pb.grad(loss))(frozen, X),
        pb.compile(lambda m: m)(frozen),
        pb.vmap(lambda key: nn.freeze(nn.MLP(4, 2, 3, 2, key=key), "layers[0]"))(
            pb.random.split(KEY, 3)
        ),
        pb.vmap(pb.grad(loss), in_axes=(None, 0))(frozen, X[:, None]),
        pb.jvp(lambda m: m, (frozen,), (frozen,))[1],
    ]
    assert all(frozen_paths(each) == expected for each in survivors)
    assert frozen.layers[0].replace(bias=X[0, :3]).__class__ is nn.Linear
    assert frozen_paths(frozen.layers[0].replace(bias=X[0, :3])) == ["weight", "bias"]


def test_it_is_structure():
    """A frozen model is another type of tree, so a mask is never used with the wrong one."""
    assert flatten(nn.freeze(model()))[1] != flatten(model())[1]
    with pytest.raises(StructureError, match="frozen"):
        pb.optim.apply_updates(nn.freeze(model()), model())


# ---- optim.masked ---------------------------------------------------------------------------


def train(model, optimizer, steps=3, compiled=False):
    def step(model, state, x):
        grads = pb.grad(lambda m: pb.mean((m(x) - 1) ** 2))(model)
        updates, state = optimizer.update(grads, state, model)
        return pb.optim.apply_updates(model, updates), state

    run = pb.compile(step) if compiled else step
    state = optimizer.init(model)
    for _ in range(steps):
        model, state = run(model, state, X)
    return model, state


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("make", [lambda: pb.optim.sgd(0.1, 0.9), lambda: pb.optim.adam(0.1)])
def test_frozen_arrays_stay_and_the_others_move_as_ever(make, compiled):
    frozen = nn.freeze(model(), lambda m: m.layers[:2])
    trained, state = train(frozen, pb.optim.masked(make(), nn.trainable(frozen)), compiled=compiled)
    for before, after, trains in zip(
        *(flatten(tree)[0] for tree in (frozen, trained, nn.trainable(frozen))), strict=True
    ):
        assert np.array_equal(before.numpy(), after.numpy()) is not trains
    kept = [x for x in flatten(state)[0] if x.ndim]
    assert {x.shape for x in kept} == {(2, 3), (2,)}

    head = frozen.layers[2]
    hidden = pb.tanh(frozen.layers[1](pb.tanh(frozen.layers[0](X))))
    optimizer, state = make(), make().init(head)
    for _ in range(3):
        grads = pb.grad(lambda m: pb.mean((m(hidden) - 1) ** 2))(head)
        updates, state = optimizer.update(grads, state, head)
        head = pb.optim.apply_updates(head, updates)
    np.testing.assert_allclose(trained.layers[2].weight.numpy(), head.weight.numpy(), rtol=1e-5)


def test_updates_of_frozen_arrays_are_zero_whatever_their_gradients():
    params = {"a": X, "b": X}
    grads = {"a": np.full_like(X, np.nan), "b": X}
    optimizer = pb.optim.masked(pb.optim.adam(0.1), {"a": False, "b": True})
    updates, state = optimizer.update(grads, optimizer.init(params), params)
    assert np.array_equal(updates["a"].numpy(), np.zeros_like(X))
    assert updates["a"].dtype == X.dtype
    assert state.mean["a"] is None
    assert np.all(np.isfinite(updates["b"].numpy()))


def test_a_mask_may_be_a_prefix_or_a_function():
    params = {"body": model(), "head": X}
    for mask in (
        {"body": False, "head": True},
        lambda tree: {"body": False, "head": True},
    ):
        optimizer = pb.optim.masked(pb.optim.sgd(1.0), mask)
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        assert not any(np.any(x.numpy()) for x in flatten(updates["body"])[0])
        np.testing.assert_array_equal(updates["head"].numpy(), -X)


def test_what_is_frozen_costs_no_gradient():
    """In one compiled step the gradients that nobody uses are not computed."""

    def products(model):
        optimizer = pb.optim.masked(pb.optim.sgd(0.1), nn.trainable)

        def step(model, x):
            grads = pb.grad(lambda m: pb.mean(m(x) ** 2))(model)
            updates, _ = optimizer.update(grads, optimizer.init(model), model)
            return pb.optim.apply_updates(model, updates)

        graph = pb.compile(step).lower(model, X).optimized
        return sum(node.op.name in ("matmul", "contract") for node in graph.nodes)

    # 3 forward; 3 for the weights and 2 for the hidden layers, or 1 for the last weight alone.
    assert products(model()) == 8
    assert products(nn.freeze(model(), lambda m: m.layers[:2])) == 4
