"""A sample of the evaluation set: its programs, its judgement, what is said of three of them."""

import csv
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

import benchmarks.faults.final.bites as final  # noqa: E402
import benchmarks.faults.fresh.bites as fresh  # noqa: E402
import benchmarks.faults.pairs.bites as pairs  # noqa: E402
from benchmarks.faults import baselines, run, table  # noqa: E402
from benchmarks.faults.sets import SETS, load, set_of  # noqa: E402
from benchmarks.faults.training import begin  # noqa: E402

PROGRAMS = load()


@pytest.mark.parametrize(
    ("which", "faults", "kinds", "healthy"),
    [
        ("calibration", 100, 60, 35),
        ("fresh", 65, 52, 33),
        ("reserve", 64, 56, 17),
        ("trial", 93, 79, 39),
        ("final", 97, 85, 60),
        ("shown", 89, 89, 54),
        ("held", 89, 89, 51),
    ],
)
def test_a_set_is_as_large_as_it_says(which, faults, kinds, healthy):
    faulty = [x for x in load(which).values() if x.kind]
    assert len(faulty) >= faults
    assert len({x.kind for x in faulty}) >= kinds
    assert len(load(which)) - len(faulty) >= healthy
    for each in faulty:
        other = PROGRAMS[each.healthy]
        assert each.rules
        assert not other.kind
        assert set_of(each) == "calibration" or set_of(other) != "calibration"
    assert sum(len(load(each)) for each in SETS) == len(PROGRAMS)


@pytest.mark.parametrize(
    ("which", "bites", "least"),
    [("fresh,reserve", fresh, 0.8), ("final", final, 0.8), ("shown,held", pairs, 0.5)],
)
def test_every_fault_of_an_unseen_set_bites(which, bites, least):
    rows = list(csv.DictReader(bites.TABLE.read_text().splitlines()))
    assert {x["program"] for x in rows} == {*load(which)}
    for row in rows:
        healthy, faulty = float(row["healthy"]), float(row["faulty"] or "nan")
        assert healthy > least
        assert not faulty > healthy - bites.LEAST, row


def test_of_each_pair_one_is_shown_and_one_is_held():
    kinds = [{x.kind for x in load(each).values() if x.kind} for each in ("shown", "held")]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("name", ["ratings_broadcast", "series_ones", "update_not_kept"])
def test_a_fresh_program_takes_two_steps(name):
    setup = PROGRAMS[name].make(0)
    assert len(PROGRAMS[name].lines) == (name != "series_ones")
    state, step = begin(setup)
    stream = setup.stream(0)
    for _ in range(2):
        state, _ = step(state, *next(stream))


@pytest.mark.parametrize("name", ["softmax_twice", "stopped", "where_trap"])
def test_a_fault_is_named_with_its_line(name):
    program = PROGRAMS[name]
    record = run.evaluate(program, 0, ["preflight"]) | {"baselines": {}}
    said = table.verdict(record, program, "preflight alone")
    assert said.first_is(program), said
    assert said.place_is(), said


def test_a_healthy_program_is_left_in_peace():
    program = PROGRAMS["plane_linear"]
    record = run.evaluate(program, 0, ["preflight", "doctor"])
    assert not table.verdict(record, program, "pullback").alarms


def test_the_rules_of_other_tools():
    layer = {
        "name": "layers[0]", "finite": True, "grad_norm": 1e-6, "grad_mean": 1e-9, "grad_zero": 0.0,
        "weight_std": 1.0, "weight_mean": 0.1, "z_min": -1.0, "z_max": 1.0,
    }  # fmt: skip
    last = layer | {"name": "layers[1]", "grad_norm": 1.0, "grad_mean": 0.1}
    look = {"step": 0, "loss": 2.0, "layers": [layer, last], "bare": []}
    seen = {"losses": [2.0] * 20, "scores": [0.1, 0.1], "looks": [look, look], "ratios": []}
    seen["rate"] = 0.1
    said = {name: [x[0] for x in tool(seen)] for name, tool in baselines.TOOLS.items()}
    assert said["AUTOTRAINER"] == ["vanish"]
    assert "VanishingGradient" in said["SageMaker Debugger"]
    assert said["UMLAUT"] == ["learning rate"]
    assert said["DeepLocalize"] == ["weights do not change"]
    assert said["NeuraLint"] == []
