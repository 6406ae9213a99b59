"""Checkpoints: what comes back is what was saved, and a kill at any moment harms nothing."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import pullback as pb
from pullback.ir.types import DTYPES
from pullback.train import Checkpoints, load, load_notes, load_safetensors, save
from pullback.train.safetensors import packed, read, unpacked
from pullback.transforms.tree import flatten, map_leaves

KEY = pb.random.key(3)


class Slots(NamedTuple):
    moment: Any
    count: int


class Model(pb.nn.Module):
    blocks: tuple[pb.nn.Linear, ...]
    table: dict[str, pb.Array]
    name: str


def model(key=KEY):
    blocks = tuple(pb.nn.Linear(3, 3, key=pb.random.fold_in(key, i)) for i in range(2))
    return Model(blocks, {"a b": pb.random.normal(key, (2, 0, 3)), "c": pb.ones(())}, "m")


def same(one, other):
    (a, left), (b, right) = flatten(one), flatten(other)
    assert left == right
    for x, y in zip(a, b, strict=True):
        assert type(x) is type(y)
        if isinstance(x, pb.Array | np.ndarray):
            assert x.dtype == y.dtype
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
        else:
            assert repr(x) == repr(y)


def test_every_element_type(tmp_path):
    tree = {str(t): pb.asarray(np.array([[0, 1], [1, 0], [1, 1]]).astype(t)) for t in DTYPES}
    special = np.array([np.nan, -np.inf, -0.0, 5e-324])
    tree |= {"special": pb.asarray(special), "numpy": np.arange(6)[::2]}
    save(tmp_path / "x", tree)
    same(load(tmp_path / "x", tree), tree)


def test_trees_and_notes(tmp_path):
    tree = (model(), [Slots(model(), 5), {"lr": 0.1, "on": True, "bad": float("inf")}, KEY, None])
    loader = pb.train.DataLoader(np.arange(9), 2)
    next(iter(loader))
    notes = {"loader": loader.state(), "config": {"sizes": [1, 2], "text": "é", "none": None}}
    save(tmp_path / "x", tree, **notes)
    blank = map_leaves(lambda x: x if isinstance(x, bool | int | float) else 0 * x, tree)
    same(load(tmp_path / "x", blank), tree)
    assert load_notes(tmp_path / "x") == notes
    names = load_safetensors(tmp_path / "x")
    assert "[0].blocks[1].weight" in names
    assert "[1][0].moment.table['a b']" in names


def test_a_single_array(tmp_path):
    save(tmp_path / "x", pb.arange(3))
    same(load(tmp_path / "x", pb.arange(3) * 0), pb.arange(3))


def test_a_donated_state_is_saved_between_steps(tmp_path):
    optimizer = pb.optim.adam(0.1)

    def step(state, x):
        layer, slots = state
        grads = pb.grad(lambda layer: pb.mean(layer(x) ** 2))(layer)
        updates, slots = optimizer.update(grads, slots, layer)
        return pb.optim.apply_updates(layer, updates), slots

    x = np.ones((2, 3), np.float32)
    layer = pb.nn.Linear(3, 3, key=KEY)
    like = (layer, optimizer.init(layer))
    fresh = lambda: map_leaves(lambda a: pb.asarray(a, copy=True), like)
    program = pb.compile(step, donate=0)
    state = program(fresh(), x)
    save(tmp_path / "x", state, step=1)  # nothing has looked into it
    state = program(program(state, x), x)
    resumed = load(tmp_path / "x", like)
    resumed = program(program(resumed, x), x)
    same(resumed, state)
    save(tmp_path / "y", state)
    same(load(tmp_path / "y", resumed), state)


def test_the_format_is_safetensors(tmp_path):
    """Both ways with the format's own package."""
    library = pytest.importorskip("safetensors.numpy")
    arrays = {
        "f": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([True, False, True]),
        "h": np.array(1.5, np.float16),
        "i": np.zeros((0, 4), np.int64),
    }
    theirs = library.load(packed(arrays, {"k": "v"}))
    ours = unpacked(library.save(arrays, {"k": "v"}))
    for name, array in arrays.items():
        for got in (theirs[name], ours.arrays[name]):
            assert got.dtype == array.dtype
            np.testing.assert_array_equal(got, array)
    assert ours.metadata == {"k": "v"}


