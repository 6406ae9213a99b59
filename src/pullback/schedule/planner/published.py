"""Chains of equal layers: what is published of them, and what the planner makes of them.

>>> [round(each, 2) for each in overhead_curve(100, [1, 5, 20, 101])]
[inf, 1.51, 0.29, 0.0]
"""

from __future__ import annotations

from collections.abc import Sequence

from pullback.errors import Phase, Site
from pullback.schedule.memory import Step, Value, Workload
from pullback.schedule.planner.reversal import BACK, SAVE, Option, Reversal, Stage

TAPE = 50
"""Slots of a published tape: more than the checkpoints that are counted."""


def overhead_curve(length: int, slots: Sequence[int]) -> list[float]:
    """The share of a step's time that is added when `length` equal layers hold at most so many
    slots of activations and cotangents, one each; ∞ where they cannot.

    Chen et al. (2016): 2√L slots for a third more. In log₂ L slots it takes about twice as long.
    """
    chain = unit_chain(length, max(slots))
    return [chain.cost(each) / (3 * length) - 1 for each in slots]


def unit_chain(length: int, slots: int) -> Reversal:
    """The reversal of `length` equal layers for up to `slots` slots: an activation and a cotangent
    take one each, a layer 1 forward and 2 backward. `cost(c, n)` is that of the first n alone."""
    save = Option(cost=3, saved=1, forward=1, backward=1)
    return Reversal([Stage(cost=1, output=1, cotangent=1, peak=1, options=(save,))] * length, slots)


def published_chain(length: int, checkpoints: int) -> Reversal:
    """Griewank and Walther's chain: the cost of `TAPE + c` slots is the least number of forward
    steps with c checkpoints, where the last one before each backward step is not counted.

    The tape of a step takes so many slots that there is one at a time.
    """
    tape = Option(cost=0, saved=TAPE, forward=TAPE, backward=TAPE)
    stage = Stage(cost=1, output=1, cotangent=0, peak=0, options=(tape,))
    return Reversal([stage] * length, TAPE + checkpoints)


def layers(length: int, unit: int = 64) -> Workload:
    """The same as a workload: F₁ … F_L, the loss, B_L … B₁. B_i reads a_{i-1} and d_i."""
    values = [Value("x", unit, resident=True)]
    values += [Value(f"a{i}", unit) for i in range(1, length + 1)]
    back = Site(phase=Phase.BACKWARD)
    values += [Value(f"d{i}", unit, kept=i == 0, site=back) for i in range(length, -1, -1)]
    steps = [Step(f"F{i}", (i - 1,), (i,), cost=1) for i in range(1, length + 1)]
    steps.append(Step("loss", (length,), (length + 1,)))
    for k, i in enumerate(range(length, 0, -1)):
        steps.append(Step(f"B{i}", (i - 1, length + 1 + k), (length + 2 + k,), cost=2))
    return Workload(tuple(values), tuple(steps))


def layers_schedule(chain: Reversal, slots: int) -> list[int]:
    """The steps of `layers` in the order of an optimal reversal."""
    length = chain.count
    schedule = []
    for act in chain.acts(slots):
        schedule.append(2 * length - act.block if act.kind == BACK else act.block)
        if act.block == length - 1 and act.kind == SAVE:
            schedule.append(length)
    return schedule
