"""The plan's peak is what a program takes: measured by canaries and by an allocator of the test."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import pullback as pb
from pullback.backend.program import Memory, Program, write_code
from unit.compile.test_donation import batch, start, step

random = np.random.default_rng(2)
MARGIN = 4096
PATTERNS = (0xA5, 0x5A)


def normal(*shape):
    return random.normal(size=shape).astype(np.float32)


class Watched(Memory):
    """Allocates between canaries, fills with a pattern, and remembers what it was asked for."""

    def __init__(self, pattern):
        self.pattern = pattern
        self.whole = []

    def allocate(self, count):
        memory = Memory.allocate(self, count + 2 * MARGIN)
        memory[:] = self.pattern
        self.whole.append(memory)
        return memory[MARGIN : MARGIN + count]

    @property
    def counts(self):
        return [len(x) - 2 * MARGIN for x in self.whole]

    def require_canaries(self):
        for each in self.whole:
            assert (each[:MARGIN] == self.pattern).all()
            assert (each[-MARGIN:] == self.pattern).all()

    def touched(self, i):
        """One past the last byte that was written."""
        changed = np.flatnonzero(self.whole[i][MARGIN:] != self.pattern)
        return int(changed[-1]) + 1 if changed.size else 0


def aligned(count):
    return -(-count // 64) * 64


def require_measured(code, inputs):
    """A program takes the bytes of its plan, to the last one, whatever lay there before."""
    touched, results = [], []
    for pattern in PATTERNS:
        memory = Watched(pattern)
        program = Program(code.schedule, code=code, memory=memory)
        outputs = program([x.copy() for x in inputs])
        memory.require_canaries()
        touched.append(memory.touched(0))
        results.append([x.tobytes() for x in outputs])
        own = [x for i, x in enumerate(outputs) if program.sources[i] is None]
    assert results[0] == results[1]
    measured = sum(aligned(x.nbytes) for x in (*inputs, *own)) + sum(memory.counts)
    assert measured == code.plan.peak_bytes
    assert aligned(max(touched)) == memory.counts[0]


def two_layers(x, w, v):
    return pb.grad(lambda w, v: pb.sum(pb.softmax(pb.tanh(x @ w) @ v) ** 2), argnums=(0, 1))(w, v)


CASES = {
    "step": (step, 0, (start(layers=3), *batch())),
    "gradients": (two_layers, (), (normal(50, 30), normal(30, 70), normal(70, 20))),
    "elementwise": (lambda x, y: pb.sqrt(pb.abs(x * y)) + x, 0, (normal(99, 7), normal(99, 7))),
    "norm": (lambda x: pb.nn.layer_norm(x, pb.ones(65), pb.zeros(65)).T @ x, (), (normal(9, 65),)),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_what_is_measured_is_what_was_predicted(name, threads):
    f, donate, arguments = CASES[name]
    lowered = pb.compile(f, donate=donate, threads=threads).lower(*arguments)
    code = write_code(lowered.schedule, threads, lowered.pairing.pairs)
    inputs = [random.random(x.shape).astype(x.dtype) for x in lowered.optimized.inputs]
    require_measured(code, inputs)


@pytest.mark.parametrize("name", CASES)
def test_nobody_reads_what_the_plan_has_freed(name):
    f, donate, arguments = CASES[name]
    lowered = pb.compile(f, donate=donate, threads=1).lower(*arguments)
    inputs = [random.random(x.shape).astype(x.dtype) for x in lowered.optimized.inputs]
    code = write_code(lowered.schedule, 1, lowered.pairing.pairs)
    wanted = [x.tobytes() for x in Program(code.schedule, code=code)([x.copy() for x in inputs])]
    memory = Watched(0xFF)
    program = Program(code.schedule, code=code, memory=memory)
    arena = memory.whole[0][MARGIN:]
    freed = code.plan.freed()

    def run():
        for position, _ in enumerate(program.stepwise()):
            for begin, end in freed[position]:
                arena[begin:end] = 0xFF

    program.run = run
    assert [x.tobytes() for x in program([x.copy() for x in inputs])] == wanted
    memory.require_canaries()


def test_a_step_allocates_next_to_nothing():
    compiled = pb.compile(step, donate=0)
    state = start(layers=3, width=64)
    x, y = batch(count=256, width=64)
    for _ in range(2):
        state, _ = compiled(state, x, y)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        state, _ = compiled(state, x, y)
        grown = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert grown < 20_000


def test_the_plan_names_what_is_alive_in_the_users_terms():
    class Net(pb.nn.Module):
        layer: pb.nn.Linear

        def __call__(self, x):
            return self.layer(pb.tanh(x))

    net = Net(pb.nn.Linear(30, 30, key=pb.random.key(0)))
    plan = pb.compile(lambda net, x: pb.sum(net(x) @ net(x).T)).lower(net, normal(40, 30)).plan
    held = plan.at_peak()
    assert any(x.layer == "layer" for x in held)
    assert any("test_memory.py" in x.source for x in held)
    labels = {value.label for value in plan.lifetimes.workload.values}
    assert {"net.layer.weight", "x", "scratch of the threads"} <= labels
