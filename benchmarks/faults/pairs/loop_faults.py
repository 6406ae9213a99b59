"""Faults of the loop: gradients, modes, order, random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from benchmarks.faults import data
from benchmarks.faults.pairs import training_healthy as first
from benchmarks.faults.pairs import training_healthy_more as more
from benchmarks.faults.pairs import training_tasks as tasks
from benchmarks.faults.pairs.stop_faults import tree_map
from benchmarks.faults.pairs.training_healthy import call, classify, decide, in_use
from benchmarks.faults.program import Setup, fault

import pullback as pb
from pullback import nn

BROKEN = "NUM01 NUM02 OPT01 OPT03 OBJ05 SIG02 SIG03 SIG04 CUT04 GEN02"
STILL = "CUT02 OPT02 VER01 GEN02"

# ---- gradients that are added ---------------------------------------------------------------


@fault("a_sum_for_ever", "gradients never cleared", "LOOP01", "harvest_by_hand", also=BROKEN)
def a_sum_for_ever(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.harvest(seed)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)

    def loss(model, x, y):
        return nn.mse(first.through(model, x), y)

    gradient = pb.compile(pb.value_and_grad(loss))
    model = first.layered(seed, (6, 40, 40, 1))
    total = [{name: np.zeros(p.shape, np.float32) for name, p in layer.items()} for layer in model]

    def step(state, x, y):
        model, memory = state
        value, grads = gradient(model, x, y)
        for kept, layer in zip(total, grads, strict=True):
            for name, slope in layer.items():
                kept[name] = kept[name] + slope  # here
        updates, memory = optimizer.update(total, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, total)

    score = data.r_squared(first.through, x_valid, y_valid)
    return Setup(model, loss, optimizer, (x, y), score, steps=400, step=step)


@fault("sum_in_the_state", "gradients never cleared", "LOOP01", "twins_distance", also=BROKEN)
def sum_in_the_state(seed: int) -> Setup:
    """`.grad` of another library, rebuilt as a variable."""
    x, y, x_valid, y_valid = tasks.twins(seed)
    model, optimizer = more.twin(seed), pb.optim.adam(5e-3)

    def loss(model, x, y):
        return nn.binary_cross_entropy_with_logits(more.alike(model, x), y)

    grad: Any = tree_map(lambda p: 0.0 * p, model)

    @pb.compile
    def backward(model, grad, x, y):
        value, new = pb.value_and_grad(loss)(model, x, y)
        return value, tree_map(pb.add, grad, new)  # here

    @pb.compile
    def advance(model, memory, grad):
        updates, memory = optimizer.update(grad, memory, model)
        return pb.optim.apply_updates(model, updates), memory

    def step(state, x, y):
        nonlocal grad
        value, grad = backward(state[0], grad, x, y)  # here
        return advance(*state, grad), (value, grad)

    score = data.binary_accuracy(more.alike, x_valid, y_valid)
    return Setup(model, loss, optimizer, (x, y), score, step=step)


@fault(
    "parts_pile_up", "a buffer not emptied after its step", "LOOP01", "alarms_parts", also=BROKEN
)
def parts_pile_up(seed: int) -> Setup:
    """Four parts of a batch, and a sum of their gradients that the next batch goes on with."""
    x, y, x_valid, y_valid = tasks.alarms(seed)
    model = nn.MLP(12, tasks.ALARMS, 64, 1, nn.elu, key=pb.random.key(seed))
    optimizer = pb.optim.adam(1e-2)
    gradient = pb.compile(pb.value_and_grad(decide))
    buffer = tree_map(lambda p: 0.0 * p, model)

    def step(state, x, y):
        nonlocal buffer
        model, memory = state
        values = []
        for part, target in zip(np.split(x, 4), np.split(y, 4), strict=True):
            value, grads = gradient(model, part, target)
            buffer = tree_map(lambda a, b: a + b / 4, buffer, grads)  # here
            values.append(float(value))
        updates, memory = optimizer.update(buffer, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (np.mean(values), buffer)

    score = data.binary_accuracy(call, x_valid, y_valid)
    return Setup(model, decide, optimizer, (x, y), score, batch=128, steps=150, step=step)


@fault(
    "every_second_batch",
    "a buffer not emptied after its step",
    "LOOP01",
    "stamps_momentum",
    also=BROKEN,
)
def every_second_batch(seed: int) -> Setup:
    """A step after every second batch; the model moves, and the sum stays."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    optimizer = pb.optim.sgd(0.01, momentum=0.9)
    gradient = pb.compile(pb.value_and_grad(classify))
    held: dict[str, Any] = {"count": 0, "grads": None}

    def step(state, x, y):
        model, memory = state
        value, grads = gradient(model, x, y)
        if held["count"] > 0:
            grads = tree_map(lambda a, b: a + b, held["grads"], grads)  # here
        held.update(count=held["count"] + 1, grads=grads)  # here
        if held["count"] % 2 == 0:
            updates, memory = optimizer.update(grads, memory, model)
            model = pb.optim.apply_updates(model, updates)
        return (model, memory), (value, grads)

    score = data.accuracy(call, x_valid, y_valid)
    model = first.sorter(seed)
    return Setup(model, classify, optimizer, (x, y), score, batch=32, step=step)


