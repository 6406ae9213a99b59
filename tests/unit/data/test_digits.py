"""The digits are those of the repository, and their split is disjoint, complete and seeded."""

from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np
import pytest

import pullback as pb
from pullback.errors import ArgumentError


def test_the_digits():
    data = pb.data.digits()
    assert (data.images.shape, data.images.dtype) == ((1797, 8, 8), np.float32)
    assert (data.labels.shape, data.labels.dtype) == ((1797,), np.int64)
    assert (data.images.min(), data.images.max()) == (0.0, 1.0)
    assert np.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    pixels = (data.images * 16).astype(np.uint8)
    assert np.array_equal(pixels, data.images * 16)
    # Of the bytes of `sklearn.datasets.load_digits().images.astype("uint8")`.
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    assert digest == "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
    assert len(data[:10]) == 10


def test_the_attribution_is_shipped():
    text = resources.files("pullback.data").joinpath("digits.txt").read_text("utf-8")
    for words in ("E. Alpaydin", "C. Kaynak", "CC BY 4.0", "10.24432/C50P49"):
        assert words in text
        assert words in pb.data.digits.__doc__


def test_split():
    parts = pb.data.split(100, seed=1, validation=0.2, test=0.1)
    assert [len(x) for x in (parts.train, parts.validation, parts.test)] == [70, 20, 10]
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(together) == list(range(100))
    again = pb.data.split(100, seed=1, validation=0.2, test=0.1)
    np.testing.assert_array_equal(parts.train, again.train)
    other = pb.data.split(100, seed=2, validation=0.2, test=0.1)
    assert not np.array_equal(parts.train, other.train)


@pytest.mark.parametrize(
    ("count", "validation", "test"),
    [(100, 0.5, 0.5), (100, 0.0, 0.1), (100, float("nan"), 0.1), (2, 0.1, 0.1), (0, 0.1, 0.1)],
)
def test_a_split_without_examples_is_refused(count, validation, test):
    with pytest.raises(ArgumentError):
        pb.data.split(count, 0, validation, test)
