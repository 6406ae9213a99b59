"""Every op × every sample × every law."""

from __future__ import annotations

import pytest

from conformance.catalogue import every_op, every_rejected, every_sample
from conformance.laws import LAWS, Exempt
from pullback.errors import DTypeError, ShapeError

SAMPLES = dict(every_sample())
REJECTED = dict(every_rejected())


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", SAMPLES)
def test_law(name, law):
    try:
        law(SAMPLES[name])
    except Exempt as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", REJECTED)
def test_rejects(name):
    sample = REJECTED[name]
    with pytest.raises((ShapeError, DTypeError)):
        sample.op.infer(*sample.types)


def test_every_op_has_samples():
    assert [op.name for op in every_op() if not any(True for _ in op.samples())] == []
