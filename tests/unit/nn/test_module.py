"""A module is a frozen dataclass, a container of arrays, and a part of a node's site."""

from __future__ import annotations

import dataclasses
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

import pullback as pb
from pullback.errors import ShapeError, StructureError
from pullback.ir.array import Array
from pullback.transforms.tree import flatten, map_leaves, paths, unflatten


class Scale(pb.nn.Module):
    factor: Any
    offset: Any = None
    name: str = "scale"

    def __call__(self, x):
        y = x * self.factor
        return y if self.offset is None else y + self.offset


class Pair(pb.nn.Module):
    parts: Any
    activation: Any
    rate: float

    def __init__(self, rate):
        self.parts = [Scale(np.ones(2)), pb.tanh, {"last": Scale(np.ones(3), np.zeros(1))}]
        self.activation = pb.exp
        self.rate = rate

    def __call__(self, x):
        return self.activation(self.parts[0](x))


class Summed(Pair):
    def __call__(self, x):
        return super().__call__(x).sum()


def test_arrays_are_the_leaves_and_all_else_is_structure():
    leaves, treedef = flatten(Pair(0.5))
    assert [x.shape for x in leaves] == [(2,), (3,), (1,)]
    assert paths(treedef, "model") == [
        "model.parts[0].factor",
        "model.parts[2]['last'].factor",
        "model.parts[2]['last'].offset",
    ]
    assert treedef == flatten(Pair(0.5))[1]
    assert hash(treedef) == hash(flatten(Pair(0.5))[1])
    assert treedef != flatten(Pair(0.25))[1]


@pytest.mark.parametrize("leaves", [[None] * 3, [(1, 2), "a", {}], [1, 2.0, np.ones(2)]])
def test_a_rebuilt_module_has_its_structure_whatever_the_leaves(leaves):
    _, treedef = flatten(Pair(0.5))
    rebuilt = unflatten(treedef, leaves)
    assert treedef.flatten_up_to(rebuilt) == leaves
    assert rebuilt.rate == 0.5
    assert rebuilt.parts[1] is pb.tanh


def test_accessors_reach_the_leaves():
    model = Pair(0.5)
    leaves, treedef = flatten(model)
    assert all(a(model) is x for a, x in zip(treedef.accessors(), leaves, strict=True))


def test_map_leaves_keeps_the_module():
    doubled = map_leaves(lambda x: 2 * x, Pair(0.5))
    assert isinstance(doubled, Pair)
    np.testing.assert_array_equal(doubled.parts[2]["last"].factor, 2 * np.ones(3))


def test_a_gradient_is_a_module():
    model = Scale(np.array([2.0, 3.0]), np.array(1.0))
    grads = pb.grad(lambda m: (m(np.array([5.0, 7.0])) ** 2).sum())(model)
    assert isinstance(grads, Scale)
    np.testing.assert_allclose(grads.factor.numpy(), [2 * 11 * 5, 2 * 22 * 7])
    assert grads.offset.item() == 2 * 11 + 2 * 22
    assert grads.name == "scale"


def test_vmap_over_modules():
    models = Scale(np.arange(3.0))
    np.testing.assert_array_equal(
        pb.vmap(lambda m, x: m(x), in_axes=(0, None))(models, np.ones(2)).numpy(),
        [[0, 0], [1, 1], [2, 2]],
    )


def test_a_module_is_frozen():
    model = Pair(0.5)
    for change in (
        lambda: setattr(model, "rate", 1.0),
        lambda: setattr(model, "other", 1.0),
        lambda: delattr(model, "rate"),
        lambda: setattr(unflatten(*flatten(model)[::-1]), "rate", 1.0),
    ):
        with pytest.raises(FrozenInstanceError):
            change()


def test_replace_gives_a_changed_copy():
    model = Pair(0.5)
    changed = model.replace(rate=0.25)
    assert (model.rate, changed.rate) == (0.5, 0.25)
    assert changed.parts is model.parts
    with pytest.raises(StructureError, match="no field 'speed'"):
        model.replace(speed=1)


def test_a_field_that_was_not_set_is_named():
    class Forgetful(pb.nn.Module):
        weight: Array

        def __init__(self):
            pass

    with pytest.raises(StructureError, match="no value for its field 'weight'"):
        pb.grad(lambda m: pb.asarray(0.0))(Forgetful())


def test_a_list_changed_after_a_transform_is_named():
    model = map_leaves(lambda x: x, Pair(0.5))
    model.parts.append(np.ones(2))
    with pytest.raises(StructureError, match="Pair was changed in place"):
        flatten(model)


@dataclasses.dataclass
class Plain:
    weight: np.ndarray


def test_a_plain_dataclass_is_refused_with_the_remedy():
    with pytest.raises(StructureError, match=r"subclass pb\.nn\.Module"):
        pb.grad(lambda m: m.weight.sum())(Plain(np.ones(2)))
    with pytest.raises(StructureError, match="whose arrays nothing sees"):
        pb.grad(lambda m: m.factor.weight.sum())(Scale(Plain(np.ones(2))))


def test_a_module_that_holds_itself_is_refused():
    model = Scale([])
    model.factor.append(model)
    with pytest.raises(StructureError, match="holds itself"):
        flatten(model)


def test_nodes_know_their_layer():
    def scopes(f, *args):
        return [(n.op.name, n.site.scope) for n in pb.trace(f, *args).nodes]

    assert scopes(lambda m, x: m(x), Pair(0.5), np.ones(2)) == [
        ("multiply", "parts[0]"),
        ("exp", ""),
    ]
    assert scopes(lambda m, x: m(x), Summed(0.5), np.ones(2)) == [
        ("multiply", "parts[0]"),
        ("exp", ""),
        ("sum", ""),
    ]


def test_gradient_nodes_know_their_layer():
    graph = pb.trace(pb.grad(lambda m, x: m(x).sum()), Pair(0.5), np.ones(2))
    backward = {n.site.scope for n in graph.nodes if n.site.phase.value == "backward"}
    assert "parts[0]" in backward


def test_an_error_names_the_layer_and_the_users_line():
    layer = pb.nn.Linear(3, 2, key=pb.random.key(0))
    with pytest.raises(ShapeError) as caught:
        layer(np.ones((2, 4)))
    assert str(caught.value).startswith("Linear at ")
    assert "test_module.py" in str(caught.value)


def test_repr_is_a_tree_with_counts():
    assert repr(pb.nn.MLP(4, 2, 3, 1, key=pb.random.key(0))).splitlines() == [
        "MLP(activation=relu)  23 parameters, 92 B",
        "  layers[0]: Linear()  15 parameters, 60 B",
        "    weight: float32[3,4]",
        "    bias: float32[3]",
        "  layers[1]: Linear()  8 parameters, 32 B",
        "    weight: float32[2,3]",
        "    bias: float32[2]",
    ]


@pytest.mark.parametrize(
    "options", [{}, {"frozen": True}, {"slots": True}, {"frozen": True, "slots": True}], ids=str
)
def test_a_decorated_module_says_that_it_needs_no_decorator(options):
    @dataclasses.dataclass(**options)
    class Decorated(pb.nn.Module):
        weight: Array

    with pytest.raises(StructureError, match="Decorated is decorated with @dataclass") as caught:
        Decorated(pb.asarray(1.0))
    assert "class Decorated(pb.nn.Module)" in str(caught.value)
