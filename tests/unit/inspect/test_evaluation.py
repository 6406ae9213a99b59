"""A sample of the evaluation set: its programs, its judgement, what is said of three of them."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from benchmarks.faults import baselines, run, table  # noqa: E402
from benchmarks.faults.sets import half, load  # noqa: E402

PROGRAMS = load()


def test_the_set_is_as_large_as_it_says():
    faulty = [x for x in PROGRAMS.values() if x.kind]
    assert len(faulty) >= 100
    assert len({x.kind for x in faulty}) >= 60
    assert len(PROGRAMS) - len(faulty) >= 35
    for each in faulty:
        assert each.rules
        assert not PROGRAMS[each.healthy].kind
        assert half(each.name) in ("calibration", "unseen")


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
