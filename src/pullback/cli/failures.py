"""How a command ends when something goes wrong: a message, and an exit code that says what kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from pullback.errors import ArgumentError, DivergedError, PullbackError

INTERRUPTED = 130
"""What a shell reports of a command that Ctrl-C ended: 128 + SIGINT."""


@contextmanager
def failures(*, begun: bool = False) -> Iterator[None]:
    """A senseless argument exits with 2, what fails on the way with 1, Ctrl-C with 130.

    Once the work has `begun`, everything that goes wrong is a failure.
    """
    try:
        yield
    except PullbackError as error:
        if isinstance(error, ArgumentError) and not begun:
            raise click.UsageError(_message(error)) from None
        raise click.ClickException(_message(error)) from None
    except OSError as error:
        raise click.ClickException(of_the_system(error)) from None
    except MemoryError:
        raise click.ClickException("there is not enough memory") from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def of_the_system(error: OSError) -> str:
    """What the system says, and of which file."""
    name = f"{error.filename}: " if error.filename else ""
    return f"{name}{error.strerror or error}"


def _message(error: PullbackError) -> str:
    notes = [note.strip() for note in getattr(error, "__notes__", ())]
    hint = [] if error.hint is None else [error.hint]
    if isinstance(error, DivergedError):  # whose own hint is for those who call `fit`
        hint = ["take a smaller --lr or --clip 1, and look for extreme values in the data"]
    return "\n  ".join([error.what, *hint, *notes])
