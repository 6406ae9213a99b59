"""Programs under a budget of bytes: they hold it, and not one bit of their results changes."""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest

import pullback as pb
from pullback import nn
from pullback._settings import override
from pullback.backend.program import Memory, Program
from pullback.compile import budget
from pullback.compile.budget import parse_bytes
from pullback.errors import ArgumentError, MemoryPlanError
from pullback.transforms.tree import flatten, unflatten
from unit.compile.test_memory import Watched, require_measured

KEY = pb.random.key(3)
random = np.random.default_rng(4)
POINTS = {"updates": 5, "gradients": 3}


def keys(count):
    return [pb.random.fold_in(KEY, i) for i in range(count)]


def mlp():
    ks = keys(4)
    layers = [x for k in ks for x in (nn.Linear(48, 48, key=k), nn.gelu, nn.Dropout(0.1))]
    model = nn.Sequential(*layers)
    x, y = random.normal(size=(64, 48)).astype(np.float32), random.integers(0, 48, 64)
    return model, lambda m, x, y, key: nn.cross_entropy(m(x, train=True, key=key), y), x, y


def cnn():
    ks = keys(4)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, key=ks[0]),
        nn.relu,
        nn.Conv2d(8, 8, 3, padding=1, key=ks[1]),
        nn.relu,
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, key=ks[2]),
        nn.relu,
        nn.Dropout(0.2),
        lambda x: pb.reshape(x, (4, -1)),
        nn.Linear(16 * 36, 10, key=ks[3]),
    )
    x = random.normal(size=(4, 3, 12, 12)).astype(np.float32)
    y = random.integers(0, 10, 4)
    return model, lambda m, x, y, key: nn.cross_entropy(m(x, train=True, key=key), y), x, y


class Gpt(nn.Module):
    embedding: nn.Embedding
    blocks: tuple[nn.TransformerBlock, ...]
    head: nn.Linear

    def __call__(self, tokens, key):
        x = self.embedding(tokens)
        for i, block in enumerate(self.blocks):
            x = block(x, train=True, key=pb.random.fold_in(key, i))
        return self.head(x)


def gpt():
    ks = keys(5)
    blocks = tuple(nn.TransformerBlock(16, 2, dropout=0.1, key=k) for k in ks[:3])
    model = Gpt(nn.Embedding(20, 16, key=ks[3]), blocks, nn.Linear(16, 20, key=ks[4]))
    x, y = random.integers(0, 20, (2, 12)), random.integers(0, 20, (2, 12))
    return model, lambda m, x, y, key: nn.cross_entropy(m(x, key), y), x, y


class Lstm(nn.Module):
    layer: nn.LSTM
    dropout: nn.Dropout
    head: nn.Linear

    def __call__(self, x, key):
        x, _ = self.layer(x)
        return self.head(self.dropout(x, train=True, key=key)[:, -1])


def lstm():
    first, last = keys(2)
    model = Lstm(nn.LSTM(12, 12, key=first), nn.Dropout(0.1), nn.Linear(12, 5, key=last))
    x, y = random.normal(size=(6, 9, 12)).astype(np.float32), random.integers(0, 5, 6)
    return model, lambda m, x, y, key: nn.cross_entropy(m(x, key), y), x, y


MODELS = {"mlp": mlp, "cnn": cnn, "gpt": gpt, "lstm": lstm}


def gradients(loss, model, x, y, key):
    return pb.value_and_grad(loss)(model, x, y, key)


def trained(loss, state, x, y, key):
    model, moments = state
    value, grads = pb.value_and_grad(loss)(model, x, y, key)
    updates, moments = OPTIMIZER.update(grads, moments, model)
    return (pb.optim.apply_updates(model, updates), moments), value


OPTIMIZER = pb.optim.adam(0.01)


def bits(tree):
    return [np.asarray(x).tobytes() for x in flatten(tree)[0]]


def case(name, stage):
    """A function, what it donates, and its arguments, made anew."""
    model, loss, x, y = MODELS[name]()
    if stage == "gradients":
        return partial(gradients, loss), (), lambda: (model, x, y, KEY)

    def arguments():
        leaves, form = flatten(model)
        copy = unflatten(form, [x + 0 for x in leaves])
        return (copy, OPTIMIZER.init(copy)), x, y, KEY

    return partial(trained, loss), 0, arguments


@pytest.mark.parametrize("stage", ["gradients", "updates"])
@pytest.mark.parametrize("name", MODELS)
def test_no_budget_changes_a_bit(name, stage):
    f, donate, arguments = case(name, stage)
    free = pb.compile(f, donate=donate, threads=1)
    wanted = bits(free(*arguments()))
    plan = free.lower(*arguments()).plan
    least = least_of(f, donate, arguments())
    assert least < plan.peak_bytes
    again = 0
    for limit in np.linspace(least, plan.peak_bytes, POINTS[stage]).astype(int).tolist():
        held = pb.compile(f, donate=donate, threads=1, memory=limit)
        assert bits(held(*arguments())) == wanted
        found = held.lower(*arguments()).plan
        assert found.peak_bytes <= limit
        again += len(found.schedule) - len(plan.schedule)
    assert again > 0


def least_of(f, donate, arguments):
    with pytest.raises(MemoryPlanError) as caught:
        _ = pb.compile(f, donate=donate, threads=1, memory=1).lower(*arguments).plan
    return int(re.search(r"memory=(\d+) is possible", str(caught.value))[1])


