from typing import Any

import numpy as np
import pytest

import pullback as pb


@pytest.mark.parametrize("dtype", [pb.bool, pb.int32, pb.uint8, pb.float32, pb.bfloat16])
def test_a_triangle_keeps_its_element_type(dtype: Any) -> None:
    full = pb.ones((3, 3), dtype=dtype)
    for part, expected in ((pb.tril(full), np.tri(3)), (pb.triu(full), np.tri(3).T)):
        assert part.dtype == dtype
        np.testing.assert_array_equal(np.asarray(part).astype(float), expected)
