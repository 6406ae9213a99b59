"""Programs that random search (`property.fuzz`) found wrong once, cut to what matters."""

from __future__ import annotations

import numpy as np
import optree
import pytest

import pullback as pb

THREADS = (1, 2, 8)


def require_compiled_is_eager(f, *args):
    """To the last bits but few, and to the bit on every number of threads."""
    wanted = [np.asarray(x) for x in optree.tree_leaves(f(*args))]
    runs = [optree.tree_leaves(pb.compile(f, threads=n)(*args)) for n in THREADS]
    for i, expected in enumerate(wanted):
        first, *others = (np.asarray(run[i]) for run in runs)
        assert first.dtype == expected.dtype
        np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-6)
        for other in others:
            assert other.tobytes() == first.tobytes()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_parts_of_no_element_are_joined(shape):
    x = np.zeros(shape, np.float32)
    require_compiled_is_eager(lambda x: pb.concat([pb.tanh(x), pb.sin(x)], axis=0), x)
