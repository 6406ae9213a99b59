"""Compiled functions where programs meet trouble: interrupts, wrong indices, copies, emptiness."""

from __future__ import annotations

import _thread
import copy
import pickle
import signal
import threading

import numpy as np
import pytest

import pullback as pb
from pullback.errors import CompileError, OutOfRangeError
from pullback.transforms.tree import flatten

random = np.random.default_rng(5)


def normal(*shape):
    return random.normal(size=shape).astype(np.float32)


# ---- wrong indices --------------------------------------------------------------------------

optimizer = pb.optim.adam(1e-2)


def loss(params, x, labels):
    hidden = pb.tanh(x @ params["a"])
    return pb.nn.cross_entropy(hidden @ params["b"], labels)


def train(state, x, labels):
    params, memory = state
    value, slopes = pb.value_and_grad(loss)(params, x, labels)
    updates, memory = optimizer.update(slopes, memory, params)
    return (pb.optim.apply_updates(params, updates), memory), value


def network():
    params = {"a": pb.asarray(normal(8, 16)), "b": pb.asarray(normal(16, 10))}
    return params, optimizer.init(params)


def shifted(state, x, labels):
    table = state["t"]
    return {"t": table + (2 * table)[labels]}, pb.sum(x)


def read_beside_the_state(state, x, labels):
    return {"t": state["t"] + state["s"][labels], "s": 0.5 * state["s"]}, pb.sum(x)


