"""`Finding`: what is wrong, where in the user's code, why, what to do, and how to say it is meant.

A `Rule` is a kind of finding; it is one class that knows everything about itself.
"""

from __future__ import annotations

import inspect
import linecache
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from pathlib import PurePath
from typing import Any, ClassVar, Self

from pullback.errors import Frame, Site


class Severity(Enum):
    """How bad a finding is. Errors alone make a command exit with 1."""

    STOP = "STOP"
    """The step must not be applied."""
    FAIL = "FAIL"
    """A fact that keeps the program from doing what it says."""
    WARN = "WARN"
    """Very likely a mistake."""
    INFO = "INFO"
    """Worth knowing; folded away."""

    @property
    def is_error(self) -> bool:
        return self in (Severity.STOP, Severity.FAIL)

    @property
    def rank(self) -> int:
        return list(Severity).index(self)

    @property
    def sarif(self) -> str:
        """The level of SARIF 2.1.0."""
        return "error" if self.is_error else "warning" if self is Severity.WARN else "note"


class Kind(Enum):
    """What a rule rests on."""

    FACT = "fact"
    """It follows from the graph or its numbers: no threshold."""
    MEASURE = "measure"
    """A number beyond a threshold."""
    HINT = "hint"


class Place(IntEnum):
    """Where a rule stands among causes: each comes before what follows from it.

    A rule stands with its family, unless it says another place.
    """

    NUM = auto()
    CUT = auto()
    LOOP = auto()
    OBJ = auto()
    DAT = auto()
    DERIVATIVE = auto()
    SCALE = auto()
    SIG = auto()
    FIRST_LOSS = auto()
    OPT = auto()
    VER = auto()
    GEN = auto()


class Threshold(float):
    """A bound of a measuring rule: a number that knows what it bounds, and who says so."""

    meaning: str
    source: str

    def __new__(cls, value: float, meaning: str, source: str) -> Self:
        bound = super().__new__(cls, value)
        bound.meaning, bound.source = meaning, source
        return bound


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change of a run that a doctor can try on a copy of it before it is told."""

    said: str
    rate: float = 1.0
    """The learning rate times this; the direction of the steps with it, where it is negative."""
    clip: float | None = None
    standardises: bool = False
    """Whether the inputs are made to have mean 0 and variance 1."""
    initialises: bool = False
    """Whether the weights of each layer are scaled as its usual initialisation has them."""
    mixes: bool = False
    """Whether the examples of the batches are mixed."""
    scales: bool = False
    """Whether the targets are made to have mean 0 and variance 1."""
    keeps: bool = False
    """Whether the optimiser is handed parameters of 0, so that it has nothing to decay."""
    steps: int = 0
    """Steps of the trial, where they are more than usual: depth is slow at first."""
    edit: Callable[[Any], Any] | None = None
    """What is replaced in the loss (`edits`)."""


AS_IT_IS = Remedy("as it is")
NO_TRIAL = Remedy("")
"""Of a finding whose remedy cannot be tried, although others of its rule can."""


class Rule:
    """A kind of finding. The docstring of a subclass is its explanation (`pullback explain ID`)."""

    id: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[Kind] = Kind.FACT
    severity: ClassVar[Severity]
    fix: ClassVar[str]
    intended: ClassVar[str] = ""
    """How to say that it is meant; empty where it cannot be meant."""
    source: ClassVar[str]
    """Who met or described it."""
    remedies: ClassVar[tuple[Remedy, ...]] = ()
    """What can be tried on a copy of a run."""
    certain: ClassVar[tuple[Severity, ...]] = (Severity.STOP, Severity.FAIL)
    """The severities at which a finding needs no trial to be believed; of a measure none."""
    is_early: ClassVar[bool] = False
    """Of a rule that looks at a run: whether the first steps say all that it asks for."""
    comes: ClassVar[Place | None] = None
    """Its place among causes, where it is not that of its family."""
    follows: ClassVar[bool] = False
    """Whether what it finds follows from a cause before it, though it is no measure."""

    @classmethod
    def place(cls) -> Place:
        """Its place among causes."""
        return Place[cls.id[:-2]] if cls.comes is None else cls.comes

    @classmethod
    def can_follow(cls) -> bool:
        """Whether what it finds may follow from another cause; a fact stands for itself."""
        return cls.follows or cls.kind is Kind.MEASURE

    @classmethod
    def explains(cls, mine: Finding, other: Finding) -> bool:
        """Whether it is known that the other finding follows from mine, whatever their places."""
        return False

    @classmethod
    def thresholds(cls) -> tuple[Threshold, ...]:
        """Its class attributes that are thresholds, in the order in which it names them."""
        return tuple(x for x in vars(cls).values() if isinstance(x, Threshold))

    @classmethod
    def explanation(cls) -> str:
        """All that is known of the rule, as `pullback explain` prints it."""
        head = f"{cls.id}  {cls.title}\n{cls.severity.value}, {cls.kind.value}"
        bounds = [f"    {x.meaning}: {x:g}  ({x.source})" for x in cls.thresholds()]
        parts = [
            head,
            inspect.cleandoc(cls.__doc__ or ""),
            *(["Thresholds\n" + "\n".join(bounds)] if bounds else []),
            _section("Fix", cls.fix),
            *([_section("Intended?", cls.intended)] if cls.intended else []),
            _section("Source", cls.source),
        ]
        return "\n\n".join(parts)

    @classmethod
    def found(cls, what: str, site: Site | None, **details: Any) -> Finding:
        """A finding of this rule, with the rule's severity and remedies unless told otherwise."""
        usual: dict[str, Any] = {
            "severity": cls.severity,
            "fix": cls.fix,
            "intended": cls.intended,
        }
        return Finding(rule=cls, what=what, site=site, **(usual | details))