@pytest.mark.parametrize("name", MODELS)
def test_what_is_measured_under_the_least_budget_is_what_was_predicted(name):
    f, donate, arguments = case(name, "updates")
    limit = least_of(f, donate, arguments())
    lowered = pb.compile(f, donate=donate, threads=1, memory=limit).lower(*arguments())
    code = lowered.code
    assert code.plan.peak_bytes <= limit
    inputs = [np.asarray(x) for x in (*flatten(arguments())[0], *lowered.traced.captured)]
    require_measured(code, inputs)


@pytest.mark.parametrize("name", MODELS)
def test_nobody_reads_what_a_plan_under_a_budget_has_freed(name):
    f, donate, arguments = case(name, "updates")
    wanted = bits(pb.compile(f, donate=donate, threads=1)(*arguments()))
    limit = least_of(f, donate, arguments())
    held = pb.compile(f, donate=donate, threads=1, memory=limit)
    lowered = held.lower(*arguments())
    code = lowered.code
    memory = Watched(0xFF)
    program = Program(code.schedule, code=code, memory=memory)
    arena = memory.whole[0][len(memory.whole[0]) - memory.counts[0] - 4096 :][: memory.counts[0]]
    freed = code.plan.freed()

    def run():
        for position, _ in enumerate(program.stepwise()):
            for begin, end in freed[position]:
                arena[begin:end] = 0xFF

    program.run = run
    given = (*flatten(arguments())[0], *lowered.traced.captured)
    inputs = [np.asarray(x).copy() for x in given]
    assert [x.tobytes() for x in program(inputs)] == wanted
    memory.require_canaries()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_bits_do_not_depend_on_the_threads_either(threads):
    f, donate, arguments = case("gpt", "updates")
    wanted = bits(pb.compile(f, donate=donate, threads=1)(*arguments()))
    plan = pb.compile(f, donate=donate, threads=threads).lower(*arguments()).plan
    limit = plan.resident_bytes + plan.arena_bytes // 2
    assert bits(pb.compile(f, donate=donate, threads=threads, memory=limit)(*arguments())) == wanted


def test_a_program_under_a_budget_is_found_on_disk(tmp_path):
    f, donate, arguments = case("mlp", "updates")
    plan = pb.compile(f, donate=donate, threads=1).lower(*arguments()).plan
    limit = plan.resident_bytes + plan.arena_bytes // 2
    wanted = bits(pb.compile(f, donate=donate, threads=1)(*arguments()))
    with override(cache=str(tmp_path)):
        for _ in range(2):
            held = pb.compile(f, donate=donate, threads=1, memory=limit)
            assert bits(held(*arguments())) == wanted
            lowered = held.lower(*arguments())
            assert lowered.program.image.arena + plan.resident_bytes <= limit


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"), [("500 MB", 500_000_000), ("1KiB", 1024), (17, 17), (".5 gb", 500_000_000)]
)
def test_bytes(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "given",
    ["", "5", "5 parsecs", -1, 0, True, 1.5, "1.2.3 MB", ". MB", "0 MB", "-3 MB", float("nan")],
)
def test_no_bytes(given):
    with pytest.raises(ArgumentError, match="number of bytes"):
        pb.compile(lambda x: x, memory=given)


def test_a_budget_larger_than_the_machine_plans_and_does_not_run():
    f = pb.compile(pb.sum, memory="900 TB")
    x = np.ones(3, np.float32)
    assert f.lower(x).plan.peak_bytes < 1000
    with pytest.raises(ArgumentError, match=r"allows 900 TB, this machine has"):
        f(x)


def test_a_machine_that_does_not_say_what_it_has(monkeypatch):
    monkeypatch.setattr(budget, "machine_bytes", lambda: None)
    assert pb.compile(pb.sum, memory="900 TB")(np.ones(3, np.float32)).item() == 3


def test_too_little_is_refused_with_the_least_that_is_possible_and_lines():
    def f(x):
        return pb.sum(pb.tanh(x @ x) @ x)

    x = random.normal(size=(100, 100)).astype(np.float32)
    peak = pb.compile(f).lower(x).plan.peak_bytes
    assert pb.compile(f, memory=peak)(x).shape == ()
    with pytest.raises(MemoryPlanError, match="contract") as caught:
        pb.compile(f, memory=peak - 1)(x)
    assert "test_budget.py" in str(caught.value)
    assert f"memory={peak} is possible" in str(caught.value)


def test_a_graph_that_changes_is_planned_anew_and_refused_where_it_does_not_fit():
    held = pb.compile(lambda x: pb.sum(pb.tanh(x @ x)), memory="100 kB")
    small, large = np.ones((64, 64), np.float32), np.ones((128, 128), np.float32)
    wanted = held(small)
    with pytest.raises(MemoryPlanError, match="allows 100 kB, and the least"):
        held(large)
    assert held(small) == wanted


def test_an_arena_that_the_system_refuses(monkeypatch):
    def refuse(*args):
        raise MemoryError

    monkeypatch.setattr("pullback.backend.program.np.empty", refuse)
    with pytest.raises(MemoryPlanError, match=r"the system refuses 1\.234 GB"):
        Memory().allocate(1_234_000_000)
