"""`pullback predict DIR INPUT`: what a trained network says of new data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pullback.cli.failures import failures
from pullback.errors import ArgumentError
from pullback.train.files import write_whole
from pullback.train.prediction import Predictions, Trained

SAMPLING = {"length": 300, "temperature": 0.8, "count": 1}


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.argument("data", metavar="INPUT")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the predictions.  [default: the terminal]",
)
@click.option("--length", type=click.IntRange(min=1), help="Tokens to write (text).")
@click.option("--temperature", type=float, help="Above 1 more daring (text).  [default: 0.8]")
@click.option("--count", type=click.IntRange(min=1), help="Texts to write.  [default: 1]")
@click.option("--seed", type=int, default=0, help="Of the writing (text).")
def predict(folder: Path, data: str, out: Path | None, seed: int, **sampling: Any) -> None:
    """Let the network that a run in DIR has kept predict INPUT.

    INPUT is a file like that of the training: a CSV or Parquet file (with the target column in it
    the scores are told too), images as an IDX or .npy file, or a text to be continued.
    """
    given = {name: value for name, value in sampling.items() if value is not None}
    with failures():
        trained = Trained(folder)
        if trained.writes_text:
            texts = trained.write_on(data, {**SAMPLING, **given}, seed)
            _put(out, ("\n" + "-" * 40 + "\n").join(texts) + "\n")
            return
        if given:
            raise ArgumentError(f"--{min(given)} is for a network that writes text")
        predictions = trained.predict(data)
        _put(out, predictions.csv())
        _tell_scores(predictions)


def _put(out: Path | None, text: str) -> None:
    if out is None:
        click.echo(text, nl=False)
    else:
        write_whole(out, text)
        click.echo(f"written to {out}", err=True)


def _tell_scores(predictions: Predictions) -> None:
    if predictions.scores is None:
        return
    objective = predictions.objective
    shown = [f"{name} {objective.shown(name, x)}" for name, x in predictions.scores.items()]
    click.echo("the target is in the data: " + ", ".join(shown), err=True)
