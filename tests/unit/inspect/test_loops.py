"""What loops and optimisers are told of: memories, directions, orders, numbers of classes."""

import numpy as np
import pytest

import pullback as pb
from pullback import inspect, nn
from pullback.inspect.response import Exam, passes_on
from pullback.transforms.tree import flatten, map_leaves

ADAM = pb.optim.adam(1e-2)


def net(out=3):
    return nn.MLP(4, out, 16, 1, key=pb.random.key(0))


def exam(optimizer):
    model, rng = net(), np.random.default_rng(0)
    shapes = [x.shape for x in flatten(model)[0]]
    return Exam(optimizer, model, [rng.standard_normal(s).astype(np.float32) for s in shapes])


def summing():
    def update(grads, state, params):
        memory, total = state
        total = map_leaves(lambda a, b: a + b, total, grads)
        updates, memory = ADAM.update(total, memory, params)
        return updates, (memory, total)

    return pb.optim.Optimizer(
        lambda params: (ADAM.init(params), map_leaves(pb.zeros_like, params)), update
    )


def forgetting():
    return pb.optim.Optimizer(
        ADAM.init, lambda grads, state, params: (ADAM.update(grads, state, params)[0], state)
    )


def test_sums_and_lost_memories_are_told_from_sound_optimisers():
    seen = exam(summing())
    assert seen.sum_kept is not None
    assert {f.function for f in seen.line(seen.sum_kept).frames} >= {"update", "<lambda>"}
    assert exam(forgetting()).remembers_nothing
    for sound in (ADAM, pb.optim.sgd(0.1), pb.optim.sgd(0.1, momentum=0.9), pb.optim.lion(1e-3)):
        seen = exam(sound)
        assert seen.sum_kept is None
        assert not seen.never_forgets
        assert not seen.remembers_nothing
        assert seen.line() is None
        assert max(x.along for x in seen.answers) < 0


def test_a_part_of_a_chain_is_no_optimiser():
    assert passes_on(pb.optim.clip_by_global_norm(1e9), net())
    assert not passes_on(ADAM, net())


def batches(order=None, numbers=False):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 512)
    x = (2 * rng.standard_normal((3, 4))[y] + rng.standard_normal((512, 4))).astype(np.float32)
    if order is not None:
        rows = np.argsort(x[:, order], kind="stable")
        x, y = x[rows], y[rows]
    y = y.astype(np.float32) if numbers else y
    return [(x[i : i + 32], y[i : i + 32]) for i in range(0, 512, 32)]


def loss(model, x, y):
    return nn.cross_entropy(model(x), y)


@pytest.mark.parametrize("times", [1, 3])
def test_an_update_that_is_applied_thrice_is_counted(times):
    model, memory = net(), ADAM.init(net())
    doctor = inspect.Doctor()

    def step(model, x, y):
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, after = ADAM.update(grads, memory, model)
        for _ in range(times):
            model = pb.optim.apply_updates(model, updates)
        return model, after, value, grads

    first = model
    doctor.begin(loss, model, ADAM, made=lambda x, y: step(first, x, y))
    for x, y in batches()[:4]:
        model, memory, value, grads = step(model, x, y)
        doctor.see(model, (x, y), loss=value, grads=grads)
    told = [(f.id, f.what) for f in doctor.report().alarms]
    if times == 1:
        assert not told
    else:
        assert told[0] == ("LOOP03", "each update is applied 3 times")
        assert doctor.findings[0].frame.function == "step"


def test_numbers_of_classes_are_exchanged_on_a_copy():
    def error(model, x, y):
        return nn.huber(model(x)[:, 0], y)

    report = inspect.watch(net(1), error, batches(numbers=True), ADAM, steps=100)
    assert report.alarms[0].id == "OBJ02"


