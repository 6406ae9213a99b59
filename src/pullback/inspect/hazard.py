"""`hazards`: what can be read off a traced loss before anything goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pullback._public import public
from pullback.compile.driver import uncompiled
from pullback.errors import ArgumentError
from pullback.inspect.program import Program
from pullback.inspect.report import Report
from pullback.inspect.rules import HAZARDS, rule


@public
def hazards(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | tuple[int, ...] = 0,
    intended: tuple[str, ...] = (),
) -> Report:
    """What is wrong, or waits to go wrong, in the graph of the loss `f(*args)`.

    The arguments `argnums` hold the parameters, of which nothing is assumed; the others are data,
    which are taken as they are. The loss is evaluated once; nothing is differentiated. Rules:
    NUM04, NUM05, NUM06, OBJ01, OBJ03, OBJ07 (`pullback explain ID`).

    What is meant is declared by a comment on the line (`# intended: OBJ07 all pairs`), or for the
    whole call by `intended=("OBJ07",)`; it is then listed, and alarms nobody.

    Raises `ArgumentError` for an id that is no rule.

    >>> import numpy as np
    >>> import pullback as pb
    >>> def loss(w, x, y):
    ...     return pb.mean((x @ w - y) ** 2)
    >>> report = hazards(loss, np.ones((3, 1)), np.ones((8, 3)), np.ones(8))
    >>> report.findings[0].what
    'float64[8,1] and float64[8] are broadcast to float64[8,8]'
    """
    unknown = [x for x in intended if rule(x) not in HAZARDS]
    if unknown:
        raise ArgumentError(f"{unknown[0]} is no rule of hazards")
    called = uncompiled(f)
    with np.errstate(all="ignore"):
        program = Program(called, args, argnums)
        found = [x for each in HAZARDS for x in each.find(program)]
    wanted = [x for x in found if x.id not in intended]
    report = Report.of(f"hazards  {program.name}  {len(program.nodes)} operations", wanted, "")
    meant = tuple([x for x in found if x.id in intended])
    calm = f"{len(HAZARDS)} rules found nothing" if not report.findings else ""
    return Report(report.title, report.findings, calm, (*report.declared, *meant))
