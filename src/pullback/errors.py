"""Every exception, where in the user's code it belongs, and how a message is laid out.

PullbackError
├── ShapeError               sizes or ranks do not fit                   (also a ValueError)
├── DTypeError               an element type does not fit                (also a TypeError)
├── StructureError           containers do not match, or hold a cycle    (also a TypeError)
├── OutOfRangeError          an index lies outside its axis              (also an IndexError)
├── ArgumentError            a plain argument has a senseless value      (also a ValueError)
├── TracedValueError         a traced value was used as a number         (also a TypeError)
│   └── LeakedValueError     a value was used after its trace had ended
├── NotDifferentiableError   no derivative exists on the path asked for  (also a TypeError)
├── GradientError            a derivative rule disagrees with its function
├── DonationError            an array that was given away was used again
├── DiagnosisError           a check of a program found an error
├── NonFiniteError           a NaN or infinity was born (at CHECK ≥ 1; also an ArithmeticError)
├── TrainingError            a run had to stop; `.result` is what it had  (also a RuntimeError)
│   └── DivergedError        its loss or gradient is no number any more  (also a NonFiniteError)
├── SingularMatrixError      a matrix has no inverse or Cholesky factor  (also an ArithmeticError)
├── LoopLimitError           a loop passed its `max_steps`               (also a RuntimeError)
├── CompileError             no native code could be made or loaded      (also a RuntimeError)
├── MemoryPlanError          a schedule is invalid, or fits no budget    (also a MemoryError)
├── GraphError               a graph breaks the rules of the IR
│   └── PassError            an optimisation changed what a graph means
├── ParseError               text is not a graph                         (also a ValueError)
└── FileFormatError          a file is not what it should be             (also a ValueError)
"""

from __future__ import annotations

import difflib
import functools
import linecache
import os
import sys
import types
from collections.abc import Iterable, Sequence
from enum import Enum

import numpy as np
import optree

from pullback._trusted import trusted

_LIBRARIES = tuple(
    os.path.dirname(os.path.abspath(each)) + os.sep
    for each in (__file__, np.__file__, optree.__file__)
)
_COMMAND = os.path.join(_LIBRARIES[0], "cli", "")


# ---- where ----------------------------------------------------------------------------------


class Phase(Enum):
    """Which part of a derivative computation a node belongs to."""

    FORWARD = "forward"
    BACKWARD = "backward"
    TANGENT = "tangent"


