"""A fixed sample of the mutation run (`conformance.mutate`): each family and kind of rule."""

from __future__ import annotations

import pytest

from conformance.catalogue import every_op
from conformance.mutate import run_families, run_op

OPS = {op.name: op for op in every_op()}
SAMPLE = ("multiply", "divide", "tanh", "sqrt", "select", "sum", "transpose", "slice", "contract")


@pytest.mark.parametrize("name", SAMPLE)
def test_no_mutant_of_the_op_survives(name):
    tally = run_op(OPS[name])
    assert tally.total > 3
    assert tally.survivors == []


def test_no_mutant_of_the_families_survives():
    tally = run_families()
    assert tally.total > 20
    assert tally.survivors == []
