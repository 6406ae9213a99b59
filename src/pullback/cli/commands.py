"""The command and its parts."""

from __future__ import annotations

import click

import pullback
from pullback.cli.benchmark import bench
from pullback.cli.checking import check
from pullback.cli.explaining import explain
from pullback.cli.planning import plan
from pullback.cli.predicting import predict
from pullback.cli.training import train


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pullback.__version__, prog_name="pullback")
def root() -> None:
    """Backpropagation, compiled and accountable."""


for command in (train, predict, plan, check, bench, explain):
    root.add_command(command)
