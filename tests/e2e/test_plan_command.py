"""`pullback plan`, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

testing = pytest.importorskip("click.testing")
for package in ("jinja2", "matplotlib", "rich"):
    pytest.importorskip(package)

ROOT = Path(__file__).parents[2]
NET = """
import pullback as pb

def loss(model, x, y):
    return pb.nn.mse(model(x), y)

def make(batch=16):
    model = pb.nn.MLP(5, 3, 32, 2, key=pb.random.key(0))
    return model, loss, (pb.ones((batch, 5)), pb.zeros((batch, 3))), pb.optim.sgd(0.1)

def fixed():
    weights = pb.ones(3)
    model = pb.nn.Linear(5, 3, key=pb.random.key(0))
    return model, lambda m, x: pb.mean(m(x) * weights), pb.ones((4, 5))

def huge(batch=1):
    model = pb.nn.Linear(10**7, 10**6, key=pb.random.key(0))
    return model, loss, (pb.ones((batch, 10**7)), pb.zeros((batch, 10**6)))
"""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)


def invoke(*arguments):
    from pullback.cli.commands import root

    return testing.CliRunner().invoke(root, ["plan", *[str(each) for each in arguments]])


def told(*arguments):
    shown = invoke(*arguments)
    assert shown.exit_code == 0, shown.output
    return shown.output


def numbers(*arguments):
    return json.loads(told(*arguments, "--threads", "1", "--json"))


def test_the_parts_are_the_peak_to_the_byte():
    plan = numbers("net.py", "--batch", "64", "--points", "4")
    assert sum(plan["resident"].values()) == plan["resident_bytes"]
    assert sum(plan["arena"].values()) == plan["arena_bytes"]
    assert plan["peak_bytes"] == plan["resident_bytes"] + plan["arena_bytes"]
    assert plan["lower_bound"] <= plan["arena_bytes"]
    assert plan["resident"]["parameters"] >= 4 * (5 * 32 + 32 * 32 + 32 * 3)
    assert all("net.py" in x["source"] and x["again"] > 0 for x in plan["saved"])
    slowdowns = [x["slowdown"] for x in plan["curve"]]
    assert slowdowns == sorted(slowdowns, reverse=True)
    assert slowdowns[-1] == 0


def test_the_page_fits_a_terminal_and_names_the_users_lines():
    page = told("net.py", "--batch", "64", "--rows", "3", "--points", "2")
    assert max(map(len, page.splitlines())) <= 80
    for line in ("a step holds", "parameters", "net.py:5 in loss", "other budgets", "the arena"):
        assert line in page
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "ascii"}
    script = "from pullback.cli import main; main()"
    command = [sys.executable, "-c", script, "plan", "net.py", "--points", "0"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.isascii()


def test_a_budget_is_met_and_the_largest_batch_fits_it():
    free = numbers("net.py", "--batch", "512", "--points", "0")
    limit = free["peak_bytes"] - 10_000
    chosen = ["net.py", "--memory", f"{limit}B", "--points", "0"]
    held = numbers(*chosen, "--batch", "512", "--largest")
    assert held["peak_bytes"] <= limit
    assert held["slowdown"] > held["slowdown_with_100_mb_more"] == 0
    (_, most), (_, more) = [x.values() for x in held["largest_batch"]]
    assert 512 <= most < more
    assert numbers(*chosen, "--batch", most)["peak_bytes"] <= limit


def test_a_model_larger_than_any_machine_is_planned_and_one_that_needs_its_numbers():
    plan = numbers("net.py:huge", "--points", "0", "--precision", "bf16")
    assert plan["resident"]["parameters"] >= 4 * 10**13
    assert plan["notes"] == []
    plan = numbers("net.py:fixed", "--points", "0", "--batch", "7")
    assert plan["notes"] == ["its code asks for numbers: the model was made in full"]
    assert plan["batch"] == 7


def test_data_a_configuration_and_the_networks_of_the_benchmark():
    mlp = ["--model", "mlp", "--points", "0"]
    assert "1,437 training" in told("digits", *mlp)
    Path("run.toml").write_text('source = "digits"\n[model]\nname = "mlp"\nwidth = 7\n')
    assert "width 7" in told("--config", "run.toml", "--points", "0", "--batch", "96")
    with Path("run.toml").open("a") as file:
        file.write('[training]\nbatch_size = 40\nmemory = "9 MB"\n')
    plan = numbers("--config", "run.toml", "--points", "0")
    assert (plan["batch"], plan["memory"]) == (40, 9_000_000)
    Path("poem.txt").write_text("the rain it raineth every day\n" * 40)
    assert numbers("poem.txt", "--layers", "1", "--context", "8", "--points", "0")["batch"] == 12
    small = ["--layers", "1", "--width", "12", "--heads", "2", "--context", "8", "--points", "0"]
    assert "blocks[*].attention" in told("gpt", *small, "--rows", "30")
    for name in ("lstm", "mlp_small"):
        assert numbers(name, "--batch", "2", "--points", "0")["peak_bytes"] > 0


def test_pictures():
    for name, begin in (("a.svg", b"<svg"), ("a.png", b"\x89PNG"), ("a.html", b"<!doctype")):
        points = 3 if name == "a.html" else 0
        told("net.py", "--batch", "64", "--points", points, "--out", name)
        assert Path(name).read_bytes().startswith(begin)
    page = Path("a.html").read_text()
    assert page.count("<svg") == 1
    assert "data:image/png" in page


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "SOURCE is missing"),
        (["nothing"], 2, "there is no file or folder 'nothing'"),
        (["net.py:other"], 2, "net.py has no function 'other'"),
        (["net.py", "--memory", "much"], 2, "no number of bytes"),
        (["net.py", "--memory", "1kB"], 1, "the least that this program can do with is"),
        (["net.py", "--largest"], 2, "--largest needs --memory"),
        (["net.py", "--layers", "3"], 2, "--layers is for the networks of this package"),
        (["net.py", "--tokens", "bytes"], 2, "--tokens is for data"),
        (["net.py", "--accumulate", "3"], 2, "--batch 16 does not divide"),
        (["net.py", "--out", "plan.pdf"], 2, "--out is a .html"),
        (["lstm", "--layers", "3"], 2, "the network lstm has no --layers"),
        (["gpt", "--heads", "5"], 2, "does not divide into --heads 5"),
    ],
)
def test_what_makes_no_sense_is_told(arguments, code, said):
    shown = invoke(*arguments)
    assert shown.exit_code == code, shown.output
    assert said in " ".join(shown.output.split())


def test_a_refusal_names_no_line_of_the_command_itself():
    shown = invoke("mlp", "--memory", "100kB")
    assert shown.exit_code == 1
    assert "contract" in shown.output
    assert ".py:" not in shown.output
