"""Random workloads and schedules for hypothesis: views, takeovers, donors, scratch, repeats."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st

from pullback.schedule.memory import Step, Value, Workload

SIZES = (0, 8, 64, 100, 256, 1000, 4096)


@st.composite
def workloads(draw, most: int = 10) -> Workload:
    values = [
        Value(f"input {i}", draw(st.sampled_from(SIZES)), resident=True)
        for i in range(draw(st.integers(1, 3)))
    ]
    steps = []
    for k in range(draw(st.integers(1, most))):
        readable = st.integers(0, len(values) - 1)
        reads = tuple(draw(st.lists(readable, max_size=3)))
        writes = []
        for j in range(draw(st.integers(1, 2))):
            like = values[reads[0]].bytes if reads and draw(st.booleans()) else None
            writes.append(len(values))
            size = draw(st.sampled_from(SIZES)) if like is None else like
            values.append(Value(f"value {k}.{j}", size))
        pairs = [(w, r) for w in writes for r in reads if values[w].bytes == values[r].bytes]
        chosen = tuple(dict.fromkeys(pair for pair in pairs if draw(st.booleans())))
        scratch = draw(st.sampled_from((0, 0, 32, 640)))
        steps.append(Step(f"step {k}", reads, tuple(writes), scratch, chosen, cost=1 + k % 3))
        if draw(st.integers(0, 4)) == 0:
            base = draw(st.integers(0, len(values) - 1))
            values.append(
                Value(f"view {k}", values[base].bytes, values[base].resident, False, base)
            )
    return Workload(tuple(_with_results(draw, values)), tuple(steps))


def _with_results(draw, values: list[Value]) -> list[Value]:
    """Some values kept, some of these with a donor of their size."""
    donors = {i for i, v in enumerate(values) if v.resident and v.view_of is None}
    result = []
    for value in values:
        made = not value.resident and value.view_of is None
        kept = made and draw(st.integers(0, 2)) == 0
        fitting = sorted(i for i in donors if kept and values[i].bytes == value.bytes)
        donor = draw(st.sampled_from(fitting)) if fitting and draw(st.booleans()) else None
        donors.discard(donor)
        result.append(replace(value, kept=kept, donor=donor))
    return result


@st.composite
def schedules(draw, workload: Workload) -> tuple[int, ...]:
    """Every step in order, and between them some of the earlier steps again."""
    schedule: list[int] = []
    for k in range(len(workload.steps)):
        schedule.append(k)
        if draw(st.booleans()):
            schedule.append(draw(st.integers(0, k)))
    return tuple(schedule)
