"""This library as a contender."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optree

import pullback as pb
from pullback.bench.models import Tree
from pullback.bench.workloads import Task


class Compiled:
    """One compiled step of the task after the other; a donated state is the next one's argument."""

    def __init__(self, task: Task, arguments: tuple[Tree, ...], threads: int) -> None:
        self.task = task
        self.program = pb.compile(task.step, donate=task.donate, threads=threads)
        self.arguments = tuple(optree.tree_map(pb.asarray, each) for each in arguments)

    def __call__(self) -> Any:
        result = self.program(*self.arguments)
        if self.task.donate:
            self.arguments = (result[0], *self.arguments[1:])
        return result

    def predicted_bytes(self) -> int:
        """The peak of the plan."""
        return int(self.program.lower(*self.arguments).plan.peak_bytes)


def compiled(task: Task, arguments: tuple[Tree, ...], threads: int) -> Callable[[], Any]:
    """`pb.compile` of the whole step, with the state donated."""
    return Compiled(task, arguments, threads)
