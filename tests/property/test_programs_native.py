"""Random programs, natively: a small sample; `python -m property.fuzz` runs any number."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from optree import tree_leaves

import pullback as pb
from property.fuzz import Broken, Crew, _require_same_bits, report
from property.fuzz_programs import LENGTH, Program, catalogue
from pullback.errors import SingularMatrixError
from pullback.ir.graph import needed_nodes
from pullback.ir.types import is_float

SAMPLE = 10


def test_compiled_programs_have_the_bits_of_their_nodes(tmp_path):
    crew = Crew(0, SAMPLE, 2, str(tmp_path))
    crew.run()
    assert crew.checked == SAMPLE
    assert not crew.failures, report(crew, None)


def test_every_op_takes_part():
    met = set()
    for seed in range(400):
        graph, _ = Program(seed).build()
        met |= {node.op.name for node in needed_nodes(graph.nodes, graph.outputs)}
    assert set(catalogue()) - met == set()


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_is_one_program(seed):
    one, two = Program(seed).build(), Program(seed).build()
    assert str(one[0]) == str(two[0])
    assert all(x.tobytes() == y.tobytes() for x, y in zip(one[1], two[1], strict=True))


def test_a_worker_that_dies_or_fails_is_noted(tmp_path):
    script = """
import json, os, sys
for line in sys.stdin:
    print(json.dumps({"begin": int(line)}), flush=True)
    if line == "1\\n":
        os.abort()
    failure = {"length": 2, "error": "Broken: bits", "where": "here"} if line == "2\\n" else None
    print(json.dumps({"end": int(line), "failure": failure, "missing": {"pad": 1}}), flush=True)
"""
    crew = Crew(0, 4, 1, str(tmp_path), (sys.executable, "-c", script))
    crew.run()
    assert sorted(crew.failures) == [1, 2]
    assert "died of it: -6" in crew.failures[1]["error"]
    assert crew.failures[1]["length"] == LENGTH
    assert crew.missing == {"pad": 3}
    text = report(crew, tmp_path / "failed")
    assert "4 programs, 2 failures" in text
    assert "graph(" in (tmp_path / "failed" / "1.txt").read_text()


@pytest.mark.parametrize("other", [[1.0, 0.0], [np.nextafter(1, 2), -0.0], [[1.0, -0.0]]])
def test_a_bit_is_seen(other):
    with pytest.raises(Broken):
        _require_same_bits(np.array([1.0, -0.0]), np.array(other), "result 0")


def test_the_payload_of_nan_is_free():
    x, y = (np.array([bits], np.uint64).view(np.float64) for bits in (0x7FF8 << 48, 0xFFF9 << 48))
    _require_same_bits(x, y, "result 0")


@pytest.mark.parametrize("seed", range(6))
def test_a_donated_state_has_the_bits_of_a_kept_one(seed):
    program = Program(1000 + seed)
    _, inputs = program.build()
    state = [x for x in inputs[: len(program.inputs)] if is_float(x.dtype)]

    def step(state):
        given = iter(state)
        made = program._results(
            *[next(given) if is_float(x.dtype) else pb.asarray(x) for x in program.inputs]
        )
        floats = [x for x in tree_leaves(made) if is_float(x.dtype)]
        first = pb.tanh(pb.sum(pb.astype(floats[0], "float32"))) if floats else 0.0
        return [pb.astype(pb.where(pb.isnan(first), x, x * 0.5 + first), x.dtype) for x in state]

    kept, donated = pb.compile(step, threads=1), pb.compile(step, donate=0, threads=8)
    try:
        one = kept([pb.asarray(x) for x in state])
    except SingularMatrixError:
        with pytest.raises(SingularMatrixError):
            donated([pb.asarray(x) for x in state])
        return
    two = donated([pb.asarray(x) for x in state])
    for x, y in zip(kept(one), donated(two), strict=True):
        _require_same_bits(x.numpy(), y.numpy(), "the state")
