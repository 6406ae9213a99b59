"""The order of the passes, what is checked between them, who watches, and what it costs."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

import pullback as pb
from pullback._settings import Settings, override
from pullback.errors import PassError, PullbackError
from pullback.ir.graph import Graph, Node, verify
from pullback.ir.interpret import interpret
from pullback.ir.parse import parse_graph
from pullback.ir.types import TensorType, float32, int32
from pullback.ops.layout import Transpose
from pullback.ops.pointwise import Add, Subtract, Tanh
from pullback.passes import pipeline
from pullback.passes.algebra import EXACT
from pullback.passes.dump import Dump
from pullback.passes.pipeline import PIPELINE, optimize, prepare, run
from pullback.passes.rewrite import Local, Rewrites, Sweep, sweep
from unit.passes.models import tower, training_step


def ignore(name, before, after):
    pass


# ---- what is kept ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_training_steps_keep_sites_and_phases(name):
    graph = training_step(name)
    better = optimize(graph)
    verify(better)
    assert better.inputs == graph.inputs
    places = {str(node.site) for node in graph.nodes}
    assert {str(node.site) for node in better.nodes} <= places
    phases = [{node.site.phase for node in each.nodes} for each in (graph, better)]
    assert phases[0] == phases[1]


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_training_steps_keep_every_bit(name):
    with override(check=2):
        optimize(training_step(name))


@pytest.mark.parametrize(
    ("name", "before", "after"), [("mlp", 38, 30), ("cnn", 50, 36), ("transformer", 163, 129)]
)
def test_training_steps_shrink(name, before, after):
    graph = training_step(name)
    assert (len(graph.nodes), len(optimize(graph).nodes)) == (before, after)


# ---- what is caught -------------------------------------------------------------------------


def swapped(graph: Graph) -> Graph:
    """A wrong pass: the first addition becomes a subtraction."""
    nodes = [
        Node(Subtract(), n.inputs, n.outputs, n.site) if isinstance(n.op, Add) else n
        for n in graph.nodes
    ]
    return Graph(graph.inputs, tuple(nodes), graph.outputs)


def step(x):
    y = pb.tanh(x)
    return pb.sum((y + x) * 2.0)


def test_a_changed_value_names_the_pass_and_the_node():
    graph = pb.trace(step, TensorType((3,), float32))
    run([swapped], graph, ignore)
    with override(check=2), pytest.raises(PassError) as caught:
        run([swapped], graph, ignore)
    text = str(caught.value)
    assert "subtract at" in text
    assert "in step: the pass swapped changed a value" in text


def test_a_broken_graph_names_the_pass():
    def emptied(graph: Graph) -> Graph:
        return Graph(graph.inputs, (), graph.outputs)

    graph = pb.trace(step, TensorType((3,), float32))
    with override(check=1), pytest.raises(PassError, match="the pass emptied made no valid graph"):
        run([emptied], graph, ignore)


def test_a_changed_result_type_names_the_pass():
    def narrowed(graph: Graph) -> Graph:
        return Graph(graph.inputs, graph.nodes, graph.inputs)

    graph = pb.trace(step, TensorType((3,), float32))
    with override(check=1), pytest.raises(PassError, match="changed the type of a result"):
        run([narrowed], graph, ignore)


def test_rewrites_that_undo_each_other_end():
    there = Local(Add, (), lambda sweep, op, x, y: Subtract()(x, -y))
    back = Local(Subtract, (), lambda sweep, op, x, y: Add()(x, -y))
    graph = pb.trace(lambda x: x + x, TensorType((3,), float32))
    verify(sweep(graph, Rewrites(there, back)))
    with override(check=1), pytest.raises(PassError, match="undo each other"):
        sweep(graph, Rewrites(there, back))


def test_check_2_names_the_rewrite(monkeypatch):
    wrong = Local(Subtract, (), lambda sweep, op, x, y: Add()(x, y))
    monkeypatch.setattr(pipeline, "EXACT", Rewrites(*pipeline.EXACT.every, wrong))
    graph = pb.trace(lambda x: pb.exp(x - pb.sin(x)), TensorType((3,), float32))
    with override(check=2), pytest.raises(PassError, match="the rewrite <lambda> changed a value"):
        optimize(graph)


def test_numbers_that_a_graph_refuses_are_not_compared():
    graph = pb.trace(lambda x: pb.linalg.cholesky(x) + 0.0 * 1.0, TensorType((3, 3), float32))
    with override(check=2):
        optimize(graph)


# ---- who watches ----------------------------------------------------------------------------


def test_the_observer_sees_each_pass_that_did_something():
    seen = []
    graph = training_step("mlp")
    better = optimize(graph, lambda name, before, after: seen.append((name, before, after)))
    assert [name for name, _, _ in seen] == ["simplify"]
    assert seen[0][1] is graph
    assert seen[-1][2] is better
    assert {each.__name__ for each in PIPELINE} >= {name for name, _, _ in seen}


def test_the_dump_holds_each_stage(tmp_path):
    folder = tmp_path / "dump"
    with override(dump=str(folder)):
        better = optimize(training_step("mlp"))
        optimize(training_step("mlp"))
    names = sorted(os.listdir(folder))
    assert names == ["0001-simplify.txt", "0002-simplify.txt"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    text = (folder / names[0]).read_text()
    assert "test_pipeline" in text or "models.py" in text
    bare = "\n".join(line.split("  # ")[0].rstrip() for line in text.splitlines())
    assert str(parse_graph(bare)) == str(better)


def test_the_dump_replaces_nothing(tmp_path):
    dump = Dump(str(tmp_path))
    (tmp_path / "0001-mine.txt").write_text("mine")
    path = dump.write("a stage/../x", "text")
    assert path.name == "0002-a_stage_.._x.txt"
    assert path.parent == tmp_path
    assert (tmp_path / "0001-mine.txt").read_text() == "mine"


def test_a_dump_that_cannot_be_written_says_so(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(PullbackError, match="cannot be written"):
        Dump(str(file)).write("stage", "text")


def test_the_setting_is_read():
    assert Settings.from_environment({"PULLBACK_DUMP": "/x/y"}).dump == "/x/y"


# ---- cost -----------------------------------------------------------------------------------


def calls(f: Callable[[], object]) -> int:
    """How many functions, of Python and of C, `f` calls."""
    count = 0

    def called(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        f()
    finally:
        sys.setprofile(None)
    return count


def test_work_per_node_does_not_grow_with_depth():
    graphs = {depth: tower(depth) for depth in (2, 12, 24)}
    optimize(graphs[2])  # what is remembered from one graph to the next
    optimized = [calls(partial(optimize, graph)) for graph in graphs.values()]
    traced = [calls(partial(tower, depth)) for depth in graphs]
    for counts in (optimized, traced):
        _, shallow, deep = [
            n / len(graph.nodes) for n, graph in zip(counts, graphs.values(), strict=True)
        ]
        assert deep < 1.02 * shallow


def test_one_sweep_is_enough(monkeypatch):
    sweeps = []
    run = Sweep.run
    monkeypatch.setattr(Sweep, "run", lambda self: sweeps.append(self) or run(self))
    optimize(tower(4))
    assert len(sweeps) == 1


def test_a_second_sweep_does_what_waited_for_the_first():
    """A transpose becomes another order of letters once the product has no other user."""

    def f(x, w):
        y = x @ w
        return y.T, y * 0

    kinds = TensorType((3, 4), int32), TensorType((4, 5), int32)
    better = optimize(pb.trace(f, *kinds))
    assert not any(isinstance(node.op, Transpose) for node in better.nodes)


# ---- before derivatives ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unstable", "at", "expected"),
    [
        (lambda x: pb.log(pb.sigmoid(x)), -1000.0, -1000.0),
        (lambda x: pb.log(1.0 + pb.exp(x)), 1000.0, 1000.0),
        (lambda x: pb.exp(x) - 1.0, 1e-12, 1e-12),
        (lambda x: pb.log(pb.softmax(x, axis=0))[0], [-1000.0, 0.0], -1000.0),
        (lambda x: pb.log(pb.sum(pb.exp(x))), [1000.0, 1000.0], 1000.0 + np.log(2.0)),
        (lambda x: (pb.exp(x) / pb.sum(pb.exp(x), axis=0, keepdims=True))[0], [900.0] * 2, 0.5),
    ],
)
def test_unstable_formulas_are_replaced(unstable, at, expected):
    x = np.asarray(at, np.float64)
    graph = prepare(pb.trace(unstable, pb.asarray(x)))
    (value,) = interpret(graph, [x])
    assert value == pytest.approx(expected, rel=1e-12)


def test_a_formula_without_a_pattern_stays():
    graph = pb.trace(Tanh(), TensorType((3,), float32))
    assert prepare(graph) is graph
    assert len(EXACT) > 30
