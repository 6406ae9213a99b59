"""`Strided` says where NumPy's views lie, for every layout op that can be a view."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.catalogue import every_sample
from pullback.ir.strided import Strided
from pullback.ops.layout import Layout

LAYOUTS = {name: sample for name, sample in every_sample() if isinstance(sample.op, Layout)}


def read(memory: np.ndarray, view: Strided) -> np.ndarray:
    """The elements that a view names, one by one."""
    out = np.empty(view.shape, memory.dtype)
    for place in np.ndindex(view.shape):
        out[place] = memory[
            view.offset + sum(i * s for i, s in zip(place, view.strides, strict=True))
        ]
    return out


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_view_is_what_the_op_means(name):
    sample = LAYOUTS[name]
    (x,) = sample.inputs
    view = sample.op.view(Strided.row_major(x.shape))
    assert (view is not None) == sample.op.is_view
    if view is None:
        assert sample.op.name in ("pad", "diagonal", "diagonal_matrix", "triangle")
        return
    np.testing.assert_array_equal(read(x.ravel(), view), sample.op.reference(x))


@given(st.data())
def test_reshape_finds_strides_whenever_numpy_does(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    x = np.arange(np.prod(shape)).reshape(shape)
    order = data.draw(st.permutations(range(len(shape))))
    seen = x.transpose(order)
    total = int(np.prod(shape))
    target, rest = [], total
    while rest > 1:
        factor = data.draw(st.sampled_from([n for n in range(1, rest + 1) if rest % n == 0]))
        target.append(factor)
        rest //= factor
        if len(target) > 5:
            target.append(rest)
            break
    view = Strided.row_major(tuple(shape)).permuted(tuple(order)).reshaped(tuple(target))
    reshaped = seen.view()
    try:
        reshaped.shape = tuple(target)
    except AttributeError:
        assert view is None
        return
    assert view is not None
    np.testing.assert_array_equal(read(x.ravel(), view), reshaped)
