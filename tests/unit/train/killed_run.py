"""A run that is killed at ten moments and taken up each time: a program for `test_fit_killed.py`.

    killed_run.py FOLDER KILLS

Each attempt is a process of its own, forked once everything is compiled. It tells through a pipe
where it is (`s` in a step, `w` with a file half on the disk, `r` with one just renamed), and is
killed there, a random moment later. At the end stands the run in FOLDER, unharmed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

import pullback as pb
from pullback.train import DataLoader, TrainState, eval_step, fit, train_step

STEPS, EVERY = 80, 3
MOMENTS = "swrsw.rsw."
"""Where the kills fall, the dots at any of these places."""
MOST = {"s": 6, "w": 12, "r": 2, ".": 14}
"""How often such a place is passed before; too seldom for an attempt to come to the end."""


def loss(model, x, y, key):
    noise = pb.random.normal(key, x.shape)
    return pb.nn.mse(model(x + 0.1 * noise), y)


def measure(model, x, y):
    return pb.nn.mse(model(x), y)


class Run:
    def __init__(self):
        x = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
        y = np.sin(x.sum(1, keepdims=True))
        schedule = pb.optim.warmup_cosine(1e-2, 5, STEPS)
        optimizer = pb.optim.adamw(schedule)
        model = pb.nn.MLP(16, 1, 256, 2, key=pb.random.key(0))
        self.data = DataLoader((x, y), 64, seed=3, drop_last=False)
        self.state = TrainState.create(model, optimizer, key=pb.random.key(1))
        # One thread: the attempts are forked, and other threads would not come along.
        self.program = train_step(loss, optimizer, clip=1.0, threads=1)
        self.lower = self.program.lower
        measured = eval_step(measure, threads=1)
        self.validate = lambda state: {"validation_loss": measured(state, x, y)}
        self.validate(self.state)

    def compile(self):
        """The programs of both sizes of a batch, on a copy of the state."""
        copy = pb.optim.apply_updates(self.state.model, self.state.model)
        state = TrainState.create(copy, self.program.optimizer, key=pb.random.key(1))
        for batch in self.data:
            state, _ = self.program(state, *batch)
        self.data.restore(self.data.state() | {"epoch": 0})

    def step(self, state, *batch):
        return self.program(state, *batch)

    def __call__(self, state, *batch):
        return self.step(state, *batch)

    def fit(self, folder):
        return fit(
            self,
            self.state,
            self.data,
            steps=STEPS,
            validate=self.validate,
            every=EVERY,
            folder=folder,
            resume=True,
            log_every=1,
            progress=False,
        )


def tell(pipe, letter, function, wait=0.0):
    """The function, which first says that it is called."""

    def told(*args, **kwargs):
        os.write(pipe, letter)
        time.sleep(wait)
        return function(*args, **kwargs)

    return told


def attempt(run, folder, pipe):
    """In a process of its own: go on until somebody ends it."""
    replace = os.replace

    def replaced(*args):
        replace(*args)
        os.write(pipe, b"r")
        time.sleep(0.002)

    os.fsync = tell(pipe, b"w", os.fsync, wait=0.002)
    os.replace = replaced
    run.step = tell(pipe, b"s", run.program)
    run.fit(folder)
    os._exit(0)


def kill(run, folder, moment, chance):
    """One attempt, and its end. Returns whether it was killed before it had finished."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        attempt(run, folder, send)
    os.close(send)
    seen, wanted = 0, chance.randint(1, MOST[moment])
    while seen < wanted and (letter := os.read(receive, 1)):
        seen += moment in (".", letter.decode())
    time.sleep(chance.uniform(0, 0.002))
    os.kill(child, signal.SIGKILL)
    os.close(receive)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main():
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    run, chance = Run(), random.Random(int(time.time()))
    if kills:
        run.compile()
    killed = [kill(run, folder, moment, chance) for moment in MOMENTS[:kills]]
    result = run.fit(folder)
    pb.train.save(folder / "end.safetensors", result.state)
    print(sum(killed), result.steps, result.best.step)


if __name__ == "__main__":
    main()