def test_what_is_kept(tmp_path):
    kept = Checkpoints(tmp_path, keep=2)
    losses = [0.9, 0.3, 0.5, float("nan"), 0.3, 0.8]
    for step, loss in enumerate(losses):
        kept.save(step, {"w": pb.full((2,), float(step))}, metric=loss, epoch=step // 2)
    assert [each.step for each in kept.all()] == [1, 4, 5]
    assert (kept.best().step, kept.last().step) == (1, 5)
    tree, notes = kept.load(kept.best(), {"w": pb.zeros(2)})
    assert tree["w"].tolist() == [1.0, 1.0]
    assert notes == {"epoch": 0}
    largest = Checkpoints(tmp_path, keep=2, largest_is_best=True)
    assert largest.best().step == 5


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / ".step-00000007.safetensors.123.tmp"
    left.write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    kept = Checkpoints(tmp_path)
    assert kept.all() == []
    kept.save(8, {"w": pb.zeros(2)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "step-00000008.safetensors"]


KILLED = """
import os, random, signal, sys, time
import numpy as np
from pathlib import Path
from pullback.train import Checkpoints, load, load_notes, save

folder = Path(sys.argv[1])
one, kept = folder / "one.safetensors", Checkpoints(folder / "kept", keep=2)

def tree(step):
    return {"a": np.full(60_000, step), "b": np.full((3, 10_000), step, np.float32)}

def write(step):
    while True:
        step += 1
        save(one, tree(step), step=step)
        kept.save(step, tree(step), metric=1 / step)

draw = random.Random(0)
step = 1
reached = {folder: 1, kept.folder: 1}
save(one, tree(step), step=step)
kept.save(step, tree(step))
for _ in range(20):
    child = os.fork()
    if child == 0:
        write(step)
    time.sleep(draw.uniform(0.001, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    for path in (kept.last().path, one):
        step = load_notes(path)["step"]
        found = load(path, tree(0))
        assert step >= reached[path.parent]
        reached[path.parent] = step
        assert all((found[name] == x).all() for name, x in tree(step).items())
    left = len(list(folder.glob(".*.tmp")) + list(folder.glob("kept/.*.tmp")))
    print(step, left, flush=True)
assert len(kept.all()) <= 4
"""


def test_a_kill_leaves_the_old_one_or_the_new_one(tmp_path):
    """Twenty kills at random moments of a loop of saves; some leave half a temporary file."""
    environment = {**os.environ, "PYTHONPATH": str(Path(pb.__file__).parents[1])}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    shown = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    rounds = [[int(x) for x in line.split()] for line in shown.stdout.splitlines()]
    assert len(rounds) == 20
    assert rounds[-1][0] > 1  # the loops got somewhere
    assert any(left for _, left in rounds)  # and were hit within a write


def test_a_failed_write_leaves_the_old_one(tmp_path, monkeypatch):
    save(tmp_path / "x", {"w": pb.zeros(2)}, step=1)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(pb.errors.ArgumentError, match="No space left"):
        save(tmp_path / "x", {"w": pb.ones(2)}, step=2)
    assert load_notes(tmp_path / "x") == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_random_damage_is_refused_or_harmless():
    """Whatever bytes a file has, reading it gives arrays or a FileFormatError."""
    good = packed({"w": np.arange(4.0), "b": np.array([True])}, {"pullback": "{}"})
    draw = random.Random(1)
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(draw.randint(1, 3)):
            bad[draw.randrange(len(bad))] = draw.randrange(256)
        cut = draw.choice([len(bad), draw.randrange(len(bad))])
        with contextlib.suppress(pb.errors.FileFormatError):
            unpacked(bytes(bad[:cut]))


def test_arrays_of_a_file_are_their_own(tmp_path):
    save(tmp_path / "x", {"w": pb.arange(4)})
    array = read(tmp_path / "x").arrays["['w']"]
    assert array.flags.aligned
    assert array.base is None or array.base.nbytes == array.nbytes


def test_resuming_is_never_having_stopped(tmp_path):
    """Stopped within an epoch, from files alone: the same bits as without the stop."""
    optimizer = pb.optim.adam(0.01)

    def train(state, x, y):
        model, slots, key = state
        noise = pb.random.normal(pb.random.fold_in(key, 0), x.shape)

        def loss(model):
            return pb.nn.mse(model(x + 0.1 * noise), y)

        value, grads = pb.value_and_grad(loss)(model)
        updates, slots = optimizer.update(grads, slots, model)
        return (pb.optim.apply_updates(model, updates), slots, pb.random.fold_in(key, 1)), value

    step = pb.compile(train, donate=0)
    x = np.random.default_rng(0).normal(size=(26, 4)).astype(np.float32)

    def begin():
        model = pb.nn.MLP(4, 1, 8, 1, key=pb.random.key(0))
        state = (model, optimizer.init(model), pb.random.key(1))
        copied = map_leaves(lambda a: pb.asarray(a, copy=True), state)
        return copied, pb.train.DataLoader((x, x[:, :1]), 5, seed=2)

    def run(state, loader, steps):
        values = []
        while len(values) < steps:
            for batch in loader:
                state, value = step(state, *batch)
                values.append(value.item())
                if len(values) == steps:
                    break
        return state, values

    expected, losses = run(*begin(), 12)
    state, loader = begin()
    state, before = run(state, loader, 7)
    kept = Checkpoints(tmp_path)
    kept.save(7, state, loader=loader.state())
    del state
    like, loader = begin()
    state, notes = kept.load(kept.last(), like)
    loader.restore(notes["loader"])
    assert (loader.epoch, loader.batch) == (1, 2)
    state, after = run(state, loader, 5)
    assert before + after == losses
    same(state, expected)
