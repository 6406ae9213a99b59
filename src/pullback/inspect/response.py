"""What an optimiser makes of gradients that were made up for it: decay, memory, direction."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import Site, calling_frame
from pullback.ir.array import concrete, numbers_of
from pullback.ir.types import Numbers, bfloat16, float16, float64
from pullback.optim.optimizer import Optimizer
from pullback.transforms.trace import trace_leaves
from pullback.transforms.tree import flatten, flatten_arrays, map_leaves

NEVER = 1e-5
"""A second step is nothing beside the first where it is shorter than this share of it."""
UPDATES = 3


def decay(optimizer: Optimizer, params: Any) -> float:
    """The largest share of a weight by which a gradient of 0 makes it shorter, in one step.

    Of the first three steps, because a schedule may begin at 0.
    """
    leaves = [numbers_of(x).astype(float64) for x in flatten(params)[0]]
    weights = [x.ndim > 1 and bool(x.any()) for x in leaves]
    nothing = map_leaves(lambda p: p * 0, params)
    state, found = optimizer.init(params), 0.0
    for _ in range(3):
        updates, state = optimizer.update(nothing, state, params)
        moved = [numbers_of(u).astype(float64) for u in flatten(updates)[0]]
        shares = [_shorter(u, x) for u, x, w in zip(moved, leaves, weights, strict=True) if w]
        found = max([found, *shares])
    return found


def _shorter(update: Numbers, weight: Numbers) -> float:
    """-⟨u, w⟩ / ⟨w, w⟩."""
    return -float(np.vdot(update, weight)) / float(np.vdot(weight, weight))


def rounded_away(optimizer: Optimizer, params: Any, gradients: Sequence[Numbers]) -> float:
    """Of the elements in half precision that a step should move, the share that stay as they are.

    A bfloat16 has 8 bits: what is below 2⁻⁹ of a number does not change it.
    """
    leaves, structure = flatten(params)
    given = structure.unflatten([concrete(g) for g in gradients])
    updates, _ = optimizer.update(given, optimizer.init(params), params)
    asked = still = 0
    for x, u in zip(leaves, flatten(updates)[0], strict=True):
        if x.dtype in (float16, bfloat16):
            before, step = numbers_of(x), numbers_of(u).astype(float64)
            after = (before.astype(float64) + step).astype(before.dtype)
            asked += int((step != 0).sum())
            still += int(((step != 0) & (after == before)).sum())
    return still / asked if asked else 0.0


@dataclass(frozen=True, eq=False)
class Answer:
    """One update of an optimiser: numbers of its gradients, its update and its state after it."""

    grads: list[Numbers]
    update: list[Numbers]
    state: list[Numbers]

    @property
    def along(self) -> float:
        """The cosine of the update and the gradient; 0 where one of them is 0."""
        g, u = (np.concatenate([x.ravel() for x in each]) for each in (self.grads, self.update))
        lengths = float(np.linalg.norm(g) * np.linalg.norm(u))
        return float(g @ u) / lengths if lengths else 0.0

    @property
    def moves(self) -> bool:
        return any(x.any() for x in self.update)


def passes_on(optimizer: Optimizer, params: Any) -> bool:
    """Whether its updates are the gradients themselves: a part of a chain, and no optimiser."""
    leaves, structure = flatten(params)
    rng = np.random.default_rng(0)
    given = [concrete(rng.standard_normal(x.shape).astype(x.dtype)) for x in leaves]
    updates, _ = optimizer.update(structure.unflatten(given), optimizer.init(params), params)
    pairs = zip(given, flatten(updates)[0], strict=True)
    return bool(given) and all(np.array_equal(numbers_of(a), numbers_of(b)) for a, b in pairs)


class Exam:
    """An optimiser, some parameters, and gradients that it is asked about."""

    def __init__(self, optimizer: Optimizer, params: Any, gradients: Sequence[Numbers]) -> None:
        self._optimizer, self._params = optimizer, params
        self._gradients, self._structure = list(gradients), flatten(params)[1]

    @functools.cached_property
    def begun(self) -> list[Numbers]:
        """The state before the first update."""
        return _numbers(self._optimizer.init(self._params))

    @functools.cached_property
    def answers(self) -> list[Answer]:
        """Updates by gradients whose elements have the signs of those given."""
        rng = np.random.default_rng(0)
        state, found = self._optimizer.init(self._params), []
        for _ in range(UPDATES):
            noisy = [(g * rng.uniform(0.5, 1.5, g.shape)).astype(g.dtype) for g in self._gradients]
            grads = self._given(noisy)
            updates, state = self._optimizer.update(grads, state, self._params)
            found.append(Answer(_numbers(grads), _numbers(updates), _numbers(state)))
        return found

    @property
    def moves(self) -> bool:
        """Whether each update is one."""
        return all(x.moves for x in self.answers)

    @functools.cached_property
    def passes_scale(self) -> bool:
        """Whether a gradient that is half as long makes a step that is half as long."""
        update, init = self._optimizer.update, self._optimizer.init
        steps = []
        for factor in (1.0, 0.5):
            state = init(self._params)
            for _ in range(UPDATES):  # a schedule may begin at 0
                grads = self._given([(factor * g).astype(g.dtype) for g in self._gradients])
                found, state = update(grads, state, self._params)
            steps.append(_length(found))
        return steps[0] > 0 and abs(steps[1] / steps[0] - 0.5) < 0.05

    @functools.cached_property
    def pull(self) -> tuple[float, float]:
        """The cosines of a step with the step of no gradient, and with that of no weights.

        The first is large where the decay of the weights decides where a step goes.
        """
        nothing = [g * 0 for g in self._gradients]
        without = map_leaves(lambda p: p * 0, self._params)
        steps = []
        for grads, params in (
            (self._gradients, self._params),
            (nothing, self._params),
            (self._gradients, without),
        ):
            state = self._optimizer.init(params)
            for _ in range(UPDATES):
                found, state = self._optimizer.update(self._given(grads), state, params)
            steps.append(np.concatenate([x.ravel() for x in _numbers(found)]))
        return _cosine(steps[0], steps[1]), _cosine(steps[0], steps[2])

    @property
    def sum_kept(self) -> int | None:
        """Which leaf of the state is the sum of all gradients."""
        counts = [np.count_nonzero(g) for g in self._gradients]
        place = int(np.argmax(counts))
        total = np.zeros(self._gradients[place].shape)
        holders = [i for i, x in enumerate(self.begun) if x.shape == total.shape]
        for each in self.answers:
            total = total + each.grads[place]
            holders = [i for i in holders if np.allclose(each.state[i], total, rtol=1e-4, atol=0)]
        return holders[0] if self.moves and counts[place] > 1 and holders else None

    @property
    def never_forgets(self) -> bool:
        """Whether a gradient acts in every later update: of g, then of -g, which does nothing.

        Plain descent steps back, momentum and Adam have forgotten a part; only a sum of all
        gradients is 0.
        """
        there, back = (self._given([sign * g for g in self._gradients]) for sign in (1, -1))
        update = self._optimizer.update
        first, state = update(there, self._optimizer.init(self._params), self._params)
        second, _ = update(back, state, self._params)
        a, b = _length(first), _length(second)
        return a > 0 and b < NEVER * a

    @property
    def remembers_nothing(self) -> bool:
        """Whether there is a memory of the size of parameters that an update reads, and leaves."""
        pairs = [(a, b) for x in self.answers for a, b in zip(self.begun, x.state, strict=True)]
        still = self.moves and all(np.array_equal(a, b) for a, b in pairs)
        return still and self._reads_memory

    @property
    def _reads_memory(self) -> bool:
        """Whether an update is another one where the memory is."""
        sizes = {g.shape for g in self._gradients if g.size > 1}
        leaves, structure = flatten(self._optimizer.init(self._params))
        held = [x.shape in sizes for x in leaves]
        if not any(held):
            return False
        other = [x + 1 if h else x for x, h in zip(leaves, held, strict=True)]
        grads = self._given(self._gradients)
        updates = [
            _numbers(self._optimizer.update(grads, structure.unflatten(each), self._params)[0])
            for each in (leaves, other)
        ]
        return any(not np.array_equal(a, b) for a, b in zip(*updates, strict=True))

    def line(self, leaf: int | None = None) -> Site | None:
        """Where the user's own optimiser makes its update, or a leaf of its new state.

        None for an optimiser of the library.
        """
        state = self._optimizer.init(self._params)
        arguments = (self._given(self._gradients), state, self._params)
        leaves, treedef = flatten_arrays(arguments, "argument")
        graph = trace_leaves(self._optimizer.update, leaves, treedef, evaluating=True).graph
        count = len(self._gradients)
        wanted = graph.outputs[:count] if leaf is None else graph.outputs[count + leaf :][:1]
        here = calling_frame()
        sites = [x.site for x in graph.nodes if not set(wanted).isdisjoint(x.outputs)]
        known = [x for x in sites if x.frame is not None and x.frame != here]
        return known[-1] if known else None

    def _given(self, gradients: Sequence[Numbers]) -> Any:
        return self._structure.unflatten([concrete(g) for g in gradients])


def _numbers(tree: Any) -> list[Numbers]:
    return [numbers_of(x).astype(float64) for x in flatten(tree)[0]]


def undecayed(optimizer: Optimizer) -> Optimizer:
    """The optimiser, handed parameters of 0: it has nothing to decay."""

    def update(grads: Any, state: Any, params: Any) -> Any:
        return optimizer.update(grads, state, map_leaves(lambda p: p * 0, params))

    return Optimizer(optimizer.init, update)


def _cosine(x: Numbers, y: Numbers) -> float:
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / lengths if lengths else 0.0


def _length(updates: Any) -> float:
    return float(np.sqrt(sum(float((x**2).sum()) for x in _numbers(updates))))
