"""What a type checker says of the public interface. Checked by mypy, never run."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np

import pullback as pb
from pullback.inspect.backprop import Backprop

x = pb.asarray([1.0, 2.0])
assert_type(x, pb.Array)
assert_type(x + 1, pb.Array)
assert_type(2.0 * x, pb.Array)
assert_type(x @ x, pb.Array)
assert_type(x < 1.0, pb.Array)
assert_type(x == x, pb.Array)
assert_type(x[0], pb.Array)
assert_type(x.T, pb.Array)
assert_type(x.sum(), pb.Array)
assert_type(x.shape, tuple[int, ...])
assert_type(x.item(), bool | int | float)
assert_type(x.numpy(), np.ndarray[Any, Any])
assert_type(pb.sum(x, axis=0), pb.Array)
assert_type(pb.where(x > 0, x, 0.0), pb.Array)
assert_type(pb.linalg.solve(x, x), pb.Array)
assert_type(pb.random.normal(pb.random.key(0), (2,)), pb.Array)
assert_type(pb.nn.cross_entropy(x, x), pb.Array)
assert_type(pb.jvp(pb.tanh, (x,), (x,)), tuple[Any, Any])
assert_type(pb.backprop(pb.sum, x), Backprop)
