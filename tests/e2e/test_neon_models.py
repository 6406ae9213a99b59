"""Whole steps of the benchmark's models have the same bits in code for NEON and for this machine.

The former runs in an emulated processor (`arm`).
"""

from __future__ import annotations

import numpy as np
import optree
import pytest

import arm
import pullback as pb
from pullback.backend.program import write_code
from pullback.backend.target import Target
from pullback.bench.workloads import SMALL, numbers


@pytest.mark.parametrize("name", SMALL)
def test_a_step_has_the_same_bits(name):
    given = [np.array(x, order="C") for x in optree.tree_leaves(numbers(SMALL[name]))]
    step = pb.compile(SMALL[name].step, threads=1)
    arguments = [optree.tree_map(pb.asarray, each) for each in numbers(SMALL[name])]
    code = write_code(step.lower(*arguments).schedule, threads=1, target=Target.named("neon"))
    emulated = arm.run(code, given)
    native = [np.asarray(x) for x in optree.tree_leaves(step(*arguments))]
    assert len(emulated) == len(native)
    for x, y in zip(native, emulated, strict=True):
        arm.require_same(x, y)
