"""Laws of memory plans, on random workloads with views, takeovers, donors and repeated steps."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from pullback.errors import MemoryPlanError
from pullback.schedule.memory import Workload, evaluate, lifetimes
from pullback.schedule.packing import ALIGNMENT, Intervals, pack, require_disjoint
from workloads.invented import schedules, workloads
from workloads.simulator import Simulator

MANY = settings(max_examples=150, deadline=None)


@st.composite
def intervals(draw, most: int = 40) -> Intervals:
    row = st.tuples(st.integers(0, 20), st.integers(1, 10), st.integers(0, 40))
    rows = draw(st.lists(row, max_size=most))
    return Intervals.of([(start, start + n, 64 * size) for start, n, size in rows])


@MANY
@given(intervals())
def test_a_packing_is_disjoint_aligned_and_not_below_the_bound(buffers):
    packing = pack(buffers)
    require_disjoint(buffers, packing)
    assert not (packing.offsets % ALIGNMENT).any()
    assert packing.size >= buffers.max_live
    assert packing.size == (packing.offsets + buffers.sizes).max(initial=0)


@MANY
@given(intervals())
def test_the_bound_is_the_fullest_step(buffers):
    rows = list(zip(buffers.starts, buffers.ends, buffers.sizes, strict=True))
    live = [sum(size for start, end, size in rows if start <= t < end) for t in range(31)]
    assert buffers.max_live == max(live)
    assert buffers.live_bytes(31).tolist() == live


@MANY
@given(intervals(), st.data())
def test_fewer_buffers_never_raise_the_bound(buffers, data):
    kept = data.draw(st.lists(st.booleans(), min_size=len(buffers), max_size=len(buffers)))
    fewer = buffers.take(np.flatnonzero(np.array(kept, bool)))
    assert fewer.max_live <= buffers.max_live


@MANY
@given(intervals(most=12), st.integers(0, 11), st.integers(0, 11))
def test_the_sweep_finds_what_a_comparison_of_all_pairs_finds(buffers, i, j):
    packing = pack(buffers)
    if max(i, j) < len(buffers):
        packing.offsets[i] = packing.offsets[j]
    ends = packing.offsets + buffers.sizes

    def together(a, b):
        in_time = buffers.starts[a] < buffers.ends[b] and buffers.starts[b] < buffers.ends[a]
        in_room = packing.offsets[a] < ends[b] and packing.offsets[b] < ends[a]
        return in_time and in_room and buffers.sizes[a] and buffers.sizes[b]

    pairs = any(together(a, b) for a in range(len(buffers)) for b in range(a))
    if pairs or ends.max(initial=0) > packing.size:
        with pytest.raises(MemoryPlanError):
            require_disjoint(buffers, packing)
    else:
        require_disjoint(buffers, packing)


@MANY
@given(st.data())
def test_no_value_is_lost_on_real_bytes_and_the_peak_is_exact(data):
    workload = data.draw(workloads())
    plan = evaluate(workload, data.draw(schedules(workload)))
    require_disjoint(plan.lifetimes.buffers, plan.packing)
    played = Simulator(plan)
    played.run()
    assert played.high_water == plan.arena_bytes
    assert plan.lower_bound == max(plan.live_bytes)
    assert sum(x.bytes for x in plan.at_peak()) == plan.lower_bound


@MANY
@given(st.data())
def test_without_sharing_the_bound_is_that_of_the_plain_rules(data):
    sharing = data.draw(workloads())
    workload = Workload(
        tuple([replace(v, donor=None) for v in sharing.values]),
        tuple([replace(s, in_place=()) for s in sharing.steps]),
    )
    schedule = data.draw(schedules(workload))
    assert lifetimes(workload, schedule).max_live == plain_peak(workload, schedule)
    assert lifetimes(sharing, schedule).max_live <= plain_peak(workload, schedule)


def plain_peak(workload, schedule):
    """Step by step: alive is what is read or written now, or read before it is written again."""
    root, most = workload.roots, 0
    reads = [{root[i] for i in workload.steps[k].reads} for k in schedule]
    writes = [{i for i in workload.steps[k].writes if root[i] == i} for k in schedule]
    kept = set(workload.kept)
    for t, k in enumerate(schedule):
        alive = {i for i in reads[t] | writes[t] if not workload.values[i].resident}
        for i in set().union(*writes[:t]):
            later = range(t, len(schedule))
            read = next((u for u in later if i in reads[u]), len(schedule))
            written = next((u for u in later if i in writes[u]), len(schedule))
            if read < written or (i in kept and written == len(schedule)):
                alive.add(i)
        size = sum(-(-workload.values[i].bytes // 64) * 64 for i in alive)
        most = max(most, size + -(-workload.steps[k].scratch // 64) * 64)
    return most


@MANY
@given(st.data())
def test_a_step_before_what_it_reads_is_refused_by_name(data):
    workload = data.draw(workloads())
    k = data.draw(st.integers(0, len(workload.steps) - 1))
    schedule = [i for i in range(len(workload.steps)) if i != k]
    lost = set(workload.writes[k])
    readers = [i for i in schedule if lost & set(workload.reads[i])]
    if readers:
        with pytest.raises(MemoryPlanError) as caught:
            lifetimes(workload, schedule)
        assert repr(workload.steps[readers[0]].label) in str(caught.value)
        assert repr(workload.steps[k].label) in str(caught.value)
    elif lost & set(workload.kept):
        with pytest.raises(MemoryPlanError, match="no step of the schedule makes 'value"):
            lifetimes(workload, schedule)
    else:
        lifetimes(workload, schedule)


@MANY
@given(st.data())
def test_running_a_step_again_at_the_end_changes_only_what_is_alive_then(data):
    workload = data.draw(workloads())
    plain = tuple(range(len(workload.steps)))
    again = evaluate(workload, (*plain, data.draw(st.integers(0, len(plain) - 1))))
    assert again.lifetimes.cost >= evaluate(workload).lifetimes.cost
    Simulator(again).run()
