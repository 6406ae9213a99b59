"""`x[index]` and `x.at[index]` mean what they mean in NumPy, with their derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pullback as pb
from pullback.errors import DTypeError, OutOfRangeError, ShapeError, TracedValueError
from pullback.ir.array import concrete

SHAPES = [(4,), (3, 4), (2, 3, 4), (2, 1, 3, 2)]


def ladder(shape):
    return np.arange(1.0, np.prod(shape) + 1).reshape(shape)


@st.composite
def cases(draw):
    """A shape and an index tuple that is right for it."""
    shape = draw(st.sampled_from(SHAPES))
    common = draw(st.sampled_from([(), (2,), (2, 2), (0,)]))
    index = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        if draw(st.integers(0, 5)) == 0:
            index.append(None)
        index.append(draw(entries(size, common)))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(index)))
        index.insert(place, Ellipsis)
        if place < len(index) - 1:
            shape = shape[: sum(i is not None for i in index) - 1]
    return shape, tuple(index)


def entries(size, common):
    bound = st.one_of(st.none(), st.integers(-size - 1, size + 1))
    positions = st.integers(-size, size - 1)
    count = int(np.prod(common, dtype=int))
    arrays = st.lists(positions, min_size=count, max_size=count).map(
        lambda numbers: np.array(numbers, np.int64).reshape(common)
    )
    steps = st.sampled_from([None, 1, 2, 3, -1, -2])
    return st.one_of(positions, st.builds(slice, bound, bound, steps), arrays)


@given(cases())
@settings(max_examples=150, deadline=None)
def test_reading_is_numpys_and_its_gradient_adds_ones(case):
    shape, index = case
    x = ladder(shape)
    expected = x[index]
    result, pullback = pb.vjp(lambda v: v[index], concrete(x.copy()))
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result.numpy(), expected)
    count = np.zeros(shape)
    np.add.at(count, index, 1.0)
    np.testing.assert_array_equal(pullback(np.ones(expected.shape))[0].numpy(), count)


UFUNCS = {"add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum}


@given(cases(), st.sampled_from(sorted(UFUNCS)))
@settings(max_examples=150, deadline=None)
def test_writing_is_numpys_ufunc_at(case, name):
    shape, index = case
    x = ladder(shape)
    value = np.resize([3.0, 0.5, 9.0, 2.0, 30.0], x[index].shape)
    expected = x.copy()
    UFUNCS[name].at(expected, index, value)
    result = getattr(concrete(x.copy()).at[index], name)(value)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-14)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_setting_keeps_the_last_value_and_its_gradient_alone(case):
    shape, index = case
    numbers = np.arange(np.prod(shape), dtype=int).reshape(shape)
    places = numbers[index]
    value = ladder(places.shape)
    last = {place: i for i, place in enumerate(places.ravel().tolist())}
    expected = ladder(shape).ravel()
    for place, i in last.items():
        expected[place] = value.ravel()[i]
    result, pullback = pb.vjp(
        lambda x, v: x.at[index].set(v), concrete(ladder(shape)), concrete(value.copy())
    )
    np.testing.assert_array_equal(result.numpy().ravel(), expected)
    bar_x, bar_v = pullback(np.ones(shape))
    winners = np.zeros(value.size)
    winners[list(last.values())] = 1
    np.testing.assert_array_equal(bar_v.numpy().ravel(), winners)
    np.testing.assert_array_equal(
        bar_x.numpy().ravel(), [float(i not in last) for i in range(bar_x.size)]
    )


X = ladder((2, 3, 4))


@pytest.mark.parametrize(
    "index",
    [
        X > 5,
        (slice(None), np.array([True, False, True])),
        (np.array([True, False]), slice(None), np.array([1, 2])),
        (0, slice(None), [1, 2]),
        (slice(None), 0, [1, 2]),
        (0, [[True, False, True, True]] * 3),
        True,
        False,
        np.array(True),
        [],
        np.int32(1),
        np.array(1),
        [[0, 1], [1, 0]],
    ],
    ids=str,
)
def test_masks_lists_and_scalars(index):
    expected = X[index]
    result = concrete(X.copy())[index]
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize(
    ("index", "error", "text"),
    [
        (2, OutOfRangeError, "index 2 is out of range for axis 0 of size 2"),
        ((0, -4), OutOfRangeError, "index -4 is out of range for axis 1 of size 3"),
        (([0, 1], 0, [1, 4]), OutOfRangeError, "index 4 is out of range"),
        ((0, 0, 0, 0), ShapeError, "too many indices: 4"),
        (1.0, DTypeError, "not 1.0"),
        ("a", DTypeError, "not 'a'"),
        (np.array([0.0]), DTypeError, "not float64"),
        (np.array([True, False, True]), ShapeError, r"mask of shape \(3,\)"),
        (slice(None, None, 0), ShapeError, "step"),
        (slice(1.5), DTypeError, "bounds of a slice"),
        ((..., ...), ShapeError, "one ellipsis"),
        (([0, 1], [0, 1, 2]), ShapeError, "do not broadcast"),
        ((True, 0), ShapeError, "single bool"),
    ],
    ids=str,
)
def test_a_wrong_index_is_named(index, error, text):
    with pytest.raises(error, match=text) as caught:
        concrete(X.copy())[index]
    assert "test_indexing.py" in str(caught.value)


def test_a_value_that_does_not_fit_is_refused():
    counts = pb.asarray([1, 2, 3])
    with pytest.raises(DTypeError, match="float32 values cannot be written into int64"):
        counts.at[0].set(1.5)
    with pytest.raises(ShapeError):
        counts.at[:2].set([1, 2, 3])
    assert counts.at[0].set(True).tolist() == [1, 2, 3]


def test_a_traced_index_is_a_gather():
    x = pb.asarray([10.0, 20.0, 30.0])
    rows = pb.vmap(lambda i: x[i])(pb.asarray([2, 0, -1]))
    assert rows.tolist() == [30.0, 10.0, 30.0]
    assert pb.vmap(lambda i: x.at[i].set(0.0))(pb.asarray([0, 2])).tolist() == [
        [0.0, 20.0, 30.0],
        [10.0, 20.0, 0.0],
    ]


def test_a_traced_mask_reads_only_where_numbers_exist():
    x = pb.asarray([1.0, -2.0, 3.0])
    gradient = pb.vjp(lambda v: v[v > 0], x)[1](pb.asarray([5.0, 7.0]))[0]
    assert gradient.tolist() == [5.0, 0.0, 7.0]
    with pytest.raises(TracedValueError, match=r"pb\.where"):
        pb.vmap(lambda v: v[v > 0])(x.reshape(1, 3))
    assert pb.vmap(lambda v: v.at[v < 0].set(0.0))(x.reshape(1, 3)).tolist() == [[1.0, 0.0, 3.0]]


def test_repeated_factors_with_zeros_have_the_right_second_derivative():
    """d²(x·u·v)/du dv = x, also at u = v = 0."""
    x = pb.asarray([3.0, 5.0])
    index = np.array([1, 1])

    def f(u):
        return x.at[index].multiply(u)[1]

    np.testing.assert_array_equal(
        pb.hessian(f)(pb.asarray([0.0, 0.0])).numpy(), [[0.0, 5.0], [5.0, 0.0]]
    )


def test_an_array_is_not_written_in_place():
    x = pb.asarray([1.0, 2.0])
    with pytest.raises(TypeError, match=r"x\.at\[index\]\.set"):
        x[0] = 5.0


def test_iteration_and_transposes():
    x = concrete(ladder((2, 3)))
    assert [row.tolist() for row in x] == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert x.T.shape == x.mT.shape == (3, 2)
    assert x.reshape(3, -1).shape == x.reshape((3, -1)).shape == (3, 2)
    assert x.astype(pb.int32).dtype == pb.int32
    with pytest.raises(ShapeError, match="mT"):
        concrete(ladder((2, 3, 1))).T
