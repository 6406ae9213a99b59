"""Code for NEON gives the bits of this machine's code: every op × sample, and whole programs.

It runs in an emulated processor (`arm`), on any machine.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import optree
import pytest

import arm
import pullback as pb
from conformance.catalogue import every_sample
from pullback._settings import override
from pullback.backend.program import Program, write_code
from pullback.backend.target import Target
from pullback.errors import CompileError
from pullback.ir.families import Elementwise
from pullback.ir.op import HigherOrder, Sample
from pullback.ir.types import is_float
from pullback.schedule.fuse import fuse
from pullback.transforms.trace import trace
from thorough import sampled

SAMPLES = {
    name: sample for name, sample in every_sample() if not isinstance(sample.op, HigherOrder)
}
POINTWISE = {name: each for name, each in SAMPLES.items() if isinstance(each.op, Elementwise)}


@pytest.mark.parametrize("name", sampled(SAMPLES, 8, first=lambda name: name.endswith("-0")))
def test_an_operation_has_the_same_bits(name):
    require_same_bits(SAMPLES[name], np.float32)


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("name", sampled(POINTWISE, 5))
def test_half_precision_has_the_same_bits(name, half):
    require_same_bits(POINTWISE[name], half)


def require_same_bits(sample, floats):
    with np.errstate(all="ignore"):
        inputs = [
            np.array(x, floats if is_float(x.dtype) else None, order="C") for x in sample.inputs
        ]
    try:
        schedule = fuse(trace(sample.op.outputs, *Sample(sample.op, *inputs).types))
        with override(cache="off"):
            program = Program(schedule, threads=1)
    except CompileError as missing:
        pytest.skip(str(missing).partition(":")[2].strip())
    if program.callbacks:
        pytest.skip("called back in Python")
    emulated = arm.run(write_code(schedule, threads=1, target=Target.named("neon")), inputs)
    for native, other in zip(program(inputs), emulated, strict=True):
        arm.require_same(native, other)


def large():
    """Sizes of many register tiles and of more than one block of each axis."""

    def drawn(*shape):
        return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)

    image, filters = drawn(2, 20, 15, 15), drawn(33, 20, 3, 3)
    yield "product", lambda x, w, b: pb.tanh(x @ w + b), (drawn(75, 300), drawn(300, 130), drawn(1))
    yield "turned product", lambda x, w: x.T @ w.T, (drawn(40, 66), drawn(70, 40))
    yield "convolution", lambda x, w: pb.conv2d(x, w, padding=1), (image, filters)
    yield (
        "gradients of a convolution",
        pb.grad(lambda x, w: pb.sum(pb.conv2d(x, w, stride=2) ** 2), argnums=(0, 1)),
        (image, filters),
    )
    q = drawn(2, 3, 40, 16)
    yield (
        "attention",
        pb.grad(lambda q: pb.sum(pb.softmax(q @ pb.matrix_transpose(q)) @ q)),
        (q,),
    )
    yield "sums", lambda x: (pb.sum(x), pb.sum(x, axis=0), pb.max(x, axis=1)), (drawn(300, 130),)


@pytest.mark.parametrize(("f", "inputs"), [pytest.param(*x, id=n) for n, *x in large()])
def test_large_operands_have_the_same_bits(f, inputs):
    compiled = pb.compile(f, threads=1)
    code = write_code(compiled.lower(*inputs).schedule, threads=1, target=Target.named("neon"))
    native = optree.tree_leaves(compiled(*inputs))
    for x, y in zip(native, arm.run(code, inputs), strict=True):
        arm.require_same(np.asarray(x), y)
