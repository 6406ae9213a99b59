"""Donated arguments: their memory is reused in place, and using them again is an error."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import weakref

import numpy as np
import pytest

import pullback as pb
from pullback._settings import override
from pullback.compile.state import State
from pullback.errors import DonationError
from pullback.transforms.tree import map_leaves

random = np.random.default_rng(3)


def normal(*shape, dtype=np.float32):
    return random.normal(size=shape).astype(dtype)


def arrays(tree):
    return map_leaves(lambda x: pb.asarray(x, copy=True), tree)


def network(width=16, layers=2, dtype=np.float32):
    sizes = [width] * layers + [4]
    return [
        {"w": normal(a, b, dtype=dtype) / a**0.5, "b": np.zeros(b, dtype)}
        for a, b in itertools.pairwise(sizes)
    ]


def loss(params, x, y):
    for layer in params[:-1]:
        x = pb.nn.relu(x @ layer["w"] + layer["b"])
    z = x @ params[-1]["w"] + params[-1]["b"]
    return -pb.mean(pb.sum(pb.log_softmax(z) * y, axis=-1))


optimizer = pb.optim.adam(1e-2)


def step(state, x, y):
    params, memory = state
    value, slopes = pb.value_and_grad(loss)(params, x, y)
    updates, memory = optimizer.update(slopes, memory, params)
    return (pb.optim.apply_updates(params, updates), memory), value


def start(**options):
    params = arrays(network(**options))
    return params, optimizer.init(params)


def batch(count=8, width=16, dtype=np.float32):
    return normal(count, width, dtype=dtype), np.eye(4, dtype=dtype)[random.integers(0, 4, count)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_training_with_donated_state_is_eager_training(dtype, tolerance):
    first = start(layers=3, dtype=dtype)
    batches = [batch(dtype=dtype) for _ in range(20)]
    eager = first
    for x, y in batches:
        eager, _ = step(eager, x, y)
    bits = []
    for threads in (1, 2, 4):
        compiled = pb.compile(step, donate="state", threads=threads)
        state = arrays(first)
        for x, y in batches:
            state, value = compiled(state, x, y)
        assert np.isfinite(value.item())
        params, memory = state
        flat = [each[name].numpy() for each in params for name in ("w", "b")]
        bits.append([x.tobytes() for x in flat])
        wanted = [each[name].numpy() for each in eager[0] for name in ("w", "b")]
        for actual, expected in zip(flat, wanted, strict=True):
            scale = np.abs(expected).max()
            np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(scale, 1))
        assert memory.step.item() == 20
    assert bits[0] == bits[1] == bits[2]


def test_the_memory_of_the_state_stays_where_it_is():
    compiled = pb.compile(step, donate=0)
    state, _ = compiled(start(), *batch())
    home = state.home
    places = home.addresses.copy()
    for _ in range(3):
        state, _ = compiled(state, *batch())
        assert state.home is home
    assert (np.array([x.ctypes.data for x in home.arrays], np.uint64) == places).all()
    plan = compiled.lower(start(), *batch()).plan
    assert not plan.conflicts


def test_no_python_is_run_for_each_array_of_the_state():
    counts = []
    for layers in (2, 12):
        compiled = pb.compile(step, donate=0, threads=1)
        state = start(layers=layers)
        x, y = batch()
        for _ in range(3):
            state, _ = compiled(state, x, y)
        calls = 0

        def count(frame, event, argument):
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count)
        state, _ = compiled(state, x, y)
        sys.setprofile(None)
        counts.append(calls)
    assert counts[0] == counts[1]
    assert counts[0] < 150


def test_a_state_acts_as_its_tree():
    compiled = pb.compile(step, donate=0)
    state, _ = compiled(start(), *batch())
    assert isinstance(state, tuple)
    assert len(state) == 2
    params, memory = state
    assert params is state[0]
    assert type(state) is State
    value = loss(params, *batch())
    assert np.isfinite(value.item())
    slopes = pb.grad(loss)(state[0], *batch())
    assert slopes[0]["w"].shape == (16, 16)
    assert pb.compile(lambda s: s[0][0]["w"] * 2)(state).shape == (16, 16)
    assert memory.step.item() == 1
    nested = pb.compile(lambda both: both["s"][0][0]["w"] * 2)({"s": state})
    np.testing.assert_array_equal(nested.numpy(), params[0]["w"].numpy() * 2)
    changed, _ = compiled((params, memory), *batch())
    assert len(changed) == 2


def test_one_state_flows_through_programs_of_several_batch_sizes():
    compiled = pb.compile(step, donate=0)
    evaluate = pb.compile(loss)
    state, eager = start(), None
    eager = arrays(state)
    for count in (8, 8, 3, 8, 3):
        x, y = batch(count)
        eager, wanted = step(eager, x, y)
        state, value = compiled(state, x, y)
        np.testing.assert_allclose(value.item(), wanted.item(), rtol=1e-5)
        np.testing.assert_allclose(
            evaluate(state[0], x, y).item(), loss(eager[0], x, y).item(), rtol=1e-5
        )


SHAPE = (40, 30)


@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: (b, a),
        lambda a, b: (a, b),
        lambda a, b: (a + b, a - b),
        lambda a, b: (a + 1, a + 1),
        lambda a, b: (a.reshape(30, 40).T * 1.0, a),
        lambda a, b: (pb.flip(a, axis=0) + b, b[::-1] * 2),
        lambda a, b: (a @ pb.matrix_transpose(b) @ a, a),
        lambda a, b: (pb.softmax(a) + a, b + pb.sum(a)),
        lambda a, b: (a + 1, b, a + 1, a, pb.sum(b, axis=0)),
        lambda a, b: pb.sum(a) + pb.sum(b),
    ],
)
@pytest.mark.parametrize("donate", [0, 1, (0, 1)])
@pytest.mark.parametrize("threads", [1, 3])
def test_whatever_is_donated_the_results_are_the_same(f, donate, threads):
    a, b = normal(*SHAPE), normal(*SHAPE)
    wanted = f(pb.asarray(a), pb.asarray(b))
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    compiled = pb.compile(f, donate=donate, threads=threads)
    x, y = pb.asarray(a), pb.asarray(b)
    results = compiled(x, y)
    results = results if isinstance(results, tuple) else (results,)
    for actual, expected in zip(results, wanted, strict=True):
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)
    donated = (donate,) if isinstance(donate, int) else donate
    for i, each in enumerate((x, y)):
        if i in donated:
            with pytest.raises(DonationError):
                each.numpy()
        else:
            np.testing.assert_array_equal(each.numpy(), (a, b)[i])


def test_the_users_own_memory_is_never_written():
    x = normal(5)
    before = x.copy()
    shared = pb.asarray(x, copy=False)
    compiled = pb.compile(lambda x: x * 2, donate=0)
    compiled(x)
    compiled(shared)
    assert (x == before).all()


def test_donated_memory_is_freed_with_the_state():
    compiled = pb.compile(step, donate=0)
    state, _ = compiled(start(), *batch())
    gc.disable()
    try:
        memory = [weakref.ref(x) for x in state.home.arrays]
        del state
        assert all(each() is None for each in memory)
    finally:
        gc.enable()


def test_calls_from_several_threads_take_turns():
    compiled = pb.compile(lambda s, x: {"n": s["n"] + x}, donate=0)
    other = pb.compile(lambda x: pb.sum(pb.tanh(x) @ x.T))
    x = normal(30, 30)
    wanted = other(x).item()
    wrong = []

    def work():
        state = compiled({"n": pb.zeros(3)}, 1.0)
        for _ in range(100):
            state = compiled(state, 1.0)
            if other(x).item() != wanted:
                wrong.append(1)
        if state["n"].tolist() != [101.0] * 3:
            wrong.append(2)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert not wrong


# ---- refusals -------------------------------------------------------------------------------

double = pb.compile(lambda s, n=0.0: {"w": s["w"] * 2 + n}, donate="s")
add = pb.compile(lambda a, b: a + b, donate=0)


def state_used_again():
    state = double({"w": pb.asarray(normal(3))})
    double(state)
    state["w"]


def state_donated_again():
    state = double({"w": pb.asarray(normal(3))})
    double(state)
    double(state)


def array_used_again():
    x = pb.asarray(normal(3))
    double({"w": x})
    x + 1


def array_donated_again():
    x = pb.asarray(normal(3))
    double({"w": x})
    double({"w": x})


def array_of_a_state_used_again():
    state = double({"w": pb.asarray(normal(3))})
    w = state["w"]
    double(state)
    pb.exp(w)


def view_alive():
    x = pb.asarray(normal(3))
    view = x.numpy()
    double({"w": x})
    del view


def view_of_a_state_alive():
    state = double({"w": pb.asarray(normal(3))})
    view = state["w"].numpy()[1:]
    double(state)
    del view


def export_alive():
    x = pb.asarray(normal(3))
    other = np.from_dlpack(x)
    double({"w": x})
    del other


def twice_in_one_tree():
    x = pb.asarray(normal(3))
    pb.compile(lambda s: {"a": s["a"] + 1, "b": s["b"]}, donate=0)({"a": x, "b": x})


def donated_and_read():
    x = pb.asarray(normal(3))
    add(x, x)


def one_state_twice():
    f = pb.compile(lambda s, t: {"w": s["w"] + t["w"]}, donate=0)
    state = f({"w": pb.asarray(normal(3))}, {"w": normal(3)})
    f(state, state)


@pytest.mark.parametrize(
    "call",
    [
        state_used_again,
        state_donated_again,
        array_used_again,
        array_donated_again,
        array_of_a_state_used_again,
        view_alive,
        view_of_a_state_alive,
        export_alive,
        twice_in_one_tree,
        donated_and_read,
        one_state_twice,
    ],
)
def test_refusals(call, golden):
    with pytest.raises(DonationError) as caught:
        call()
    error = caught.value
    assert error.site is not None
    golden(f"errors/donation_{call.__name__}", f"{error.what}\n    {error.hint}")


def test_after_a_refusal_the_state_is_as_it_was():
    state = double({"w": pb.ones(3)})
    view = state["w"].numpy()
    with pytest.raises(DonationError):
        double(state)
    assert view.tolist() == [2.0] * 3
    del view
    assert double(state)["w"].tolist() == [4.0] * 3


def test_under_a_transform_nothing_is_donated():
    x = pb.asarray(normal(3))
    assert pb.grad(lambda x: pb.sum(add(x, x)))(x).tolist() == [2.0] * 3
    with override(check=1):
        assert x.shape == (3,)
    x.numpy()


# ---- failures -------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failed_step_leaves_the_old_state_whole(threads):
    def advance(state, limit):
        grown = state["w"] * 2
        total = pb.while_loop(
            lambda n: n < limit, lambda n: n + pb.sum(grown) * 0 + 1, pb.zeros(()), max_steps=10
        )
        return {"w": grown + total}, total

    compiled = pb.compile(advance, donate=0, threads=threads)
    code = compiled.lower({"w": normal(300)}, 3.0).code
    assert code.guard is not None
    given = {"w": pb.ones(300)}
    with pytest.raises(pb.errors.LoopLimitError):
        compiled(given, 20.0)
    assert given["w"].tolist() == [1.0] * 300
    state, _ = compiled(given, 3.0)
    with pytest.raises(pb.errors.LoopLimitError):
        compiled(state, 20.0)
    assert state["w"].tolist() == [5.0] * 300
    state, _ = compiled(state, 1.0)
    assert state["w"].tolist() == [11.0] * 300


# ---- kernels that fold and overwrite ---------------------------------------------------------


def halved(x):
    return x * 0.5, pb.sum(x * x, axis=-1)


def normalized(x):
    return pb.softmax(x), pb.sum(x)


def read_again(x):
    """The first result is there a pass before x is read for the last time."""
    shifted = x - pb.max(x, axis=-1, keepdims=True)
    return shifted, pb.sum(x * pb.exp(shifted - pb.sum(shifted, axis=-1, keepdims=True)), axis=-1)


def moments(x):
    mean = pb.mean(x, axis=-1, keepdims=True)
    return x - mean, pb.mean((x - mean) * x, axis=-1)


@pytest.mark.parametrize("f", [halved, normalized, read_again, moments])
@pytest.mark.parametrize("shape", [(40, 33), (3, 70_000), (5,)])
def test_a_kernel_that_folds_overwrites_what_no_later_pass_reads(f, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    kept = pb.compile(f)(x)
    for threads in (1, 2):
        given = pb.compile(f, donate=0, threads=threads)(pb.asarray(x))
        for new, old in zip(given, kept, strict=True):
            np.testing.assert_array_equal(new.numpy(), old.numpy())


def test_the_norm_of_what_is_updated_costs_no_copy_of_it():
    def step(state, grad):
        new = state * 0.9 - grad
        return new, pb.sum(new * new)

    plan = pb.compile(step, donate=0).lower(np.ones((64, 512)), np.ones((64, 512))).plan
    assert plan.peak_bytes < 2 * 64 * 512 * 8 + 4096