@trusted(frozen=True, slots=True)
class Frame:
    """One place in the user's code: a code object and an instruction, read when printed."""

    code: types.CodeType
    offset: int

    @property
    def file(self) -> str:
        """The path as Python knows it, shortened when it lies below the working directory."""
        path = self.code.co_filename
        here = os.getcwd() + os.sep
        return path.removeprefix(here)

    @property
    def function(self) -> str:
        return self.code.co_qualname.rpartition("<locals>.")[2]

    @property
    def line(self) -> int:
        return self._position()[0]

    @property
    def columns(self) -> tuple[int, int] | None:
        """First and past-the-last column of the expression, when the interpreter kept them."""
        _, first, last = self._position()
        return None if first is None or last is None else (first, last)

    @property
    def source(self) -> str:
        return linecache.getline(self.code.co_filename, self.line).strip()

    @property
    def expression(self) -> str:
        """The text of the expression at work, when it stands on one line."""
        line = linecache.getline(self.code.co_filename, self.line).encode()
        columns = self.columns
        return "" if columns is None else line[slice(*columns)].decode()

    def _position(self) -> tuple[int, int | None, int | None]:
        positions = list(self.code.co_positions())
        line, last_line, first, last = positions[self.offset // 2]
        one_line = line == last_line
        return (
            line or self.code.co_firstlineno,
            first if one_line else None,
            last if one_line else None,
        )

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@trusted(frozen=True, slots=True)
class Site:
    """Where a node comes from: user frames (innermost first), the module path, the phase."""

    frames: tuple[Frame, ...] = ()
    scope: str = ""
    phase: Phase = Phase.FORWARD

    def during(self, phase: Phase) -> Site:
        return self if phase is self.phase else Site(self.frames, self.scope, phase)

    @property
    def frame(self) -> Frame | None:
        return self.frames[0] if self.frames else None

    def __str__(self) -> str:
        place = str(self.frames[0]) if self.frames else "unknown place"
        return f"{place} ({self.scope})" if self.scope else place


NOWHERE = Site()


def is_library(code: types.CodeType) -> bool:
    """Whether a code object belongs to this package, or to NumPy or optree below it."""
    return in_library(code.co_filename)


@functools.cache
def in_library(file: str) -> bool:
    """`is_library` by file; remembered, because every recorded node asks for all its frames."""
    return file.startswith(_LIBRARIES)


@functools.cache
def is_called(file: str) -> bool:
    """Whether a file is of the library, and the user's code may have called it: the command is
    called by no code of the user's."""
    return in_library(file) and not file.startswith(_COMMAND)


def calling_frame() -> Frame | None:
    """The innermost frame outside this package; None below the command."""
    frame = sys._getframe(1)
    while frame is not None and is_called(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None or is_library(frame.f_code):
        return None
    return Frame(frame.f_code, frame.f_lasti)


def calling_frames(count: int) -> tuple[Frame, ...]:
    """The innermost frames outside this package, so many at the most; none below the command."""
    found: list[Frame] = []
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < count:
        if not is_library(frame.f_code):
            found.append(Frame(frame.f_code, frame.f_lasti))
        elif not is_called(frame.f_code.co_filename):
            break
        frame = frame.f_back
    return tuple(found)


def calling_site() -> Site:
    frame = calling_frame()
    return NOWHERE if frame is None else Site((frame,))


# ---- what -----------------------------------------------------------------------------------


@trusted(frozen=True, slots=True)
class Operand:
    """One line of the `why` part of a message."""

    label: str
    type: str
    origin: str


class PullbackError(Exception):
    """What is wrong, where, why (the operands), and what to do (the hint).

    Raised without `where` inside the library; who knows the user's line adds it with `locate`.
    """

    def __init__(
        self, what: str, *, hint: str | None = None, labels: Sequence[str] | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.labels = labels
        self.subject: str | None = None
        self.site: Site | None = None
        self.operands: tuple[Operand, ...] = ()

    def locate(self, subject: str, site: Site, operands: Sequence[Operand] = ()) -> None:
        """Add the operation's name, the user's line and the operands, unless a deeper call did."""
        if self.site is None:
            self.subject, self.site, self.operands = subject, site, tuple(operands)

    def __str__(self) -> str:
        head = self.what
        if self.site is not None and self.subject is not None:
            place = f" at {self.site}" if self.site.frames else ""
            head = f"{self.subject}{place}: {self.what}"
        lines = [head, *_table(self.operands)]
        if self.hint is not None:
            lines.append(f"    {self.hint}")
        return "\n".join(lines)


def _table(operands: Sequence[Operand]) -> list[str]:
    label = max((len(each.label) for each in operands), default=0)
    kind = max((len(each.type) for each in operands), default=0)
    return [f"    {x.label:<{label}}  {x.type:<{kind}}  {x.origin}".rstrip() for x in operands]


def listed(names: Sequence[str], most: int = 4) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def counted(names: Sequence[str], most: int) -> str:
    """The first few names and how many more there are, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def nearest(name: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like a wrong one, for a hint; None where none is (`cutoff`, from
    0: any will do, to 1: only the same).
    """
    return next(iter(difflib.get_close_matches(str(name), list(known), 1, cutoff)), None)


class ShapeError(PullbackError, ValueError):
    """Sizes or ranks do not fit."""


class DTypeError(PullbackError, TypeError):
    """An element type does not fit."""


class StructureError(PullbackError, TypeError):
    """Containers do not match each other, hold a cycle, or hold something that is no array."""


class OutOfRangeError(PullbackError, IndexError):
    """An index lies outside its axis."""


class ArgumentError(PullbackError, ValueError):
    """A plain argument (a rate, a probability, a seed) has a value that makes no sense."""


class TracedValueError(PullbackError, TypeError):
    """A traced value has no number yet, and one was asked for."""


class LeakedValueError(TracedValueError):
    """A value was used after the trace that made it had ended, or outside it."""


class NotDifferentiableError(PullbackError, TypeError):
    """No derivative exists on the path that was asked for."""


class GradientError(PullbackError):
    """A derivative rule disagrees with the function it belongs to."""


class DiagnosisError(PullbackError):
    """A check of a program or a training run found an error; `report` holds all that it found."""

    report: object = None


class DonationError(PullbackError):
    """An array that was given to a program was used again, or could not be given."""


class NonFiniteError(PullbackError, ArithmeticError):
    """A NaN or an infinity was born from finite operands."""


class TrainingError(PullbackError, RuntimeError):
    """A training run had to stop; `result` is the `FitResult` of what it had reached."""

    def __init__(self, what: str, result: object, *, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.result = result


class DivergedError(TrainingError, NonFiniteError):
    """The loss or the gradient of a run is no number any more; `result.state` is the last good."""


class SingularMatrixError(PullbackError, ArithmeticError):
    """A matrix has no inverse, or is not positive definite."""


class LoopLimitError(PullbackError, RuntimeError):
    """A loop needed more iterations than its `max_steps` allows."""


class CompileError(PullbackError, RuntimeError):
    """No native code could be made or loaded: an unfit target, or text that LLVM refuses.

    `kernel` is the function at fault, where one is known; who knows its nodes adds their lines.
    """

    def __init__(self, what: str, *, kernel: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.kernel = kernel


class MemoryPlanError(PullbackError, MemoryError):
    """A schedule reads what is not there, or needs more bytes than it may."""


class GraphError(PullbackError):
    """A graph breaks the rules of the IR: an error of the library or of a hand-made graph."""


class PassError(GraphError):
    """An optimisation pass changed what a graph means: an error of the library."""


class ParseError(PullbackError, ValueError):
    """Text that is not a graph."""


class FileFormatError(PullbackError, ValueError):
    """A file is malformed, truncated or of another kind; the message has the line or the byte."""
