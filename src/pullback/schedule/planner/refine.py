"""Repeats that there turns out to be room to avoid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pullback.schedule.memory import Lifetimes, Workload, lifetimes
from pullback.schedule.planner.alone import stored_alone

Schedule = tuple[int, ...]

ROUNDS = 6


def refine(workload: Workload, schedule: Schedule, room: int) -> Lifetimes:
    """The schedule without the repeats that `room` bytes of arena have space to avoid, and without
    results that nobody reads."""
    lives = lifetimes(workload, without_dead_repeats(workload, schedule))
    for _ in range(ROUNDS):
        gone = _avoidable(lives, room)
        if not gone:
            break
        shorter = [k for t, k in enumerate(lives.schedule) if t not in gone]
        after = lifetimes(workload, without_dead_repeats(workload, shorter))
        if after.max_live > max(room, lives.max_live):
            break
        lives = after
    return stored_alone(lives, room)


def without_dead_repeats(workload: Workload, schedule: Sequence[int]) -> Schedule:
    """Only the runs whose results someone reads, and one of a step that nobody ever reads."""
    read = {i for reads in workload.reads for i in reads} | set(workload.kept)
    wanted, alone, kept = set(workload.kept), set[int](), []
    for k in reversed(schedule):
        made = workload.writes[k]
        if not wanted.isdisjoint(made) or (read.isdisjoint(made) and k not in alone):
            kept.append(k)
            alone.add(k)
            wanted.difference_update(made)
            wanted.update(workload.reads[k])
    return tuple(reversed(kept))


def _avoidable(lives: Lifetimes, room: int) -> set[int]:
    """Positions of repeats whose results can stay from the run before, dearest for a byte first."""
    live = lives.buffers.live_bytes(len(lives.schedule))
    repeats = []
    for t, spans in _repeats(lives):
        held = sum(size * max(end - start, 1) for start, end, size in spans)
        cost = lives.workload.steps[lives.schedule[t]].cost
        repeats.append((-cost / max(held, 1), t, spans))
    gone: set[int] = set()
    for _, t, spans in sorted(repeats):
        for start, end, size in spans:
            live[start:end] += size
        if all(live[start:end].max(initial=0) <= room for start, end, _ in spans):
            gone.add(t)
        else:
            for start, end, size in spans:
                live[start:end] -= size
    return gone


def _repeats(lives: Lifetimes) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
    """Each repeat, and what keeping its results instead would hold: (from, to, bytes)."""
    previous: dict[int, int] = {}
    for t, made in enumerate(lives.writes):
        spans, is_new = [], False
        for i in made:
            value, end = lives.instances[i].value, lives.instances[i].end
            if value is None:
                continue
            wanted = end > t + 1 or i in lives.kept
            is_new |= wanted and value not in previous
            if value in previous and wanted:
                spans.append((_free_from(lives, previous[value]), t, lives.workload.sizes[value]))
            if value not in previous or wanted:
                previous[value] = i
        if spans and not is_new:
            yield t, spans


def _free_from(lives: Lifetimes, instance: int) -> int:
    """The step from which an instance holds no bytes of its own."""
    end, buffer = lives.instances[instance].end, lives.storage[instance]
    taken_over = buffer >= 0 and int(lives.buffers.ends[buffer]) > end
    return end - 1 if taken_over else end
