"""Results and operands that are views, or constants, of what kernels make."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb

X = np.array([1.0, 2.0, 3.0], np.float32)


def views(x):
    double = x * 2
    return (
        pb.reshape(x, (1, 3)),
        pb.reshape(double, (3, 1)),
        double,
        pb.expand_dims(pb.sum(x), axis=0),
        pb.sum(x),
        pb.flip(double, axis=0),
        x,
        double,
        double,
    )


def test_every_result_has_its_own_shape():
    for found, wanted in zip(pb.compile(views)(X), views(X), strict=True):
        assert found.shape == wanted.shape
        assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("columns", [0, 2])
def test_a_product_takes_constants(columns):
    found = pb.compile(lambda x: x @ pb.full((3, columns), 2.0))(X)
    assert found.tolist() == [12.0] * columns


def test_a_product_takes_what_is_computed_from_places_alone():
    found = pb.compile(lambda x: x @ pb.reshape(pb.arange(6, dtype=pb.float32), (3, 2)))(X)
    assert found.tolist() == [16.0, 22.0]
