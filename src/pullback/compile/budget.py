"""A limit on the bytes of a program."""

from __future__ import annotations

import re

from pullback.errors import ArgumentError, MemoryPlanError
from pullback.schedule.memory import Plan
from pullback.schedule.picture import bytes_text

UNITS = {"B": 1} | {
    f"{prefix}{kind}": base ** (i + 1)
    for kind, base in (("B", 1000), ("iB", 1024))
    for i, prefix in enumerate("kMGT")
}
NAMED = 5
"""How many values a refusal names."""


def parse_bytes(given: int | str) -> int:
    """`500_000_000` or `"500 MB"` or `"0.5 GiB"` as bytes; `ArgumentError` for anything else."""
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return given
    found = re.fullmatch(r"\s*([\d.]+)\s*([a-zA-Z]+)\s*", given) if isinstance(given, str) else None
    units = {name.lower(): size for name, size in UNITS.items()}
    if found is None or found[2].lower() not in units or found[1].count(".") > 1:
        raise ArgumentError(
            f"memory={given!r} is no number of bytes", hint='write for example memory="500 MB"'
        )
    return int(float(found[1]) * units[found[2].lower()])


def require_room(plan: Plan, limit: int) -> None:
    """Raise `MemoryPlanError` where a plan needs more than `limit` bytes."""
    if plan.peak_bytes <= limit:
        return
    values = plan.lifetimes.workload.values
    held = [(x.bytes, x.label, x.source) for x in plan.at_peak()]
    held += [(x.bytes, x.label, str(x.site.frame or "")) for x in values if x.resident]
    largest = [
        f"{bytes_text(size):>10}  {label}  {source}".rstrip()
        for size, label, source in sorted(held, reverse=True)[:NAMED]
    ]
    lines = "".join([f"\n    {line}" for line in largest])
    raise MemoryPlanError(
        f"the program needs {bytes_text(plan.peak_bytes)} at its peak, memory= allows "
        f"{bytes_text(limit)}: {bytes_text(plan.resident_bytes)} of arguments, results and "
        f"scratch, and {bytes_text(plan.arena_bytes)} between; the largest:{lines}",
        hint="the least without recomputation; pb.checkpoint(f) recomputes f in the backward pass",
    )
