"""Runs that store one of their results alone.

A product that stores a sum and the activation of it holds both while it runs. Where only one of
them is read, or where the other one can be made of it when its operand is gone, a spare step
stores that one.
"""

from __future__ import annotations

from pullback.schedule.memory import Lifetimes, lifetimes


def stored_alone(lives: Lifetimes, room: int) -> Lifetimes:
    """The schedule with such runs: where it costs nothing, and where more than `room` bytes of
    arena are alive."""
    workload = lives.workload
    if not workload.alone:
        return lives
    live = lives.buffers.live_bytes(len(lives.schedule))
    instead, before = dict[int, int](), dict[int, list[int]]()
    for t, k in enumerate(lives.schedule):
        alone = workload.alone.get(k, {})
        wanted = _wanted(lives, t) if alone else {}
        if len(wanted) == 1 and alone.keys() >= wanted.keys():
            instead[t] = alone[next(iter(wanted))]
        elif len(wanted) == 2 and live[t] > room:
            found = _one_of_the_other(lives, wanted, alone)
            if found is not None:
                instead[t], place, part = found
                before.setdefault(place, []).append(part)
    if not instead:
        return lives
    schedule = list[int]()
    for t, k in enumerate(lives.schedule):
        schedule += (*before.get(t, ()), instead.get(t, k))
    after = lifetimes(workload, schedule)
    return after if after.max_live <= lives.max_live else lives


def _wanted(lives: Lifetimes, t: int) -> dict[int, int]:
    """What a run makes that is needed after it: {value: instance}."""
    made = [(lives.instances[i].value, i) for i in lives.writes[t]]
    return {
        value: i
        for value, i in made
        if value is not None and (lives.instances[i].end > t + 1 or i in lives.kept)
    }


def _one_of_the_other(
    lives: Lifetimes, wanted: dict[int, int], alone: dict[int, int]
) -> tuple[int, int, int] | None:
    """The spare step for one value, and where another one then makes the second of it: right before
    the second is read, or the first is read for the last time."""
    for (first, one), (second, other) in (wanted.items(), tuple(wanted.items())[::-1]):
        ways = lives.workload.shortcuts.get(second, ())
        part = next((k for k, read in ways if set(read) == {first}), None)
        if part is None or first not in alone or {one, other} & lives.kept:
            continue
        reads = range(lives.instances[other].start + 1, lives.instances[other].end)
        place = next(t for t in reads if other in lives.reads[t])
        return alone[first], min(place, lives.instances[one].end - 1), part
    return None