def test_a_state_that_the_loss_gives_back_as_it_was_is_told_at_its_line():
    norm = nn.BatchNorm(4)
    model = {"norm": norm, "head": nn.Linear(4, 3, key=pb.random.key(0))}

    def frozen(model, x, y, state):
        h, state = model["norm"](x, state, train=False)
        return nn.cross_entropy(model["head"](h), y), state

    report = inspect.preflight(
        model, frozen, batches()[0], network_state=norm.initial_state(), optimizer=ADAM
    )
    assert [x.id for x in report.alarms] == ["LOOP02"]
    assert report.alarms[0].frame.function == "frozen"


def by_hand(change, steps, rate=0.1, optimizer=None):
    """A doctor's report of a loop of one's own: `change(i, model, x, y)` is its step."""
    optimizer, model = optimizer or pb.optim.sgd(rate), net()
    doctor, first = inspect.Doctor(remedies=False), model
    doctor.begin(loss, model, optimizer, made=lambda x, y: change(0, first, x, y))
    for i in range(steps):
        x, y = batches()[i % 16]
        model, value, grads = change(i, model, x, y)
        doctor.see(model, (x, y), loss=value, grads=grads)
    return doctor.report()


def descended(model, x, y):
    value, grads = pb.value_and_grad(loss)(model, x, y)
    return map_leaves(lambda p, g: p - 0.1 * g, model, grads), value, grads


def test_a_model_that_begins_anew_in_each_epoch():
    def change(i, model, x, y):
        return descended(net() if i % 20 == 0 else model, x, y)

    told = by_hand(change, 50).alarms[0]
    assert (told.id, told.what) == ("LOOP03", "the model begins anew: at step 21, at step 41")
    assert not by_hand(lambda i, *given: descended(*given), 50).alarms


def test_gradients_of_a_part_of_the_batch():
    def change(i, model, x, y):
        return descended(model, x[:8], y[:8])

    told = by_hand(change, 4).alarms[0]
    assert told.id == "LOOP03"
    assert told.what == "each step uses the gradient of the first 8 of 32 examples"


def test_updates_of_the_model_of_the_beginning():
    first = net()

    def change(i, model, x, y):
        _, value, grads = descended(model, x, y)
        return map_leaves(lambda p, g: p - 0.1 * g, first, grads), value, grads

    told = by_hand(change, 4).alarms[0]
    assert (told.id, told.what[-22:]) == ("LOOP03", "model of the beginning")


def test_a_warm_up_whose_memory_is_lost_is_told_where_it_is_returned():
    optimizer = pb.optim.adam(pb.optim.warmup_cosine(1e-2, 20, 100))
    memory = optimizer.init(net())

    def change(i, model, x, y):
        value, grads = pb.value_and_grad(loss)(model, x, y)
        updates, _ = optimizer.update(grads, memory, model)
        return pb.optim.apply_updates(model, updates), value, grads

    told = by_hand(change, 4, optimizer=optimizer).alarms[0]
    assert (told.id, told.what[-28:]) == ("LOOP03", "is the first one, which is 0")
    assert told.frame.source.startswith("updates, _ = optimizer.update")


def test_gradients_that_are_taken_now_and_then_are_told_where_they_are():
    kept = {}

    def change(i, model, x, y):
        if len(kept) % 7 == 0:
            kept["last"] = pb.value_and_grad(loss)(model, x, y)
        kept[len(kept)] = None
        value, grads = kept["last"]
        return map_leaves(lambda p, g: p - 0.1 * g, model, grads), value, grads

    told = by_hand(change, 4).alarms[0]
    assert (told.id, told.frame.source[:12]) == ("LOOP03", 'kept["last"]')


def test_new_parameters_that_are_lost_are_told_where_they_are_used_last():
    def change(i, model, x, y):
        value, grads = pb.value_and_grad(loss)(model, x, y)
        better = map_leaves(lambda p, g: p - 0.1 * g, model, grads)
        flatten(better)
        return model, value, grads

    told = by_hand(change, 4).alarms[0]
    assert (told.id, told.frame.source) == ("LOOP03", "flatten(better)")