STEPS = {
    "training": (train, network, "label 10 is none of the 10 classes 0 … 9"),
    "a table read by index": (
        shifted,
        lambda: {"t": pb.asarray(normal(10))},
        "index 10 is out of range",
    ),
    "two of them": (
        read_beside_the_state,
        lambda: {"t": pb.asarray(normal(10)), "s": pb.asarray(normal(10))},
        "index 10 is out of range",
    ),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", STEPS)
def test_a_wrong_label_leaves_the_donated_state_whole(name, threads):
    step, start, message = STEPS[name]
    compiled = pb.compile(step, donate=0, threads=threads)
    x, labels = normal(10, 8), random.integers(0, 10, 10)
    wrong = labels.copy()
    wrong[9] = 10
    state = start()
    for _ in range(3):
        before = [leaf.numpy().copy() for leaf in flatten(state)[0]]
        with pytest.raises(OutOfRangeError, match=message):
            compiled(state, x, wrong)
        for leaf, numbers in zip(flatten(state)[0], before, strict=True):
            np.testing.assert_array_equal(leaf.numpy(), numbers)
        state, _ = compiled(state, x, labels)


def scanned(x, places):
    return pb.scan(lambda total, i: (total + x[i], i), pb.zeros(x.shape[1:]), places)[0]


def softmax_of_products(x, places):
    return pb.vmap(lambda i: pb.softmax(x[i] @ x.T))(places)


def looped(x, places):
    def step(n):
        return n + 1 + pb.sum(x[places + n]) // 100

    return pb.while_loop(lambda n: n < 1, step, pb.zeros((), dtype=np.int64))


@pytest.mark.parametrize("f", [scanned, softmax_of_products, looped], ids=lambda f: f.__name__)
@pytest.mark.parametrize("threads", [1, 2])
def test_an_index_is_checked_inside_loops_and_chains(f, threads):
    compiled = pb.compile(f, threads=threads)
    x = np.arange(6).reshape(3, 2)
    good, wrong = np.array([0, 1, 2]), np.array([0, 1, 3])
    wanted = compiled(x, good).numpy()
    for _ in range(2):
        with pytest.raises(OutOfRangeError, match="index 3 is out of range"):
            compiled(x, wrong)
        np.testing.assert_array_equal(compiled(x, good).numpy(), wanted)


# ---- copies ---------------------------------------------------------------------------------


@pb.compile
def decorated(x):
    return x * x


def scaled(x, k):
    return x * k


def test_compiled_functions_are_pickled_and_copied():
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    compiled = pb.compile(scaled, static="k", donate="x", threads=1, memory="1 MB")
    compiled(pb.ones(2), 2)
    for other in (pickle.loads(pickle.dumps(compiled)), copy.copy(compiled)):
        x = pb.ones(2)
        assert other(x, 3).tolist() == [3, 3]
        with pytest.raises(pb.errors.DonationError):
            x.numpy()
    assert copy.deepcopy(compiled)(pb.ones(2), 3).tolist() == [3, 3]


def test_a_copied_state_is_its_tree():
    compiled = pb.compile(lambda s: {"n": s["n"] + 1}, donate=0)
    state = compiled({"n": pb.zeros(2)})
    for other in (copy.copy(state), copy.deepcopy(state)):
        assert type(other) is dict
        assert other["n"].tolist() == [1, 1]
    with pytest.raises(TypeError, match="an Array is not pickled"):
        pickle.dumps(state)
    later = compiled(state)
    assert later["n"].tolist() == [2, 2]
    with pytest.raises(pb.errors.DonationError):  # the arrays are the same
        other["n"].tolist()


# ---- interrupts, threads, recursion ---------------------------------------------------------


def test_an_interrupt_leaves_a_state_that_trains_on():
    compiled = pb.compile(lambda s, x: ({"w": s["w"] + 1}, pb.sum(pb.tanh(x @ x))), donate=0)
    x = normal(300, 300)
    state, _ = compiled({"w": pb.zeros(3)}, x)
    for delay in np.linspace(0, 0.02, 20):
        timer = threading.Timer(delay, _thread.interrupt_main)
        try:
            timer.start()
            for _ in range(1_000):
                state, _ = compiled(state, x)
        except KeyboardInterrupt:
            pass
        timer.join()
    state, _ = compiled(state, x)
    numbers = state["w"].tolist()
    assert numbers == [numbers[0]] * 3


def test_a_call_inside_its_own_call_is_refused():
    compiled = pb.compile(lambda x: x + 1)
    executable = next(iter((compiled(1.0), compiled._programs.values())[1]))
    executable._at_work = []
    with pytest.raises(CompileError, match="while its own call was at work"):
        compiled(1.0)
    executable._at_work = None
    assert compiled(1.0).item() == 2


def test_a_signal_handler_may_call_compiled_functions():
    compiled = pb.compile(lambda x: pb.sum(pb.tanh(x @ x)))
    x, told = normal(200, 200), []

    def handler(number, frame):
        try:
            told.append(compiled(x).item())
        except CompileError:
            told.append(None)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        wanted = compiled(x).item()
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for _ in range(100):
            assert compiled(x).item() == wanted
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert {*told} <= {wanted, None}


# ---- nothing at all -------------------------------------------------------------------------

EMPTY = {
    "elementwise": lambda x: pb.tanh(x) * 2,
    "sum": pb.sum,
    "sum of rows": lambda x: pb.sum(x, axis=-1),
    "sum of columns": lambda x: pb.sum(x, axis=0),
    "softmax": pb.softmax,
    "product": lambda x: x @ x.T,
    "other product": lambda x: x.T @ x,
    "product and epilogue": lambda x: pb.relu(x @ x.T + 1),
    "chain": lambda x: pb.softmax(x @ x.T) @ x,
    "sort": pb.sort,
    "cumulative sum": lambda x: pb.cumulative_sum(x, axis=0),
    "concat": lambda x: pb.concat([x, x], axis=0),
    "gather": lambda x: x[:, pb.zeros((0,), dtype=np.int64)],
    "scan": lambda x: pb.scan(lambda c, r: (c + r, c * r), pb.zeros(x.shape[1:]), x),
    "gradient": pb.grad(lambda x: pb.sum(pb.tanh(x @ x.T) ** 2)),
}


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("name", EMPTY)
def test_of_nothing_comes_what_eager_code_says(name, shape):
    f, x = EMPTY[name], pb.zeros(shape)
    for threads in (1, 2):
        made, wanted = flatten(pb.compile(f, threads=threads)(x))[0], flatten(f(x))[0]
        for a, b in zip(made, wanted, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a.numpy(), b.numpy())
