"""`pullback plan SOURCE`: what a training step holds, before anything runs."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any, get_args

import click

from pullback.cli.failures import failures
from pullback.cli.plan_text import MOST, Told, as_json, as_text
from pullback.cli.sources import SIZES, Planned, Wanted, planned
from pullback.cli.training import COUNT, KEYS, given_sections
from pullback.compile.budget import parse_bytes
from pullback.compile.report import MemoryReport, Point
from pullback.compile.report import largest as largest_of
from pullback.errors import ArgumentError
from pullback.inspect.seeing.views import is_printable
from pullback.schedule.planner.driver import Planner
from pullback.train.config import PRECISIONS, read_toml
from pullback.train.files import write_whole
from pullback.train.ledger import Ledger
from pullback.train.models import MODELS
from pullback.train.optimizers import OPTIMIZERS
from pullback.train.plan_plots import arena, page, time_memory
from pullback.train.tables import Missing

MORE = 100_000_000
"""Bytes whose worth is told."""
POINTS = 6
"""Budgets that are tried, unless another number is asked for."""
PICTURES = (".html", ".svg", ".png")


@click.command()
@click.argument("source", required=False)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of a run; options have the last word.",
)
@click.option("--batch", type=COUNT, help="Examples in one step.")
@click.option("--memory", metavar="BYTES", help="The most that a step may hold, as 500MB.")
@click.option("--target", metavar="COLUMN", help="The column of a table to be predicted.")
@click.option("--task", type=click.Choice(["classification", "regression"]), help="Of a table.")
@click.option("--drop", metavar="COLUMN", multiple=True, help="A column to leave out; repeatable.")
@click.option("--missing", type=click.Choice(get_args(Missing)), help="What of rows with gaps.")
@click.option("--tokens", type=click.Choice(["characters", "bytes"]), help="Of a text.")
@click.option("--model", type=click.Choice(list(MODELS)), help="The network for data.")
@click.option("--layers", type=COUNT, help="Layers of a network, as gpt.")
@click.option("--width", type=COUNT, help="Width of a network.")
@click.option("--heads", type=COUNT, help="Heads of its attention.")
@click.option("--context", type=COUNT, help="Tokens of an example.")
@click.option("--vocabulary", type=COUNT, help="Different tokens.")
@click.option("--optimizer", type=click.Choice(list(OPTIMIZERS)), help="The optimiser.")
@click.option("--accumulate", type=COUNT, help="Parts of a batch, one after another in a step.")
@click.option("--clip", type=float, help="Largest norm of a gradient.")
@click.option("--precision", type=click.Choice(get_args(PRECISIONS)), help="Of a step.")
@click.option("--threads", type=COUNT, help="[default: all cores]")
@click.option("--points", type=click.IntRange(min=0), help="Other budgets to try; 0: none.")
@click.option("--largest", is_flag=True, help="Find the largest batch that --memory holds, too.")
@click.option("--rows", type=click.IntRange(min=0), default=12, help="Saved values to list.")
@click.option("--json", "as_data", is_flag=True, help="The numbers as JSON, every value listed.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The arena as .svg or .png, or all of it as .html.",
)
def plan(
    source: str | None,
    config: Path | None,
    batch: int | None,
    memory: str | None,
    *,
    points: int | None,
    largest: bool,
    rows: int,
    as_data: bool,
    out: Path | None,
    **options: Any,
) -> None:
    """Tell what a training step on SOURCE holds, and what less memory would cost; run nothing.

    SOURCE is what `pullback train` takes; a network of `pullback bench` (mlp, cnn, resnet, gpt,
    vit, lstm), whose size the options change; or file.py:make, where make() returns (model,
    loss_fn, batch) and, if you like, an optimizer. Everything is planned from types: the model may
    be larger than this machine.

    Exit codes: 0 told, 1 does not fit --memory or fails, 2 wrong usage.
    """
    with failures():
        if out is not None and out.suffix not in PICTURES:
            raise ArgumentError(f"--out is a {', '.join(PICTURES)} file, not {str(out)!r}")
        if memory is not None:
            parse_bytes(memory)  # before the data is read
        subject = planned(*_wanted(source, config, options))
        memory = memory or subject.memory
        if largest and memory is None:
            raise click.UsageError("--largest needs --memory, the bytes that the batch may take")
        told = _told(subject, batch or subject.batch, memory, points)
        if largest and told.limit is not None:
            budgets = told.limit, told.limit + MORE
            told.batches += [(each, _largest(subject, each)) for each in budgets]
        if as_data:
            click.echo(json.dumps(as_json(told), indent=1))
        else:
            columns = min(max(shutil.get_terminal_size((80, 24)).columns, 60), 100)
            click.echo(as_text(told, rows, columns, ascii=not is_printable("█·×µ")))
        if out is not None:
            _draw(told, out)
            click.echo(f"written to {out}", err=True)


def _wanted(source: str | None, config: Path | None, options: dict[str, Any]) -> tuple[str, Wanted]:
    named, file = (None, {}) if config is None else read_toml(config)
    origin = source or named
    if origin is None:
        raise click.UsageError("plan what? SOURCE is missing: digits, gpt, a file or file.py:make")
    sizes = {key: x for key, x in options.items() if key in SIZES and x is not None}
    sections = given_sections({key: x for key, x in options.items() if key in KEYS})
    return origin, Wanted(sections, file, sizes)


def _told(subject: Planned, batch: int, memory: str | None, points: int | None) -> Told:
    """Plan, and try other budgets."""
    if batch % subject.unit:
        raise ArgumentError(f"--batch {batch} does not divide into --accumulate {subject.unit}")
    began = time.perf_counter()
    lowered = subject.lower(batch, memory)
    report = lowered.plan
    seconds = time.perf_counter() - began
    count = POINTS if points is None else points
    if points is None and len(lowered.schedule.kernels) > MOST:
        count = 0
    told = Told(subject, batch, lowered, Ledger(report), seconds)
    told.curve += _curve(report, count) if count else []
    if memory is not None:
        told.limit = parse_bytes(memory)
        told.with_more = report.planner.fit(told.limit + MORE).slowdown
    return told


def _curve(report: MemoryReport, count: int) -> list[Point]:
    least, most = report.least_bytes, report.planner.full.peak_bytes
    return report.sweep([least + (most - least) * k // max(count - 1, 1) for k in range(count)])


def _largest(subject: Planned, limit: int) -> int:
    def planner(size: int) -> Planner:
        return subject.lower(size * subject.unit, None).plan.planner

    return largest_of(planner, limit) * subject.unit


def _draw(told: Told, out: Path) -> None:
    plan, suffix = told.ledger.plan, out.suffix
    if suffix == ".svg":
        write_whole(out, plan.picture())
    elif suffix == ".png":
        write_whole(out, arena(plan).png())
    else:
        curve = time_memory({"this step": told.curve}) if len(told.curve) > 1 else None
        text = as_text(told, 40, 100, ascii=False, sketch=False)
        write_whole(out, page(told.subject.title, text, plan, curve))