def test_a_warm_up_that_is_not_over():
    slowly = pb.optim.sgd(pb.optim.linear(0.0, 1.0, 100_000))
    told = inspect.watch(net(), loss, batches(), slowly, steps=200, remedies=False).alarms
    assert any(x.id == "OPT02" and x.what.startswith("the warm-up is long") for x in told)


def test_a_run_in_float16_that_never_steps_names_the_operation():
    def squares(model, x, y):
        large = 1e4 * x
        return nn.cross_entropy(model(large * large / 1e8), y)

    watched = inspect.watch(net(), squares, batches(), ADAM, steps=30, precision="fp16")
    first = watched.alarms[0]
    assert (first.id, first.frame.function) == ("NUM01", "squares")
    assert "large * large" in first.frame.source


# ---- keys that stand ------------------------------------------------------------------------

NOISY = pb.compile(
    pb.value_and_grad(lambda m, x, key: nn.mse(m(x + pb.random.normal(key, x.shape)), x))
)


def stepping(next_key):
    def step(state, x):
        model, memory, kept = state
        key, kept = next_key(kept)
        value, grads = NOISY(model, x, key)
        updates, memory = ADAM.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory, kept), (value, grads)

    return step


def told_of_keys(next_key, kept):
    model, rng = net(4), np.random.default_rng(0)
    state, step = (model, ADAM.init(model), kept), stepping(next_key)
    first, doctor = state, inspect.Doctor()
    doctor.begin(lambda m, x: nn.mse(m(x), x), model, ADAM, made=lambda x: step(first, x))
    for _ in range(4):
        x = rng.standard_normal((16, 4)).astype(np.float32)
        state, (value, grads) = step(state, x)
        doctor.see(state[0], x, loss=value, grads=grads)
    return [x for x in doctor.report().findings if x.id == "LOOP04"]


def test_a_key_that_no_step_moves_on():
    root = pb.random.key(0)
    split = told_of_keys(lambda kept: (pb.random.split(root)[0], kept), ())
    assert split[0].frame.expression == "pb.random.split(root)"
    assert told_of_keys(lambda kept: (pb.random.key(3), kept), ())


@pytest.mark.parametrize("kept", ["key", "count", "outside"])
def test_keys_that_move_on(kept):
    keys = [pb.random.key(0)]

    def outside(_):
        keys[0], key = pb.random.split(keys[0])
        return key, ()

    state, following = {
        "key": (keys[0], lambda key: tuple(pb.random.split(key))),
        "count": (0, lambda count: (pb.random.fold_in(pb.random.key(1), count), count + 1)),
        "outside": ((), outside),
    }[kept]
    assert not told_of_keys(following, state)


@pytest.mark.parametrize("moves", [False, True])
def test_a_key_that_comes_with_each_batch(moves):
    def loss(model, x, noise):
        return nn.mse(model(x + pb.random.normal(noise, x.shape)), x)

    keys = pb.random.split(pb.random.key(0), 8)
    rng = np.random.default_rng(0)
    data = [
        (rng.standard_normal((16, 4)).astype(np.float32), keys[i if moves else 0]) for i in range(8)
    ]
    report = inspect.watch(net(4), loss, data, ADAM, steps=8)
    assert ("LOOP04" in {x.id for x in report.findings}) is not moves


def test_gradients_that_a_step_keeps_are_told_where_they_are_used():
    kept = {}

    def change(i, model, x, y):
        value, grads = pb.value_and_grad(loss)(model, x, y)
        old = kept.get("grads", grads)
        kept["grads"] = grads
        better = map_leaves(lambda p, g: p - 0.1 * g, model, old)
        return better, value, old

    told = by_hand(change, 4).alarms[0]
    assert (told.id, told.frame.function) == ("LOOP03", "<lambda>")
    assert any(x.source.startswith("better =") for x in told.site.frames)
