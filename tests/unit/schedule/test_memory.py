"""The evaluator of schedules on small workloads, case by case."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

import pullback as pb
from pullback import _settings
from pullback.errors import MemoryPlanError
from pullback.ir.types import TensorType, float32
from pullback.schedule.memory import Conflict, Place, Step, Value, Workload, evaluate, lifetimes
from pullback.schedule.packing import Intervals, Packing, pack, require_disjoint
from pullback.schedule.picture import bytes_text
from workloads.simulator import Simulator
from workloads.traced import workload as traced


def chain(*, donor: int | None = None, over: bool = False, reader: bool = False) -> Workload:
    """w → h → out, where `out` may take over w; a last step may read w once more."""
    values = (
        Value("w", 256, resident=True),
        Value("h", 256),
        Value("out", 256, kept=True, donor=donor),
        Value("late", 64, kept=True),
    )
    pairs = ((2, 0), (2, 1)) if over else ()
    last = (Step("late", (0,), (3,)),) if reader else (Step("late", (), (3,)),)
    steps = (Step("first", (0,), (1,)), Step("second", (1, 0), (2,), 0, pairs), *last)
    return Workload(values, steps)


# ---- donated state --------------------------------------------------------------------------


def test_an_output_takes_over_its_donor_after_the_last_read():
    plan = evaluate(chain(donor=0, over=True))
    assert plan.writes(1) == (Place(0, resident=0),)
    assert plan.result(2) == Place(0, resident=0)
    assert (plan.conflicts, plan.arena_bytes, plan.peak_bytes) == ((), 256, 512)


@pytest.mark.parametrize(("over", "reader", "step"), [(True, True, 2), (False, False, 1)])
def test_a_later_read_of_the_old_state_is_a_conflict_and_the_output_waits_apart(over, reader, step):
    plan = evaluate(chain(donor=0, over=over, reader=reader))
    assert plan.conflicts == (Conflict(value=2, donor=0, step=step),)
    assert plan.result(2).resident is None
    assert "still reads w" in plan.table()


def test_a_forward_step_run_again_late_moves_the_last_read():
    """The update was safe where it stood, until the recomputed forward reads the parameter."""
    workload = chain(donor=0, over=True)
    assert evaluate(workload, (0, 1, 2)).conflicts == ()
    assert evaluate(workload, (0, 1, 0, 2)).conflicts == (Conflict(2, 0, 2),)
    assert evaluate(workload, (0, 1, 0, 1, 2)).conflicts == ()


# ---- sharing --------------------------------------------------------------------------------


def test_a_pointwise_output_takes_over_an_input_that_dies():
    lives = lifetimes(chain(over=True))
    assert lives.storage[0] == lives.storage[1]
    assert lives.max_live == 256 + 64


def test_a_kept_value_and_one_read_later_are_not_taken_over():
    values = (Value("a", 64, kept=True), Value("b", 64, kept=True), Value("c", 64, kept=True))
    pairs = ((1, 0),)
    steps = (Step("a", (), (0,)), Step("b", (0,), (1,), 0, pairs))
    assert len(lifetimes(Workload(values[:2], steps)).buffers) == 2
    later = (*steps, Step("c", (0,), (2,)))
    values = (Value("a", 64), *values[1:])
    assert len(lifetimes(Workload(values, later)).buffers) == 3


def test_views_live_in_one_buffer_as_long_as_any_of_them():
    values = (Value("a", 640), Value("flat", 640, view_of=0), Value("b", 64, kept=True))
    steps = (Step("a", (), (0,)), Step("flatten", (0,), (1,)), Step("b", (1,), (2,)))
    plan = evaluate(Workload(values, steps))
    assert [(x.label, x.start, x.end) for x in plan.holdings] == [("a", 0, 3), ("b", 2, 3)]
    assert plan.reads(2) == plan.writes(0)
    assert plan.writes(1) == ()


def test_scratch_lives_for_one_step():
    values = (Value("a", 64, kept=True), Value("b", 64, kept=True))
    steps = (Step("a", (), (0,), scratch=1000), Step("b", (), (1,), scratch=1000))
    plan = evaluate(Workload(values, steps))
    assert plan.arena_bytes == plan.lower_bound == 64 + 64 + 1024
    assert plan.freed()[0][0][1] - plan.freed()[0][0][0] == 1024


# ---- steps that run again -------------------------------------------------------------------


def test_an_instance_ends_with_its_own_last_read():
    big, small = 6400, 64
    values = (Value("a", big), Value("b", big), Value("c", small), Value("d", small, kept=True))
    steps = (
        Step("a", (), (0,)),
        Step("c", (0,), (2,)),
        Step("b", (2,), (1,)),
        Step("d", (0, 1), (3,)),
        Step("e", (), ()),
    )
    saved = lifetimes(Workload(values, steps), (0, 1, 2, 4, 3))
    again = lifetimes(Workload(values, steps), (0, 1, 2, 4, 0, 3))
    assert saved.buffers.live_bytes(5).tolist() == [6400, 6464, 12864, 12800, 12864]
    assert again.buffers.live_bytes(6).tolist() == [6400, 6464, 6464, 6400, 12800, 12864]


def test_outputs_that_a_repeated_step_writes_for_nobody_live_for_that_step():
    values = (Value("a", 64), Value("b", 6400), Value("c", 64, kept=True))
    steps = (Step("ab", (), (0, 1)), Step("c", (0, 1), (2,)), Step("d", (0,), ()))
    lives = lifetimes(Workload(values, steps), (0, 1, 0, 2))
    b = [x for x in lives.instances if x.value == 1]
    assert [(x.start, x.end) for x in b] == [(0, 2), (2, 3)]


# ---- what is refused ------------------------------------------------------------------------

A, B = Value("a", 64), Value("b", 64)
W = Value("w", 64, resident=True)


@pytest.mark.parametrize(
    ("values", "steps", "schedule"),
    [
        ((A, B), (Step("f", (), (0,)), Step("g", (0,), (1,))), (1, 0)),
        ((A,), (Step("f", (0,), ()),), None),
        ((A,), (Step("f", (), (0,)),), (0, 3)),
        ((A,), (Step("print", (), (0,), repeatable=False),), (0, 0)),
        ((Value("loss", 4, kept=True),), (Step("f", (), (0,)),), ()),
        ((A,), (Step("f", (), (0,)), Step("g", (), (0,))), None),
        ((W,), (Step("f", (), (0,)),), None),
        ((A,), (Step("f", (0,), (0,)),), None),
        ((A,), (Step("f", (2,), (0,)),), None),
        ((A,), (Step("f", (), (0,), scratch=-1),), None),
        ((A, B), (Step("f", (0,), (1,), in_place=((0, 1),)),), None),
        ((Value("a", -4),), (), None),
        ((Value("a", 64, view_of=1), B), (), None),
        ((W, Value("new", 64, donor=0)), (), None),
        ((A, Value("new", 64, kept=True, donor=0)), (), None),
        ((W, Value("new", 128, kept=True, donor=0)), (), None),
        ((Value("w", 64, True, True), Value("new", 64, kept=True, donor=0)), (), None),
        ((W, *[Value(f"new {i}", 64, kept=True, donor=0) for i in range(2)]), (), None),
    ],
)
def test_a_senseless_workload_or_schedule_is_named(values, steps, schedule, golden, request):
    with pytest.raises(MemoryPlanError) as caught:
        lifetimes(Workload(values, steps), schedule)
    name = request.node.callspec.id.split("-")[0].replace("values", "")
    golden(f"memory_refused_{int(name):02}", str(caught.value))


def test_overlaps_are_found_in_use_when_checks_are_on(monkeypatch):
    broken = lambda buffers: Packing(1 << 20, pack(buffers).offsets * 0)
    monkeypatch.setattr("pullback.schedule.memory.pack", broken)
    with _settings.override(check=0):
        evaluate(chain())
    with _settings.override(check=1), pytest.raises(MemoryPlanError, match="overlap at step 1"):
        evaluate(chain())


@pytest.mark.parametrize("offset", [-64, 32, 1024])
def test_an_offset_outside_or_unaligned_is_refused(offset):
    buffers = Intervals.of([(0, 1, 64)])
    packing = Packing(1024, pack(buffers).offsets + offset)
    with pytest.raises(MemoryPlanError, match="outside the arena or unaligned"):
        require_disjoint(buffers, packing)


# ---- reports --------------------------------------------------------------------------------


def two_layers() -> Workload:
    def step(w, v, x):
        loss = lambda w, v: pb.mean(pb.tanh(x @ w) @ v)
        return pb.value_and_grad(loss, (0, 1))(w, v)

    kinds = [TensorType(shape, float32) for shape in ((64, 256), (256, 10), (32, 64))]
    return traced(pb.trace(step, *kinds))


def test_the_table_says_what_is_alive_at_the_peak_and_where_it_comes_from(golden):
    table = evaluate(two_layers()).table(6)
    golden(
        "memory_table", "\n".join(line.split("tests/")[0].rstrip() for line in table.split("\n"))
    )
    assert "test_memory.py:" in table


@pytest.mark.parametrize("ascii", [False, True])
def test_the_sketch_fits_the_terminal(golden, ascii):
    sketch = evaluate(two_layers()).sketch(ascii=ascii)
    golden(f"memory_sketch_{'ascii' if ascii else 'shades'}", sketch)
    assert max(map(len, sketch.split("\n"))) <= 80
    assert sketch.isascii() == ascii


def test_the_picture_is_one_box_a_life_each_with_a_title():
    plan = evaluate(two_layers())
    root = ET.fromstring(plan.picture())
    space = "{http://www.w3.org/2000/svg}"
    boxes = [x for x in root.iter(f"{space}rect") if x.get("class") == "b"]
    assert len(boxes) == len([x for x in plan.holdings if x.bytes])
    assert all(x.find(f"{space}title") is not None for x in boxes)
    for box in boxes:
        x, y, width, height = (float(box.get(k)) for k in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + width <= 960.01 and y + height <= 480.01  # noqa: PT018
    assert "offset in the arena" in plan.picture()


def test_a_label_cannot_break_the_picture():
    plan = evaluate(Workload((Value('<"&', 64, kept=True),), (Step("</svg>", (), (0,), 64),)))
    ET.fromstring(plan.picture())


def test_an_empty_program_has_a_plan():
    plan = evaluate(Workload((W,), ()))
    assert (plan.peak_bytes, plan.arena_bytes, plan.freed(), plan.at_peak()) == (64, 0, [], [])
    assert plan.table().startswith("peak")
    assert plan.sketch()
    ET.fromstring(plan.picture())


def test_bytes_read_as_budgets_are_written():
    sizes = (0, 999, 1000, 1_234_567, 512_000_000, 7 * 10**12, 10**16)
    shown = ["0 B", "999 B", "1 kB", "1.235 MB", "512 MB", "7 TB", "1e+04 TB"]
    assert [bytes_text(size) for size in sizes] == shown


def test_a_traced_step_plays_on_real_bytes():
    Simulator(evaluate(two_layers())).run()
