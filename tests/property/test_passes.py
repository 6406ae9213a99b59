"""Optimisation is the identity on meaning: 200 random programs, their gradients, and once more."""

from __future__ import annotations

import pytest

import pullback as pb
from property.programs import Program, numbers
from pullback._settings import override
from pullback.ir.graph import Graph, verify
from pullback.passes.check import same_numbers, values
from pullback.passes.pipeline import optimize
from thorough import sampled

SEEDS = range(200)

pytestmark = pytest.mark.parametrize("program", sampled(map(Program, SEEDS), 4), ids=str)


def graphs(program) -> list[Graph]:
    gradient = pb.value_and_grad(program.loss, argnums=(0, 1, 2))
    return [pb.trace(f, *program.inputs()) for f in (program, gradient)]


def test_optimised_is_the_same_to_the_bit(program):
    inputs = numbers(program.inputs(1))
    for graph in graphs(program):
        better = optimize(graph)
        verify(better)
        before, after = values(graph, inputs), values(better, inputs)
        for old, new in zip(graph.outputs, better.outputs, strict=True):
            assert same_numbers(before[old], after[new])
        for x in before.keys() & after.keys():
            assert same_numbers(before[x], after[x])


def test_every_pass_keeps_every_value(program):
    for graph in graphs(program):
        with override(check=2):
            optimize(graph)


def test_optimising_twice_is_optimising_once(program):
    for graph in graphs(program):
        better = optimize(graph)
        assert optimize(better) is better


def test_no_node_is_added_and_each_has_a_place(program):
    for graph in graphs(program):
        better = optimize(graph)
        assert len(better.nodes) <= len(graph.nodes)
        assert all(node.site.frames for node in better.nodes)
        phases = {node.site.phase for node in graph.nodes}
        assert {node.site.phase for node in better.nodes} <= phases
