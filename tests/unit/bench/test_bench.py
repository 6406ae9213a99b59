"""The benchmark's machinery: processes, turns, tables, limits, the command."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from pullback.bench import run as runs
from pullback.bench import turns
from pullback.bench.machine import Machine, work
from pullback.bench.models import MLP
from pullback.bench.table import as_numbers, show
from pullback.bench.turns import OWN, Cell, Contender, Failure, Line, running, time_task
from pullback.bench.workloads import SCALING, SMALL, SUITE, TASKS, Training

HERE = str(Path(__file__).parent)


def contender(name):
    return Contender(name, f"contenders:{name}", "numpy")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The workers find this package and the contenders of the tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, *filter(None, sys.path)]))
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture
def machine():
    return SimpleNamespace(threads=1, flops=1e11, bandwidth=1e10, measure=lambda: None)


def test_contenders_take_turns_and_failures_are_told(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(turns, "OWN", Contender("pullback", "contenders:eager", "numpy"))
    bad = [contender(name) for name in ("failing", "dying")]
    chosen = [turns.OWN, contender("sleeper"), *bad, Contender("absent", "nowhere:f", "numpy")]
    line = time_task("small mlp", chosen, machine, 3, 0.01, tmp_path)
    cells = line.cells
    assert len(cells["pullback"].turns) == len(cells["sleeper"].turns) == 3
    assert 0.001 <= cells["sleeper"].median < 0.1
    assert line.warm is not None
    assert cells["failing"].failure == "first: ValueError: cannot do that"
    assert "ended with code -6: a last word" in cells["dying"].failure
    assert "No module named 'nowhere'" in cells["absent"].failure
    if Path("/proc/self/clear_refs").exists():
        assert 3.5e6 < cells["sleeper"].memory < 40e6


def test_a_contender_that_hangs_is_given_up(monkeypatch):
    with running(contender("hanging"), "small mlp", 1, os.environ) as process:
        process.answer("imports")
        monkeypatch.setattr(turns, "PATIENCE", 0.5)
        with pytest.raises(Failure, match="first: no answer in 0 s"):
            process.ask("first")


def test_the_best_of_the_others_and_the_limits(machine):
    cells = {"pullback": Cell([0.2, 0.1, 0.3]), "a": Cell([0.4]), "b": Cell([0.3]), "c": Cell()}
    line = Line("x", cells, flops=10**10, bytes=10**7)
    assert line.speedup == pytest.approx(1.5)
    assert line.limit(machine) == (0.1, "arithmetic")
    assert Line("x", cells, 10**7, 10**9).limit(machine) == (0.1, "memory")
    assert Line("x", {"pullback": Cell([1.0])}, 1, 1).speedup is None


def test_tables_and_numbers(machine):
    cells = {"pullback": Cell([0.2, 0.1], 0.5, 10**6), "a": Cell(failure="first: it broke")}
    lines = [Line("mlp", cells, 10**10, 10**7, warm=0.1, predicted=2 * 10**6)]
    text = io.StringIO()
    show(Console(file=text, width=120), lines, machine)
    for part in (
        "150 ±",
        "100 arithmetic",
        "0.50",
        "0.10",
        "2.0",
        "1.0",
        "mlp, a: first: it broke",
    ):
        assert part in text.getvalue()
    numbers = json.loads(json.dumps(as_numbers(lines, machine)))
    assert numbers["lines"][0]["cells"]["pullback"]["turns"] == [0.2, 0.1]
    assert numbers["machine"]["flops"] == machine.flops


def test_work_counts_what_is_needed():
    task = Training(MLP((784, 512, 512, 10), 128))
    flops, moved = work(task)
    products = 2 * 128 * (784 * 512 * 2 + 512 * 512 * 3 + 512 * 10 * 3)
    parameters = 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10
    assert products < flops < 1.1 * products
    assert moved == pytest.approx(4 * (6 * parameters + 128 * 784), rel=0.01)


def test_a_machine_has_peaks():
    machine = Machine(1)
    machine.measure()
    assert 1e9 < machine.flops < 1e12
    assert 1e8 < machine.bandwidth < 1e12


def test_absent_libraries_are_named(monkeypatch):
    monkeypatch.setattr(runs, "PEERS", (Contender("other", "nowhere:f", "nowhere"),))
    text = io.StringIO()
    assert runs.present(Console(file=text)) == [OWN]
    assert text.getvalue().startswith("without other")
    assert runs.present(Console(file=text), ["other"]) == [OWN]


def test_every_task_of_the_suite_has_a_small_form():
    named = {"mlp_small", "mlp_big"}
    assert set(SUITE) - named <= set(SMALL)
    assert len(TASKS) == len(SUITE) + len(SCALING) + len(SMALL)


def test_the_command_explains_itself():
    click = pytest.importorskip("click.testing")
    from pullback.cli.commands import root

    shown = click.CliRunner().invoke(root, ["bench", "--help"])
    assert shown.exit_code == 0
    assert "--only" in shown.output
    refused = click.CliRunner().invoke(root, ["bench", "--only", "nothing"])
    assert refused.exit_code == 2


def test_what_was_measured_is_told_before_the_run_ends(machine, tmp_path, monkeypatch):
    def time_task(name, *_):
        if name == "gpt":
            raise KeyboardInterrupt
        return Line(name, {"pullback": Cell([0.2, 0.1]), "a": Cell([0.3])}, 10**10, 10**7)

    monkeypatch.setattr(runs, "PEERS", ())
    monkeypatch.setattr(runs, "Machine", lambda threads: machine)
    monkeypatch.setattr(runs, "time_task", time_task)
    text, path = io.StringIO(), tmp_path / "new" / "steps.json"
    choice = runs.Choice(only=("mlp", "gpt", "cnn"), json=path)
    lines = runs.run(choice, Console(file=text, width=120))
    assert [line.task for line in lines] == ["mlp"]
    for part in ("mlp: pullback 150 ±17 %, a 300", "stopped: gpt, cnn not measured", "2.00×"):
        assert part in text.getvalue()
    assert json.loads(path.read_text())["lines"][0]["task"] == "mlp"
