"""The user's lines that nodes remember, and what it takes to find them."""

from __future__ import annotations

import inspect

import numpy as np

import pullback as pb
from pullback.ir import builder
from pullback.transforms.trace import trace

X = np.ones((2, 3), np.float32)


def lines(graph):
    """For each node the names of the user's functions, innermost first, and the innermost line."""
    return [([f.function for f in n.site.frames], n.site.frames[0].line) for n in graph.nodes]


def test_a_line_of_many_nodes_is_walked_to_once(monkeypatch):
    walks = []
    plain = builder._user_frames
    monkeypatch.setattr(
        builder, "_user_frames", lambda *given: walks.append(given) or plain(*given)
    )

    def model(x):
        return pb.logsumexp(pb.softmax(x))

    graph = trace(model, X)
    assert len(walks) == 2
    assert len(graph.nodes) > 6
    assert {names[0] for names, _ in lines(graph)} == {"model"}


def test_a_function_called_from_two_lines_has_two_stacks():
    def square(x):
        return x * x

    def model(x):
        first = square(x)
        return square(first)

    graph = trace(model, X)
    calls = [[frame.line for frame in node.site.frames[:2]] for node in graph.nodes]
    begin = inspect.getsourcelines(model)[1]
    assert [outer for _, outer in calls] == [begin + 1, begin + 2]


def test_a_generator_is_seen_from_where_it_goes_on():
    def squares(x):
        while True:
            x = x * x
            yield x

    def model(x):
        every = squares(x)
        first = next(every)
        return first + next(every)

    graph = trace(model, X)
    calls = [[frame.line for frame in node.site.frames[:2]] for node in graph.nodes[:2]]
    begin = inspect.getsourcelines(model)[1]
    assert [outer for _, outer in calls] == [begin + 2, begin + 3]


def test_no_frame_is_kept_after_a_trace():
    kept = []

    def model(x):
        kept.append(builder.current())
        return x * x

    trace(model, X)
    assert kept[0]._here is None
