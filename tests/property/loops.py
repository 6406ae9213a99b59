"""Random programs of nested loops and choices over a few vectors."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pullback as pb

SIZE = 5
STATE = 3

Step = Callable[[list[Any], Any], list[Any]]


class Loops:
    """A function of `STATE` vectors and rows of vectors, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)
        self._step = self._block(3)

    def __call__(self, *values: Any) -> Any:
        *state, rows = values
        state = self._step(list(state), rows)
        return sum(pb.sum(x * x) for x in state)

    def _block(self, depth: int) -> Step:
        steps = [self._statement(depth) for _ in range(self._source.randrange(1, 4))]

        def run(state: list[Any], rows: Any) -> list[Any]:
            for step in steps:
                state = step(state, rows)
            return state

        return run

    def _statement(self, depth: int) -> Step:
        kinds = [self._pointwise, self._exchange]
        if depth:
            kinds += [self._scan, self._cond, self._while]
        return self._source.choice(kinds)(depth - 1)

    def _pointwise(self, depth: int) -> Step:
        target, left, right = (self._source.randrange(STATE) for _ in range(3))
        f = self._source.choice(
            [
                lambda x, y: pb.tanh(x * y),
                lambda x, y: 0.5 * (x - y),
                lambda x, y: pb.softmax(x) + 0.1 * y,
                lambda x, y: pb.sin(x) * pb.mean(y),
            ]
        )

        def run(state: list[Any], rows: Any) -> list[Any]:
            return _with(state, target, f(state[left], state[right]))

        return run

    def _exchange(self, depth: int) -> Step:
        order = self._source.choices(range(STATE), k=STATE)
        return lambda state, rows: [state[i] for i in order]

    def _scan(self, depth: int) -> Step:
        inner, backwards = self._block(depth), self._source.random() < 0.5
        used, kept, stacked = (self._source.randrange(STATE) for _ in range(3))

        def run(state: list[Any], rows: Any) -> list[Any]:
            def body(carry: tuple[Any, ...], row: Any) -> tuple[tuple[Any, ...], Any]:
                changed = _with(list(carry), used, carry[used] + 0.5 * row)
                after = inner(changed, rows)
                return tuple(after), after[kept]

            last, ys = pb.scan(body, tuple(state), rows, reverse=backwards)
            return _with(list(last), stacked, pb.mean(ys * rows, axis=0))

        return run

    def _cond(self, depth: int) -> Step:
        yes, no, asked = self._block(depth), self._block(depth), self._source.randrange(STATE)

        def run(state: list[Any], rows: Any) -> list[Any]:
            made = pb.cond(
                pb.sum(state[asked]) > 0.0,
                lambda *values: tuple(yes(list(values), rows)),
                lambda *values: tuple(no(list(values), rows)),
                *state,
            )
            return list(made)

        return run

    def _while(self, depth: int) -> Step:
        inner, steps = self._block(depth), self._source.randrange(4)

        def run(state: list[Any], rows: Any) -> list[Any]:
            def body(carry: tuple[Any, Any]) -> tuple[Any, Any]:
                return carry[0] + 1, tuple(inner(list(carry[1]), rows))

            _, made = pb.while_loop(
                lambda carry: carry[0] < steps, body, (0, tuple(state)), max_steps=4
            )
            return list(made)

        return run


def _with(state: list[Any], i: int, value: Any) -> list[Any]:
    return [*state[:i], value, *state[i + 1 :]]
