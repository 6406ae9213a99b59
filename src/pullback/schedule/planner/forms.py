"""Plans of a program that can be written in several forms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from pullback.errors import MemoryPlanError
from pullback.schedule.memory import Plan, Workload
from pullback.schedule.planner.driver import Planner


class Forms(Planner):
    """Plans of a workload, or of another one that does the same, for different budgets.

    `workload` is what a program does without a budget. The `others` are made when that does not
    fit as it is; the cheapest plan of all is taken.
    """

    def __init__(self, workload: Workload, others: Callable[[], Sequence[Workload]]) -> None:
        super().__init__(workload)
        self._others = others

    @functools.cached_property
    def every(self) -> list[Planner]:
        """A planner for each form."""
        return [Planner(each) for each in (self.workload, *self._others())]

    @functools.cached_property
    def least(self) -> Plan:
        return min((each.least for each in self.every), key=lambda plan: plan.peak_bytes)

    @functools.cached_property
    def floor(self) -> tuple[int, int]:
        return min(each.floor for each in self.every)

    def fit(self, budget: int) -> Plan:
        if self.full.peak_bytes <= budget:
            return self.full
        found = [plan for each in self.every if (plan := _fitting(each, budget)) is not None]
        if not found:
            raise self._too_little(budget)
        return min(found, key=lambda plan: plan.lifetimes.cost)

    def fits(self, budget: int) -> bool:
        return self.full.peak_bytes <= budget or any(each.fits(budget) for each in self.every)


def _fitting(planner: Planner, budget: int) -> Plan | None:
    try:
        return planner.fit(budget)
    except MemoryPlanError:
        return None
