"""A training step planned from types alone: no weight is drawn, no batch read, nothing run."""

from __future__ import annotations

import dataclasses
from typing import Any

from pullback import random
from pullback.compile.signature import kind_of
from pullback.ir.types import TensorType
from pullback.optim.optimizer import Optimizer
from pullback.train.config import Training
from pullback.train.models import Choice
from pullback.train.state import TrainState
from pullback.train.tasks import Task
from pullback.transforms.trace import types_of
from pullback.transforms.tree import Tree

Types = tuple[Any, ...]
"""A batch: a tensor type in the place of each array."""


def state_types(
    model: Tree, optimizer: Optimizer, *, network_state: Tree = None, precision: str = "fp32"
) -> TrainState:
    """The state before the first step, of a model that may be types itself."""

    def create(model: Tree, network_state: Tree) -> TrainState:
        return TrainState.create(
            model,
            optimizer,
            network_state=network_state,
            key=random.key(0),
            precision=precision,
        )

    state: TrainState = types_of(create, model, network_state)
    return state


def batch_types(task: Task, training: Training, model: Choice) -> Types:
    """The batch of a run; of its data one example is looked at.

    Raises `ArgumentError` where the data does not fit the network.
    """
    one = dataclasses.replace(training, batch_size=1, accumulate=1)
    for example in task.batches(one, model):
        return tuple([of_size(kind_of(x), training.batch_size) for x in example])
    raise AssertionError("a loader without a batch")


def of_size(kind: Any, size: int) -> Any:
    """The type with another size of its first axis."""
    assert isinstance(kind, TensorType)
    return kind.reshaped((size, *kind.shape[1:]))
