"""A limit on the bytes of a program."""

from __future__ import annotations

import operator
import os
import re
from decimal import Decimal
from typing import SupportsIndex

import numpy as np

from pullback.errors import ArgumentError
from pullback.schedule.picture import bytes_text

UNITS = {"B": 1} | {
    f"{prefix}{kind}": base ** (i + 1)
    for kind, base in (("B", 1000), ("iB", 1024))
    for i, prefix in enumerate("kMGT")
}


def parse_bytes(given: int | str) -> int:
    """`500_000_000` or `"500 MB"` or `"0.5 GiB"` as bytes; `ArgumentError` for anything else."""
    count = _parsed(given)
    if count is None:
        raise ArgumentError(f"memory={given!r} is no number of bytes", hint=_hint(given))
    if count <= 0:
        raise ArgumentError(
            f"memory={given!r} is no positive number of bytes",
            hint="it counts all that a step holds, parameters and batch too; without it there is "
            "no limit",
        )
    return count


def _parsed(given: object) -> int | None:
    if isinstance(given, SupportsIndex) and not isinstance(given, bool | np.bool_ | np.ndarray):
        return operator.index(given)
    if not isinstance(given, str):
        return None
    found = re.fullmatch(r"\s*(-?)(\d+\.?\d*|\.\d+)\s*([a-zA-Z]+)\s*", given)
    units = {name.lower(): size for name, size in UNITS.items()}
    if found is None or found[3].lower() not in units:
        return None
    count = int(Decimal(found[2]) * units[found[3].lower()])
    return -count if found[1] else count


def _hint(given: object) -> str:
    if isinstance(given, str) and re.fullmatch(r"\s*-?\d+\.?\d*\s*", given):
        return f'say of what: "{given.strip()} MB", say, or "{given.strip()} B"'
    if isinstance(given, float):
        return 'bytes are a whole number; write for example memory=500_000_000 or "500 MB"'
    return f'write for example memory="500 MB"; the units are {", ".join(UNITS)}'


def require_machine(limit: int) -> None:
    """Raise `ArgumentError` for a budget that this machine does not have."""
    most = machine_bytes()
    if most is not None and limit > most:
        raise ArgumentError(
            f"memory= allows {bytes_text(limit)}, this machine has {bytes_text(most)}",
            hint="`lower(...).plan` plans for another machine without running",
        )


def machine_bytes() -> int | None:
    """The memory of this machine, or of its container; None where the system does not say."""
    try:
        most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return most
    return min(most, int(text)) if text.isdigit() else most
