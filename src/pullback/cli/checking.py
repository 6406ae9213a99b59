"""`pullback check SUBJECT`: preflight of a user's own model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pullback import random
from pullback.cli.failures import INTERRUPTED, of_the_system
from pullback.cli.subject import find, told
from pullback.errors import PullbackError
from pullback.inspect.preflight import preflight
from pullback.inspect.report import Report
from pullback.train.function import UserFunction


def _json(report: Report) -> str:
    return json.dumps(report.to_dict(), indent=2)


def _sarif(report: Report) -> str:
    return json.dumps(report.to_sarif(), indent=2)


FORMS: dict[str, Callable[[Report], str]] = {
    "text": str,
    "json": _json,
    "sarif": _sarif,
    "html": Report.page,
}


@click.command()
@click.argument("subject", metavar="FILE.py[:FUNCTION]")
@click.argument("arguments", metavar="[-- ARGUMENTS]", nargs=-1)
@click.option(
    "--format", "form", type=click.Choice(list(FORMS)), default="text", help="Of the report."
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file for the report."
)
@click.option("--intended", metavar="ID", multiple=True, help="A rule that is meant; repeatable.")
@click.option("--batch", type=click.IntRange(min=1), help="Examples, where the function takes it.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of a loss that has a key.")
@click.option("--strict", is_flag=True, help="Warnings fail, too.")
def check(
    subject: str,
    arguments: tuple[str, ...],
    form: str,
    output: Path | None,
    intended: tuple[str, ...],
    batch: int | None,
    seed: int,
    *,
    strict: bool,
) -> None:
    """Look for what keeps a model of yours from being trained, before the first step.

    FUNCTION (default: make) of FILE.py, or of package.module:FUNCTION, returns (model, loss_fn,
    batch) or (model, loss_fn, batch, optimizer). A FILE.py without make is a script: it is run
    with the ARGUMENTS until it takes a step of pb.train.train_step, and that step is looked at
    instead of taken. What a script prints goes to the standard error.

    Exit codes: 0 nothing that must be mended, 1 something is (with --strict a warning suffices), 2
    nothing could be looked at: the file fails, or the arguments make no sense.
    """
    with _plainly():
        report = _looked_at(subject, arguments, batch, intended, seed)
    text = FORMS[form](report)
    if output is None:
        click.echo(text)
    else:
        with _plainly():
            output.write_text(f"{text}\n", encoding="utf-8")
        warnings = len(report.alarms) - len(report.errors)
        click.echo(f"{len(report.errors)} errors, {warnings} warnings: {output}")
    raise SystemExit(1 if report.errors or (strict and report.alarms) else 0)


def _looked_at(
    name: str,
    arguments: tuple[str, ...],
    batch: int | None,
    intended: tuple[str, ...],
    seed: int,
) -> Report:
    it = find(name, arguments)(batch)
    needs_key = UserFunction.of(it.loss_fn, "loss_fn").takes_key
    with told(f"the loss of {name}"):
        return preflight(
            it.model,
            it.loss_fn,
            it.batch,
            optimizer=it.optimizer,
            network_state=it.network_state,
            key=random.key(seed) if needs_key else None,
            intended=intended,
        )


class _Unchecked(click.ClickException):
    """Nothing could be looked at."""

    exit_code = 2


@contextmanager
def _plainly() -> Iterator[None]:
    """An error is told without a traceback of this program."""
    try:
        yield
    except PullbackError as error:
        raise _Unchecked(_message(error)) from None
    except OSError as error:
        raise _Unchecked(of_the_system(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _message(error: PullbackError) -> str:
    """With the user's line, where there is one."""
    if error.site is not None and error.site.frame is not None:
        return str(error)
    return error.what if error.hint is None else f"{error.what}\n    {error.hint}"
