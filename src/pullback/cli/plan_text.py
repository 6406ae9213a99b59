"""What `pullback plan` says: the numbers of a plan as lines of text, and as plain data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from pullback.cli.sources import Planned
from pullback.compile.report import Point
from pullback.compile.stages import Lowered
from pullback.schedule.picture import bytes_text
from pullback.train.ledger import Group, Ledger, Part, rest

MOST = 400
"""Kernels of a step for which other budgets are tried without being asked for."""


@dataclass
class Told:
    """All that is told of a step."""

    subject: Planned
    batch: int
    lowered: Lowered
    ledger: Ledger
    seconds: float
    """From types to the plan."""
    limit: int | None = None
    with_more: float | None = None
    """The slowdown with 100 MB more than the limit."""
    curve: list[Point] = field(default_factory=list)
    batches: list[tuple[int, int]] = field(default_factory=list)
    """(budget, the largest batch that it holds)."""


def duration(nanoseconds: float) -> str:
    """To three figures.

    >>> duration(1234), duration(5_678_000), duration(12e9)
    ('1.23 µs', '5.68 ms', '12 s')
    """
    units = (("s", 1e9), ("ms", 1e6), ("µs", 1e3))
    unit, size = next(((u, s) for u, s in units if nanoseconds >= s), ("ns", 1.0))
    return f"{nanoseconds / size:.3g} {unit}"


# ---- text -----------------------------------------------------------------------------------


def as_text(told: Told, rows: int, columns: int, *, ascii: bool, sketch: bool = True) -> str:
    """The page, no line longer than `columns`."""
    parts = [_head(told), _holds(told.ledger), _saved(told, rows), _others(told)]
    if sketch and told.ledger.plan.arena_bytes:
        parts.append(["the arena, from the first step to the last"])
        parts[-1] += told.ledger.plan.sketch(columns, ascii=ascii).splitlines()
    lines = [line for part in parts if part for line in (*part, "")][:-1]
    text = "\n".join(_cut(line, columns) for line in lines)
    return text.translate(str.maketrans("×·µ–…", "x.u-.")) if ascii else text


def _head(told: Told) -> list[str]:
    plan = told.ledger.plan
    title = _wrapped(f"{told.subject.title}; batch {told.batch}")
    again = len(plan.schedule) - len(set(plan.schedule))
    workload = plan.lifetimes.workload
    price = f"{again} run again, {plan.slowdown:.2%} more time" if again else "none runs twice"
    took = duration(workload.cost(plan.schedule))
    return [
        *title,
        *told.subject.notes,
        f"{workload.count:,} kernels, {price}; on one core {took} (cost model)",
        *([] if workload.form is None else [workload.form.text]),
        f"planned in {told.seconds:.1f} s; nothing was run",
    ]


def _wrapped(text: str, width: int = 78) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) >= width:
            lines.append(" ")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def _holds(ledger: Ledger) -> list[str]:
    plan = ledger.plan
    gap = plan.arena_bytes / max(plan.lower_bound, 1) - 1
    bound = f"{gap:.2%} above the lower bound" if gap > 0 else "the lower bound"
    lines = [f"a step holds {bytes_text(plan.peak_bytes)} ({plan.peak_bytes:,} bytes)"]
    lines += [_part(part, 2) for part in ledger.resident()]
    if not plan.arena_bytes:
        return lines
    lines.append(_part(Part(f"arena, {bound}; at its peak:", plan.arena_bytes), 2))
    lines += [_part(part, 4) for part in ledger.arena()]
    most, step = ledger.gradients()
    if most:
        lines.append(
            f"of gradients of parameters at most {bytes_text(most)} at once, at step "
            f"{step + 1:,} of {len(plan.schedule):,}"
        )
    return [*lines, "besides: Python, this library and the data"]


def _part(part: Part, indent: int) -> str:
    return f"{' ' * indent}{bytes_text(part.bytes):>9}  {part.name}"


def _saved(told: Told, rows: int) -> list[str]:
    groups = told.ledger.groups()
    if not groups or not rows:
        return []
    total, count = sum(x.bytes for x in groups), sum(x.count for x in groups)
    place = "line" if told.subject.has_lines else "layer"
    lines = [
        f"saved for the backward pass: {bytes_text(total)} in {count:,} values",
        f"{'bytes':>10}  {'again':>8}  {'count':>5}  {'steps':<11}  {'value':<14}  {place}",
        *[_group(each, told.subject.has_lines) for each in groups[:rows]],
    ]
    left = rest(groups, rows)
    return lines if not left.bytes else [*lines, f"{bytes_text(left.bytes):>10}  {left.name}"]


def _group(group: Group, has_lines: bool) -> str:
    place = f"{group.layer}  {_short(group.source)}" if has_lines else group.layer
    steps = f"{group.start}–{group.end - 1}"
    return (
        f"{bytes_text(group.bytes):>10}  {duration(group.again):>8}  {group.count:>5}  "
        f"{steps:<11}  {group.label[:14]:<14}  {place.strip()}"
    ).rstrip()


def _short(source: str) -> str:
    """A line without the folders of its file."""
    path, _, line = source.rpartition(":")
    return f"{path.replace(chr(92), '/').rpartition('/')[2]}:{line}"


def _others(told: Told) -> list[str]:
    lines = []
    if told.curve:
        lines = [
            "other budgets",
            f"{'budget':>10}  {'peak':>10}  {'more time':>9}",
            *[
                f"{bytes_text(x.budget):>10}  {bytes_text(x.peak_bytes):>10}  {x.slowdown:>9.2%}"
                for x in told.curve
            ],
        ]
    elif len(told.lowered.schedule.kernels) > MOST:
        lines = ["other budgets: --points 6 tries six, which takes long for a step of this size"]
    if told.with_more is not None:
        now = told.ledger.plan.slowdown
        lines.append(f"with 100 MB more: {told.with_more:.2%} more time instead of {now:.2%}")
    if told.batches:
        (limit, now_fits), (_, then) = told.batches
        lines.append(
            f"the largest batch within {bytes_text(limit)}: {now_fits:,}; "
            f"with 100 MB more: {then:,}"
        )
    return lines


def _cut(line: str, columns: int) -> str:
    return line if len(line) <= columns else f"{line[: columns - 1]}…"


# ---- data -----------------------------------------------------------------------------------


def as_json(told: Told) -> dict[str, Any]:
    """All of it, every saved value by itself; times in nanoseconds as the cost model says."""
    ledger, plan = told.ledger, told.ledger.plan
    gradients, step = ledger.gradients()
    workload = plan.lifetimes.workload
    return {
        "subject": told.subject.title,
        "notes": list(told.subject.notes),
        "batch": told.batch,
        "memory": told.limit,
        "peak_bytes": plan.peak_bytes,
        "resident_bytes": plan.resident_bytes,
        "arena_bytes": plan.arena_bytes,
        "lower_bound": plan.lower_bound,
        "resident": {part.name: part.bytes for part in ledger.resident()},
        "arena": {part.name: part.bytes for part in ledger.arena()},
        "gradients": {"bytes": gradients, "step": step},
        "kernels": workload.count,
        "form": None if workload.form is None else workload.form.text,
        "steps": len(plan.schedule),
        "peak_step": plan.peak_step,
        "time_ns": workload.cost(plan.schedule),
        "slowdown": plan.slowdown,
        "planning_seconds": round(told.seconds, 3),
        "saved": [dataclasses.asdict(x) for x in plan.saved()],
        "curve": [dataclasses.asdict(x) for x in told.curve],
        "slowdown_with_100_mb_more": told.with_more,
        "largest_batch": [{"memory": m, "batch": n} for m, n in told.batches],
    }
