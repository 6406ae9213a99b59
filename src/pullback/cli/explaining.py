"""`pullback explain`: what is known of a rule."""

from __future__ import annotations

import click

from pullback.errors import ArgumentError
from pullback.inspect.rules import RULES, rule


@click.command()
@click.argument("identifier", metavar="[ID]", required=False)
def explain(identifier: str | None) -> None:
    """Explain the rule ID (as NUM01): what it means, its thresholds, the fix, its source.

    Without an ID, list the rules.
    """
    if identifier is None:
        for each in RULES:
            click.echo(f"{each.id:6}  {each.severity.value:4}  {each.title}")
        return
    try:
        click.echo(rule(identifier).explanation())
    except ArgumentError as error:
        raise click.UsageError(f"{error.what} ({error.hint})") from None
