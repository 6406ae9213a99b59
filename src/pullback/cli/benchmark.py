"""`pullback bench`: the options, and the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pullback.bench.run import ROUNDS, Choice, run, wide_console
from pullback.bench.turns import PEERS
from pullback.bench.workloads import SUITE

COUNT = click.IntRange(min=1)
NAMES = click.Choice([peer.name for peer in PEERS])


@click.command()
@click.option(
    "--only",
    type=click.Choice(list(SUITE)),
    multiple=True,
    help="A task to time; may be given several times.  [default: all]",
)
@click.option("--without", type=NAMES, multiple=True, help="A library to leave out.")
@click.option("--threads", type=COUNT, default=None, help="Threads of each.  [default: all cores]")
@click.option("--rounds", type=COUNT, default=ROUNDS, show_default=True, help="Turns of each.")
@click.option(
    "--json",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="File for the numbers.",
)
def bench(**chosen: Any) -> None:
    """Time whole training steps, each library in a process of its own, in turns.

    Prints milliseconds of a step beside what arithmetic and memory of this machine allow, seconds
    of the first call (with an empty cache and a full one) and the memory at the peak of a step.
    """
    run(Choice(**chosen), wide_console())
