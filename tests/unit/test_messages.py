"""The text of every error a user can meet first: what, where, why, what to do."""

from __future__ import annotations

import traceback

import numpy as np
import pytest

import pullback as pb
from goldens import without_places
from pullback._settings import override
from pullback.errors import (
    DTypeError,
    LeakedValueError,
    NonFiniteError,
    NotDifferentiableError,
    OutOfRangeError,
    ParseError,
    PullbackError,
    ShapeError,
    StructureError,
    TracedValueError,
)
from pullback.ir.parse import parse_graph

kept = []


def inner_sizes():
    def forward(x, w):
        hidden = w * 2.0
        return pb.sum(x @ hidden)

    pb.grad(forward)(np.ones((4, 3), np.float32), np.ones((2, 5), np.float32))


def inner_sizes_transposed():
    def forward(x, w):
        return pb.sum(pb.matmul(x, w))

    pb.grad(forward)(np.ones((4, 3), np.float32), np.ones((5, 3), np.float32))


def shapes_do_not_broadcast():
    pb.add(np.ones((2, 3)), np.ones(4))


def element_types_without_a_common_one():
    pb.asarray(np.ones(2, np.uint64)) + np.ones(2, np.int64)


def axis_out_of_range():
    pb.sum(np.ones((2, 3)), axis=2)


def loss_is_not_a_scalar():
    def loss(w):
        return w * 2.0

    pb.grad(loss)(np.ones(3))


def loss_is_an_integer():
    def loss(w):
        return pb.argmax(w)

    pb.grad(loss)(np.ones(3))


def loss_has_several_parts():
    def loss(w):
        return pb.sum(w), pb.max(w)

    pb.grad(loss)(np.ones(3))


def loss_is_no_array():
    def loss(w):
        return "small"

    pb.grad(loss)(np.ones(3))


def integer_argument():
    def loss(params):
        return pb.sum(params["w"] * params["steps"])

    pb.grad(loss)({"w": np.ones(3), "steps": np.arange(3)})


def argument_is_no_array():
    def loss(params):
        return pb.sum(params["w"])

    pb.grad(loss)({"w": np.ones(3), "name": "model"})


def argument_that_was_not_given():
    def loss(w):
        return pb.sum(w)

    pb.grad(loss, argnums=1)(np.ones(3))


def truth_of_a_traced_value():
    def branchy(x):
        if x > 0:
            return x
        return -x

    pb.vmap(branchy)(np.ones(3))


def number_of_a_traced_value():
    pb.vmap(float)(np.ones(3))


def truth_of_many():
    bool(pb.asarray([1.0, 2.0]) > 1)


def numpy_ufunc_on_a_traced_value():
    def loss(w):
        return pb.sum(np.sin(w))

    pb.grad(loss)(np.ones(3))


def numpy_function_on_a_traced_value():
    def loss(w):
        return pb.sum(np.concatenate([w, w]))

    pb.grad(loss)(np.ones(3))


def value_leaked_from_its_trace():
    def loss(w):
        kept.append(w * 2.0)
        return pb.sum(w)

    pb.grad(loss)(np.ones(3))
    kept.pop() + 1.0


def container_that_holds_itself():
    params = [np.ones(3)]
    params.append(params)
    pb.grad(lambda p: pb.sum(p[0]))(params)


def examples_differ_in_number():
    pb.vmap(lambda x, y: x + y)(np.ones((3, 2)), np.ones((4, 2)))


def nothing_is_batched():
    pb.vmap(lambda x: x, in_axes=None)(np.ones(3))


def cotangent_of_another_shape():
    _, pullback = pb.vjp(pb.tanh, np.ones(3))
    pullback(np.ones(4))


def tangents_of_another_structure():
    pb.jvp(lambda p: p["a"] + p["b"], ({"a": 1.0, "b": 2.0},), ({"a": 1.0},))


def index_out_of_range():
    pb.asarray(np.arange(4.0))[np.array([1, 7])]


def too_many_indices():
    pb.asarray(np.arange(4.0))[1, 2]


def list_where_an_array_is_meant():
    pb.exp([1.0, 2.0])


def unknown_element_type():
    pb.asarray([1.0], dtype="float8")


def reshape_to_another_size():
    pb.reshape(np.ones((2, 3)), (4, 2))


def loop_without_a_bound():
    def halve(x):
        return pb.while_loop(lambda v: pb.sum(v) > 1, lambda v: v * 0.5, pb.sin(x))

    pb.vmap(pb.grad(lambda x: pb.sum(halve(x))))(np.ones((2, 3)))


def branches_differ():
    pb.vmap(lambda x: pb.cond(x > 0, lambda v: v, lambda v: (v, v), x))(np.ones(3))


def carry_changes_its_type():
    pb.scan(lambda c, _: (pb.stack([c, c]), c), np.float32(0), None, length=3)


def text_that_is_no_graph():
    parse_graph("graph(%0: float32[2]) {\n  %1: float32[2] = tanj(%0)\n  return %1\n}")


def nan_is_born():
    with override(check=1):
        pb.log(pb.asarray([1.0, -1.0]))


CASES = {
    inner_sizes: ShapeError,
    inner_sizes_transposed: ShapeError,
    shapes_do_not_broadcast: ShapeError,
    element_types_without_a_common_one: DTypeError,
    axis_out_of_range: ShapeError,
    loss_is_not_a_scalar: ShapeError,
    loss_is_an_integer: DTypeError,
    loss_has_several_parts: StructureError,
    loss_is_no_array: StructureError,
    integer_argument: DTypeError,
    argument_is_no_array: StructureError,
    argument_that_was_not_given: StructureError,
    truth_of_a_traced_value: TracedValueError,
    number_of_a_traced_value: TracedValueError,
    truth_of_many: ShapeError,
    numpy_ufunc_on_a_traced_value: TracedValueError,
    numpy_function_on_a_traced_value: TracedValueError,
    value_leaked_from_its_trace: LeakedValueError,
    container_that_holds_itself: StructureError,
    examples_differ_in_number: ShapeError,
    nothing_is_batched: StructureError,
    cotangent_of_another_shape: ShapeError,
    tangents_of_another_structure: StructureError,
    index_out_of_range: OutOfRangeError,
    too_many_indices: ShapeError,
    list_where_an_array_is_meant: StructureError,
    unknown_element_type: DTypeError,
    reshape_to_another_size: ShapeError,
    loop_without_a_bound: NotDifferentiableError,
    branches_differ: StructureError,
    carry_changes_its_type: PullbackError,
    text_that_is_no_graph: ParseError,
    nan_is_born: NonFiniteError,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_message(case, golden):
    with pytest.raises(CASES[case]) as caught:
        case()
    golden(
        f"errors/{case.__name__}",
        f"{type(caught.value).__name__}: {without_places(str(caught.value))}",
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_no_library_frame_is_shown(case):
    """Only the user's lines stand in the traceback; `full` shows ours as well."""
    if case is text_that_is_no_graph:
        pytest.skip("the parser is no public function")
    with pytest.raises(PullbackError) as caught:
        case()
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert all("src/pullback" not in file for file in files)
    assert caught.value.site is not None
    assert caught.value.site.frames[0].file.endswith("test_messages.py")
    with override(traceback="full"), pytest.raises(PullbackError) as caught:
        case()
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert any("pullback" in file for file in files)