def _section(head: str, text: str) -> str:
    body = textwrap.fill(text, 80, initial_indent="    ", subsequent_indent="    ")
    return f"{head}\n{body}"


@dataclass(frozen=True, eq=False)
class Finding:
    """One thing that a rule found. `what` fits one line; `numbers` are what it rests on."""

    rule: type[Rule]
    what: str
    site: Site | None
    severity: Severity
    why: str = ""
    fix: str = ""
    intended: str = ""
    notes: tuple[str, ...] = ()
    """Lines below the place: paths, tables."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    explained_by: str = ""
    """The id of the finding that this one follows from."""
    evidence: object = None
    remedies: tuple[Remedy, ...] = ()
    """What can be tried, where it is not what the rule has."""
    effect: float = 0.0
    """How much lower the loss was where the remedy was tried, as a share of that at the start."""
    stands: bool = False
    """Whether it is an alarm even where no remedy was seen to help."""
    declared: str = ""
    """The reason that the program gives for it, where it says that it is meant."""

    @property
    def id(self) -> str:
        return self.rule.id

    @property
    def is_certain(self) -> bool:
        """Whether it is known, and not only measured or guessed."""
        known = self.rule.kind is not Kind.MEASURE or "certain" in vars(self.rule)
        return known and self.severity in self.rule.certain

    @property
    def frame(self) -> Frame | None:
        """The user's line."""
        return None if self.site is None else self.site.frame

    @property
    def file(self) -> str | None:
        return None if self.frame is None else self.frame.file

    @property
    def line(self) -> int | None:
        return None if self.frame is None else self.frame.line

    @property
    def module(self) -> str:
        """The module path, as `model.layers[2]`; empty outside every module."""
        return "" if self.site is None else self.site.scope

    @property
    def is_declared(self) -> bool:
        """Whether the program, or a line that leads here, says so: `# intended: OBJ07 pairs`."""
        if self.declared:
            return True
        frames = () if self.site is None else self.site.frames
        return any(self.id in ids_on(frame) for frame in frames)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "rule": self.id,
            "severity": self.severity.value,
            "what": self.what,
            "file": self.file,
            "line": self.line,
            "source": None if self.frame is None else self.frame.source,
            "module": self.module,
            "why": self.why,
            "fix": self.fix,
            "intended": self.intended,
            "notes": list(self.notes),
            "numbers": dict(self.numbers),
            "explained_by": self.explained_by,
            "effect": self.effect,
        }


def short_place(site: Site | None) -> str:
    """`model.py:41`, for tables and asides; of a line of the library's own the module path."""
    if site is None:
        return ""
    if site.frame is None:
        return site.scope
    return f"{PurePath(site.frame.file).name}:{site.frame.line}"


def with_lines(site: Site, *others: Site) -> Site:
    """A site that names the lines of others as well, behind its own."""
    frames = {(x.code, x.line): x for each in (*others[::-1], site) for x in each.frames[::-1]}
    return Site(tuple(reversed(frames.values())), site.scope, site.phase)


_DECLARATION = re.compile(r"#\s*intended:\s*([A-Z]{2,4}\d{2}(?:\s*,\s*[A-Z]{2,4}\d{2})*)")


def ids_on(frame: Frame) -> frozenset[str]:
    """The ids that a comment on the frame's line declares as intended."""
    text = linecache.getline(frame.code.co_filename, frame.line)
    found = _DECLARATION.search(text)
    return frozenset() if found is None else frozenset(re.split(r"\s*,\s*", found[1].strip()))
