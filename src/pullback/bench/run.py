"""A whole benchmark: which tasks, which contenders, what is shown while it runs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pullback.backend.threads import thread_count
from pullback.bench.machine import Machine
from pullback.bench.table import as_numbers, in_words, show
from pullback.bench.turns import OWN, PEERS, Contender, Line, time_task
from pullback.bench.workloads import SUITE, Task
from pullback.train.files import write_whole

ROUNDS = 7
SECONDS = 0.15
WIDTH = 150


@dataclass(frozen=True)
class Choice:
    """What to run. Empty `only`: all tasks; `threads` None: those of the settings."""

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    threads: int | None = None
    rounds: int = ROUNDS
    seconds: float = SECONDS
    json: Path | None = None


def run(choice: Choice, console: Console, tasks: Mapping[str, Task] = SUITE) -> list[Line]:
    """Measure, show, and write the numbers where a file is named.

    Each task is told and written as soon as it is measured; Ctrl-C shows the tables of those that
    are.
    """
    contenders = present(console, choice.without)
    machine = Machine(choice.threads or thread_count())
    lines: list[Line] = []
    names = choice.only or tuple(tasks)
    with tempfile.TemporaryDirectory() as folder, console.status("") as status:
        for name in names:
            status.update(name)
            try:
                effort = (choice.rounds, choice.seconds)
                lines.append(time_task(name, contenders, machine, *effort, Path(folder)))
            except KeyboardInterrupt:
                left = ", ".join(names[len(lines) :])
                console.print(f"stopped: {left} not measured", markup=False)
                break
            console.print(in_words(lines[-1]), markup=False)
            if choice.json is not None:
                choice.json.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps(as_numbers(lines, machine), indent=1)
                write_whole(choice.json, text + "\n")
    if lines:
        show(console, lines, machine)
    return lines


def wide_console() -> Console:
    """The terminal; where there is none, lines long enough for the tables."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def present(console: Console, without: Sequence[str] = ()) -> list[Contender]:
    """This library and those of the others that are here; it says which are not."""
    chosen = [each for each in PEERS if each.name not in without]
    absent = [each.name for each in chosen if not each.present]
    if absent:
        where = "their packages are installed, in a checkout of the repository"
        console.print(f"without {', '.join(absent)}: timed where {where}")
    return [OWN, *(each for each in chosen if each.present)]