# ---- training as in use ---------------------------------------------------------------------


@fault(
    "grey_values_in_use",
    "batch norm as in use while training",
    "LOOP02",
    "stamps_batchnorm",
    also="DAT01 GEN02 OBJ04 OPT01 OPT03 NUM01 NUM02 SIG03 CUT04 VER01",
    at_once=True,
)
def grey_values_in_use(seed: int) -> Setup:
    """Grey values as they come, since the norms will see to them."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    x, x_valid = 40 * x + 90, 40 * x_valid + 90
    model = first.stamper(seed)

    def loss(model, x, y, state):
        logits, state = model(x, state, train=False)  # here
        return nn.cross_entropy(logits, y), state

    score, state = in_use(x_valid, y_valid), model.initial_state()
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, network_state=state)


@fault(
    "mode_of_the_validation",
    "batch norm as in use while training",
    "LOOP02",
    "soil_normed",
    also="DAT01 GEN02 OBJ04 OPT01 OPT03 NUM01 NUM02 SIG03 CUT04 VER01",
    at_once=True,
)
def mode_of_the_validation(seed: int) -> Setup:
    """A flag that is set for the validation, and not set back."""
    x, y, x_valid, y_valid = tasks.soil(seed)
    x, x_valid = 20 * x + 60, 20 * x_valid + 60
    model = first.normed(seed)
    mode = {"train": False}

    def loss(model, x, y, state, key):
        logits, state = model(x, state, key=key, **mode)  # here
        return nn.cross_entropy(logits, y), state

    return Setup(
        model,
        loss,
        pb.optim.sgd(0.1, momentum=0.9),
        (x, y),
        in_use(x_valid, y_valid),
        network_state=model.initial_state(),
        key=pb.random.key(seed + 1),
    )


@fault(
    "old_state_given_back",
    "running statistics not handed on",
    "LOOP02",
    "soil_normed",
    also="DAT01 GEN02",
)
def old_state_given_back(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.soil(seed)
    x, x_valid = 20 * x + 60, 20 * x_valid + 60
    model = first.normed(seed)

    def loss(model, x, y, state, key):
        logits, _moved = model(x, state, train=True, key=key)
        return nn.cross_entropy(logits, y), state  # here

    return Setup(
        model,
        loss,
        pb.optim.sgd(0.1, momentum=0.9),
        (x, y),
        in_use(x_valid, y_valid),
        network_state=model.initial_state(),
        key=pb.random.key(seed + 1),
    )


@fault(
    "statistics_of_before",
    "running statistics not handed on",
    "LOOP02",
    "stamps_batchnorm",
    also="DAT01 GEN02",
)
def statistics_of_before(seed: int) -> Setup:
    """A step by hand that keeps the new weights, and what the norms saw is left."""
    x, y, x_valid, y_valid = tasks.stamps(seed)
    x, x_valid = 40 * x + 90, 40 * x_valid + 90
    model = first.stamper(seed)
    state = model.initial_state()
    optimizer = pb.optim.sgd(0.05, momentum=0.9)

    def loss(model, state, x, y):
        logits, state = model(x, state, train=True)
        return nn.cross_entropy(logits, y), state

    @pb.compile
    def step(both, x, y):
        model, memory = both
        (value, _), grads = pb.value_and_grad(loss, has_aux=True)(model, state, x, y)  # here
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    def predict(model, x):
        return model(x, state, train=False)[0]

    score = data.accuracy(predict, x_valid, y_valid)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, step=step)


# ---- the order of steps ---------------------------------------------------------------------


@fault(
    "momentum_forgotten",
    "the optimiser's memory made anew in each step",
    "LOOP03",
    "harvest_heavy",
    also="OPT02 VER01 GEN02",
)
def momentum_forgotten(seed: int) -> Setup:
    x, y, x_valid, y_valid = tasks.harvest(seed)
    model = nn.MLP(6, 1, 48, 1, key=pb.random.key(seed))
    optimizer = pb.optim.sgd(0.004, momentum=0.97)

    @pb.compile
    def step(state, x, y):
        model, _ = state
        value, grads = pb.value_and_grad(first.regress)(model, x, y)
        memory = optimizer.init(model)  # here
        updates, memory = optimizer.update(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(model, first.regress, optimizer, (x, y), score, batch=32, steps=800, step=step)


@fault(
    "schedule_stands_still",
    "the optimiser's memory made anew in each step",
    "LOOP03",
    "tide_warm",
    also=STILL,
)
def schedule_stands_still(seed: int) -> Setup:
    """The memory that comes back has another name, so each step is the first of the warm-up."""
    x, y, x_valid, y_valid = tasks.tide(seed)
    net = nn.MLP(24, 1, 48, 2, nn.relu, key=pb.random.key(seed))
    optimizer = pb.optim.adam(pb.optim.warmup_cosine(5e-3, 40, 300))
    gradient = pb.compile(pb.value_and_grad(first.regress))

    def step(state, x, y):
        net, opt_state = state
        value, grads = gradient(net, x, y)
        updates, _new_state = optimizer.update(grads, opt_state, net)  # here
        net = pb.optim.apply_updates(net, updates)
        return (net, opt_state), (value, grads)  # here

    score = data.r_squared(call, x_valid, y_valid)
    return Setup(net, first.regress, optimizer, (x, y), score, steps=300, step=step)


@fault(
    "slopes_of_the_beginning",
    "gradient of another model than the one that moves",
    "LOOP03",
    "harvest_by_hand",
    also=BROKEN,
)
def slopes_of_the_beginning(seed: int) -> Setup:
    """`params` is what the script began with; the loop has `weights`."""
    x, y, x_valid, y_valid = tasks.harvest(seed)
    optimizer = pb.optim.sgd(0.05, momentum=0.9)
    params = first.layered(seed, (6, 40, 40, 1))

    def loss(params, x, y):
        return nn.mse(first.through(params, x), y)

    gradient = pb.compile(pb.value_and_grad(loss))

    def step(state, x, y):
        weights, memory = state
        value, grads = gradient(params, x, y)  # here
        updates, memory = optimizer.update(grads, memory, weights)
        return (pb.optim.apply_updates(weights, updates), memory), (value, grads)

    score = data.r_squared(first.through, x_valid, y_valid)
    return Setup(params, loss, optimizer, (x, y), score, steps=400, step=step)


@fault(
    "copy_never_renewed",
    "gradient of another model than the one that moves",
    "LOOP03",
    "swarm_means",
    also=BROKEN,
)
def copy_never_renewed(seed: int) -> Setup:
    """A worker computes on its copy of the weights, which is renewed once in a thousand steps."""
    x, y, x_valid, y_valid = tasks.swarm(seed)
    optimizer, model = pb.optim.adam(5e-3), more.crowd(seed)
    worker = {"copy": model, "steps": 0}

    def loss(model, x, y):
        return nn.mse(more.survey(model, x), y)

    gradient = pb.compile(pb.value_and_grad(loss))
    advance = pb.compile(optimizer.update)

    def step(state, x, y):
        model, memory = state
        if worker["steps"] % 1000 == 0:
            worker["copy"] = model
        worker["steps"] += 1
        value, grads = gradient(worker["copy"], x, y)  # here
        updates, memory = advance(grads, memory, model)
        return (pb.optim.apply_updates(model, updates), memory), (value, grads)

    score = data.r_squared(more.survey, x_valid, y_valid)
    return Setup(model, loss, optimizer, (x, y), score, batch=32, steps=400, step=step)


@fault(
    "applied_to_nothing",
    "updates that reach no model",
    "LOOP03",
    "circuits_graph",
    also=STILL,
)
def applied_to_nothing(seed: int) -> Setup:
    """As if updates were made in place."""
    nodes, wires, y, *valid = tasks.circuits(seed)
    optimizer = pb.optim.adam(1e-2)

    @pb.compile
    def step(state, nodes, wires, y):
        model, memory = state
        value, grads = pb.value_and_grad(more.measure_loss)(model, nodes, wires, y)
        updates, memory = optimizer.update(grads, memory, model)
        pb.optim.apply_updates(model, updates)  # here
        return (model, memory), (value, grads)  # here

    score, model = more.measure_score(*valid), more.electrician(seed)
    batch = (nodes, wires, y)
    return Setup(model, more.measure_loss, optimizer, batch, score, batch=32, steps=400, step=step)


@fault(
    "a_name_of_the_function",
    "updates that reach no model",
    "LOOP03",
    "stars_factors",
    also=STILL,
)
def a_name_of_the_function(seed: int) -> Setup:
    """A helper gives its own variable another value, which ends with the helper."""
    x, y, x_valid, y_valid = tasks.stars(seed)
    optimizer = pb.optim.adam(2e-2)
    gradient = pb.compile(pb.value_and_grad(more.rate_loss))

    def improve(params, updates):
        for name in params:
            params = {**params, name: pb.optim.apply_updates(params[name], updates[name])}  # here

    def step(state, x, y):
        params, memory = state
        value, grads = gradient(params, x, y)
        updates, memory = optimizer.update(grads, memory, params)
        improve(params, updates)  # here
        return (params, memory), (value, grads)

    score = data.r_squared(more.rate, x_valid, y_valid)
    model = more.critic(seed)
    return Setup(model, more.rate_loss, optimizer, (x, y), score, steps=400, step=step)
