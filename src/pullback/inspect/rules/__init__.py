"""The rules: one class each, one file for each family. `RULES` has them all, in order."""

from __future__ import annotations

from typing import Any

from pullback.errors import ArgumentError, nearest
from pullback.inspect.findings import Rule
from pullback.inspect.rules.cuts import CUT01, CUT04
from pullback.inspect.rules.derivatives import VER02
from pullback.inspect.rules.graph import DAT06, LOOP04, SIG09
from pullback.inspect.rules.hazards import NUM04, NUM05, NUM06, Hazard
from pullback.inspect.rules.heart import VER01
from pullback.inspect.rules.loop import LOOP01, LOOP02, LOOP03, OBJ05
from pullback.inspect.rules.near import NUM03
from pullback.inspect.rules.numeric import NUM01, NUM02
from pullback.inspect.rules.objective import OBJ01, OBJ03, OBJ07
from pullback.inspect.rules.order import DAT02, DAT03, DAT05
from pullback.inspect.rules.running import CUT02, CUT03, GEN01, GEN02, OPT03
from pullback.inspect.rules.samples import DAT04
from pullback.inspect.rules.signal import SIG01, SIG02, SIG03, SIG04, SIG05, SIG06, SIG07, SIG08
from pullback.inspect.rules.slow import OPT02
from pullback.inspect.rules.start import (
    DAT01,
    OBJ04,
    OBJ06,
    OPT01,
)
from pullback.inspect.rules.task import OBJ02, OBJ08

HAZARDS: tuple[type[Hazard], ...] = (NUM04, NUM05, NUM06, OBJ01, OBJ03, OBJ07)
CHECKS: tuple[type[Any], ...] = (
    NUM03,
    VER02,
    CUT03,
    OBJ02,
    OBJ05,
    OBJ04,
    OBJ06,
    DAT01,
    DAT03,
    DAT04,
    DAT06,
    LOOP02,
    LOOP04,
    OPT01,
    OPT02,
    SIG01,
    SIG02,
    SIG03,
    SIG04,
    SIG05,
    SIG06,
    SIG07,
    SIG08,
    SIG09,
    VER01,
)
SIGNS: tuple[type[Any], ...] = (
    CUT02,
    LOOP01,
    LOOP02,
    LOOP03,
    OBJ05,
    OBJ08,
    DAT02,
    DAT03,
    DAT05,
    OPT01,
    OPT02,
    OPT03,
    GEN01,
)
GUESSES: tuple[type[Rule], ...] = (OBJ05, OPT01, OPT02)
"""What a remedy alone can show."""
FAMILIES = ("NUM", "CUT", "LOOP", "OBJ", "DAT", "OPT", "SIG", "VER", "GEN")
RULES: tuple[type[Rule], ...] = tuple(
    sorted(
        dict.fromkeys((NUM01, NUM02, CUT01, CUT04, *HAZARDS, *CHECKS, *SIGNS, *GUESSES, GEN02)),
        key=lambda each: (FAMILIES.index(each.id[:-2]), each.id),
    )
)


def rule(identifier: str) -> type[Rule]:
    """The rule of an id, in any case; `ArgumentError` names the nearest one."""
    known = {each.id: each for each in RULES}
    found = known.get(identifier.strip().upper())
    if found is None:
        near = nearest(identifier.upper(), known, 0.5)
        raise ArgumentError(
            f"no rule has the id {identifier!r}",
            hint=f"did you mean {near}?" if near else f"the ids are {', '.join(known)}",
        )
    return found
