"""Native = reference, for every op × sample that has a native kernel, in float64 and float32."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.catalogue import every_sample
from pullback._settings import override
from pullback.backend.program import Program
from pullback.errors import CompileError
from pullback.ir.op import HigherOrder, Sample
from pullback.ir.types import is_float
from pullback.schedule.fuse import fuse
from pullback.transforms.trace import trace

SAMPLES = {
    name: sample for name, sample in every_sample() if not isinstance(sample.op, HigherOrder)
}


@pytest.mark.parametrize("floats", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", SAMPLES)
def test_native_is_reference(name, floats):
    sample = SAMPLES[name]
    with np.errstate(all="ignore"):
        inputs = [x.astype(floats) if is_float(x.dtype) else x for x in sample.inputs]
    if floats is np.float32 and not any(is_float(x.dtype) for x in inputs):
        pytest.skip("no floating operand")
    try:
        types = Sample(sample.op, *inputs).types
        graph = trace(sample.op.outputs, *types)
        with override(cache="off"):
            program = Program(fuse(graph), threads=1)
    except CompileError as missing:
        pytest.skip(str(missing).partition(":")[2].strip())
    with np.errstate(all="ignore"):
        expected = sample.op.reference(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for actual, wanted in zip(
        program([np.ascontiguousarray(x) for x in inputs]), expected, strict=True
    ):
        wanted = np.asarray(wanted)
        assert actual.shape == wanted.shape
        assert actual.dtype == wanted.dtype
        if is_float(wanted.dtype):
            relative, absolute = (1e-12, 1e-15) if wanted.dtype == np.float64 else (2e-5, 2e-7)
            np.testing.assert_allclose(
                actual.astype(np.float64), wanted.astype(np.float64), rtol=relative, atol=absolute
            )
        else:
            np.testing.assert_array_equal(actual, wanted)
