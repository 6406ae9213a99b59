"""Layout functions against NumPy; their gradients are those of the ops, tested by the laws."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.errors import DTypeError, ShapeError, TracedValueError
from pullback.ir.array import concrete

X = np.arange(24.0).reshape(2, 3, 4)

SAME_AS_NUMPY = {
    "reshape": (lambda x: pb.reshape(x, (4, -1)), lambda x: x.reshape(4, -1)),
    "expand_dims": (lambda x: pb.expand_dims(x, axis=-1), lambda x: x[..., None]),
    "expand_dims two": (
        lambda x: pb.expand_dims(x, axis=(0, 2)),
        lambda x: np.expand_dims(x, (0, 2)),
    ),
    "squeeze": (lambda x: pb.squeeze(pb.expand_dims(x, axis=1), 1), lambda x: x),
    "ravel": (pb.ravel, np.ravel),
    "permute_dims": (lambda x: pb.permute_dims(x, (2, 0, -2)), lambda x: x.transpose(2, 0, 1)),
    "matrix_transpose": (pb.matrix_transpose, lambda x: x.swapaxes(-1, -2)),
    "swapaxes": (lambda x: pb.swapaxes(x, 0, -1), lambda x: x.swapaxes(0, -1)),
    "moveaxis": (lambda x: pb.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1)),
    "moveaxis two": (
        lambda x: pb.moveaxis(x, (0, 1), (-1, 0)),
        lambda x: np.moveaxis(x, (0, 1), (-1, 0)),
    ),
    "flip": (pb.flip, np.flip),
    "flip one": (lambda x: pb.flip(x, axis=(0, -1)), lambda x: np.flip(x, (0, -1))),
    "roll": (lambda x: pb.roll(x, 5), lambda x: np.roll(x, 5)),
    "roll axes": (
        lambda x: pb.roll(x, (1, -2), axis=(0, 2)),
        lambda x: np.roll(x, (1, -2), (0, 2)),
    ),
    "roll one shift": (
        lambda x: pb.roll(x, 1, axis=(0, 2)),
        lambda x: np.roll(x, 1, (0, 2)),
    ),
    "tile": (lambda x: pb.tile(x, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3))),
    "tile new axis": (lambda x: pb.tile(x, (2, 1, 1, 2)), lambda x: np.tile(x, (2, 1, 1, 2))),
    "tile few": (lambda x: pb.tile(x, (2,)), lambda x: np.tile(x, 2)),
    "repeat": (lambda x: pb.repeat(x, 3, axis=1), lambda x: np.repeat(x, 3, 1)),
    "repeat flat": (lambda x: pb.repeat(x, 2), lambda x: np.repeat(x, 2)),
    "repeat each": (
        lambda x: pb.repeat(x, [2, 0, 1], axis=1),
        lambda x: np.repeat(x, [2, 0, 1], 1),
    ),
    "concat": (lambda x: pb.concat([x, x[:1]], axis=0), lambda x: np.concatenate([x, x[:1]])),
    "concat flat": (
        lambda x: pb.concat([x, x], axis=None),
        lambda x: np.concatenate([x, x], axis=None),
    ),
    "stack": (lambda x: pb.stack([x, x], axis=-1), lambda x: np.stack([x, x], -1)),
    "unstack": (lambda x: pb.unstack(x, axis=1)[2], lambda x: x[:, 2]),
    "split": (lambda x: pb.split(x, 2, axis=2)[1], lambda x: np.split(x, 2, 2)[1]),
    "split at": (lambda x: pb.split(x, [1, 3], axis=2)[1], lambda x: np.split(x, [1, 3], 2)[1]),
    "array_split": (
        lambda x: pb.array_split(x, 3, axis=2)[0],
        lambda x: np.array_split(x, 3, 2)[0],
    ),
    "broadcast_to": (
        lambda x: pb.broadcast_to(x[:, :1], (5, 2, 3, 4)),
        lambda x: np.broadcast_to(x[:, :1], (5, 2, 3, 4)),
    ),
    "pad": (lambda x: pb.pad(x, 1), lambda x: np.pad(x, 1)),
    "pad value": (
        lambda x: pb.pad(x, ((0, 1), (2, 0), (1, 1)), constant_values=0.5),
        lambda x: np.pad(x, ((0, 1), (2, 0), (1, 1)), constant_values=0.5),
    ),
    "pad edge": (lambda x: pb.pad(x, (1, 2), "edge"), lambda x: np.pad(x, (1, 2), "edge")),
    "pad reflect": (
        lambda x: pb.pad(x, (3, 7), mode="reflect"),
        lambda x: np.pad(x, (3, 7), "reflect"),
    ),
    "atleast_2d": (lambda x: pb.atleast_2d(x[0, 0]), lambda x: np.atleast_2d(x[0, 0])),
    "tril": (lambda x: pb.tril(x, k=1), lambda x: np.tril(x, 1)),
    "triu": (lambda x: pb.triu(x, k=-1), lambda x: np.triu(x, -1)),
    "take": (
        lambda x: pb.take(x, np.array([[0, -1]]), axis=1),
        lambda x: np.take(x, [[0, -1]], axis=1),
    ),
    "take_along_axis": (
        lambda x: pb.take_along_axis(x, np.array([[[0, 1, 1, 2]]]), axis=1),
        lambda x: np.take_along_axis(x, np.array([[[0, 1, 1, 2]]]), axis=1),
    ),
}


@pytest.mark.parametrize("name", SAME_AS_NUMPY)
def test_same_as_numpy(name):
    ours, theirs = SAME_AS_NUMPY[name]
    result, expected = ours(concrete(X.copy())), theirs(X)
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result.numpy(), expected)


@pytest.mark.parametrize("name", SAME_AS_NUMPY)
def test_gradient_counts_copies(name):
    """The gradient of Σ f(x) is the number of places each element was copied to."""
    ours, theirs = SAME_AS_NUMPY[name]
    result, pullback = pb.vjp(ours, concrete(X.copy()))
    copies = theirs(np.arange(1, 25).reshape(X.shape))  # 0 is what was filled in
    count = np.bincount(copies.ravel(), minlength=25)[1:]
    np.testing.assert_array_equal(pullback(pb.ones_like(result))[0].numpy().ravel(), count)


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_meshgrid(indexing, count):
    axes = [np.arange(n + 2.0) for n in range(count)]
    for ours, theirs in zip(
        pb.meshgrid(*axes, indexing=indexing), np.meshgrid(*axes, indexing=indexing), strict=True
    ):
        np.testing.assert_array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: pb.reshape(X, (5, -1)), ShapeError),
        (lambda: pb.reshape(X, (2.0, 12)), ShapeError),
        (lambda: pb.squeeze(X, 0), ShapeError),
        (lambda: pb.permute_dims(X, (0, 1)), ShapeError),
        (lambda: pb.moveaxis(X, (0, 0), (0, 1)), ShapeError),
        (lambda: pb.flip(X, axis=3), ShapeError),
        (lambda: pb.roll(X, (1, 2), axis=0), ShapeError),
        (lambda: pb.concat([X, X[0]]), ShapeError),
        (lambda: pb.concat([]), ShapeError),
        (lambda: pb.stack([X, X[0]]), ShapeError),
        (lambda: pb.split(X, 3, axis=2), ShapeError),
        (lambda: pb.repeat(X, -1), ShapeError),
        (lambda: pb.repeat(X, [1, 2], axis=1), ShapeError),
        (lambda: pb.pad(X, -1), ShapeError),
        (lambda: pb.pad(X, ((1, 1), (1, 1))), ShapeError),
        (lambda: pb.pad(X, 1, "wrap"), ShapeError),
        (lambda: pb.pad(np.arange(3), 1, constant_values=0.5), DTypeError),
        (lambda: pb.broadcast_to(X, (2, 4)), ShapeError),
        (lambda: pb.meshgrid([1], indexing="yx"), ShapeError),
        (lambda: pb.take(X, [0]), ShapeError),
        (lambda: pb.take(X, [0.5], axis=0), DTypeError),
        (lambda: pb.take_along_axis(X, [0]), ShapeError),
        (lambda: pb.matrix_transpose(X[0, 0]), ShapeError),
        (
            lambda: pb.vmap(lambda n: pb.repeat(X, n, axis=0))(np.ones((3, 2), int)),
            TracedValueError,
        ),
    ],
)
def test_bad_input(call, error):
    with pytest.raises(error) as caught:
        call()
    assert "test_manipulation.py" in str(caught.value)


def test_diff():
    for n in range(4):
        np.testing.assert_array_equal(pb.diff(X**2, axis=1, n=n).numpy(), np.diff(X**2, n, 1))
    np.testing.assert_array_equal(
        pb.diff(X, prepend=X[..., :1], append=X[..., :2]).numpy(),
        np.diff(X, prepend=X[..., :1], append=X[..., :2]),
    )


def test_roundtrips():
    x = concrete(X.copy())
    np.testing.assert_array_equal(pb.stack(pb.unstack(x, axis=1), axis=1).numpy(), X)
    np.testing.assert_array_equal(pb.concat(pb.split(x, 3, axis=1), axis=1).numpy(), X)


# ---- gathering, searching -------------------------------------------------------------------


def test_put_along_axis():
    places = np.argsort(-X, axis=1)[:, :1]
    ours = pb.put_along_axis(X, places, -1.0, axis=1)
    theirs = X.copy()
    np.put_along_axis(theirs, places, -1.0, axis=1)
    np.testing.assert_array_equal(ours.numpy(), theirs)


def test_one_hot():
    labels = pb.asarray([[0, 2], [1, 5]])
    assert pb.one_hot(labels, 3).tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 0]]]
    assert pb.one_hot(labels, 3, axis=0).shape == (3, 2, 2)
    assert pb.one_hot(labels, 300, dtype=pb.int8).shape == (2, 2, 300)
    with pytest.raises(DTypeError):
        pb.one_hot([0.5], 3)


def test_segments():
    data, ids = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]]), np.array([0, 2, 0])
    assert pb.segment_sum(data, ids).tolist() == [[6, 2], [0, 0], [3, 4]]
    assert pb.segment_mean(data, ids).tolist() == [[3, 1], [0, 0], [3, 4]]
    assert pb.segment_max(data, ids)[0].tolist() == [5, 2]
    assert pb.segment_min(np.array([3, 1]), [1, 1], 2).tolist() == [2**63 - 1, 1]
    gradient = pb.grad(
        lambda d: (pb.segment_mean(d, ids) * pb.asarray([[1.0], [2.0], [4.0]])).sum()
    )
    assert gradient(data)[:, 0].tolist() == [0.5, 4.0, 0.5]
    with pytest.raises(ShapeError):
        pb.segment_sum(data, ids[:2])
    with pytest.raises(IndexError):
        pb.segment_sum(data, ids, 2)
    with pytest.raises(TracedValueError):
        pb.vmap(lambda i: pb.segment_sum(data, i))(np.stack([ids, ids]))


def test_searchsorted():
    ladder, values = np.array([1.0, 2.0, 2.0, 5.0]), np.array([[0.0, 2.0], [5.0, 9.0]])
    for side in ("left", "right"):
        np.testing.assert_array_equal(
            pb.searchsorted(ladder, values, side=side).numpy(),
            np.searchsorted(ladder, values, side=side),
        )
    assert pb.searchsorted(ladder[::-1].copy(), 2.0, sorter=[3, 2, 1, 0]).item() == 1


def test_nonzero_and_unique():
    x = np.array([[3.0, 0.0, 3.0], [np.nan, 1.0, np.nan]])
    for ours, theirs in zip(pb.nonzero(x), np.nonzero(x), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    np.testing.assert_array_equal(pb.argwhere(x).numpy(), np.argwhere(x))
    for ours, theirs in zip(pb.unique_all(x), np.unique_all(x), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    assert pb.unique_counts([2, 1, 2]).counts.tolist() == [1, 2]
    assert pb.unique_inverse([2, 1, 2]).inverse_indices.tolist() == [1, 0, 1]
    assert pb.grad(lambda v: pb.unique_values(v).sum())(np.array([2.0, 1.0, 2.0])).tolist() == [
        1,
        1,
        0,
    ]
    with pytest.raises(TracedValueError, match="unique"):
        pb.vmap(pb.unique_values)(x)
