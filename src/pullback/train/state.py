"""`TrainState`: everything that a training step changes, as one tree."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from pullback._public import public
from pullback.errors import ArgumentError, DTypeError, StructureError
from pullback.ir.array import Array, concrete
from pullback.ir.types import int32, is_float, uint32
from pullback.nn.freezing import trainable
from pullback.nn.module import Module
from pullback.ops.operators import constant, lift
from pullback.optim.optimizer import Optimizer
from pullback.train.precision import LossScale, compute_dtype, require_masters
from pullback.transforms.tree import Tree, built, flatten, flatten_arrays, paths, unflatten


class TrainState(Module):
    """A model in training: its parameters, and what else a step needs and changes.

    It is a container, as a model is: `pb.train.save` writes it, `pb.train.load` reads it. A step
    takes its memory over and gives the next state back; the one given away cannot be used again.
    """

    model: Any
    """The parameters, float32 (float64 under "fp64")."""
    optimizer: Any
    """The optimiser's state, of the parameters that are not frozen."""
    network_state: Any
    """What layers carry from step to step (running statistics of `BatchNorm`), or None."""
    key: Array | None
    """The random key of the run; each step folds its number into it."""
    step: Array
    """int32[]: steps done."""
    scale: LossScale | None
    """The scale of the loss, where it is scaled."""

    @classmethod
    @functools.partial(public, subject="TrainState")
    def create(
        cls,
        model: Tree,
        optimizer: Optimizer,
        *,
        network_state: Tree = None,
        key: Array | None = None,
        precision: str = "fp32",
        loss_scale: LossScale | None = None,
    ) -> TrainState:
        """The state before the first step. Arrays are copied: `model` itself stays as it is.

        `key`, of `pb.random.key(seed)`, is for losses that draw (dropout). With precision "fp16"
        the loss is scaled, by `LossScale()` unless given another.

        Raises `ArgumentError` for what is no optimiser or no key or a model with nothing to train,
        `DTypeError` for parameters that are not float32 (not float64 under "fp64"),
        `StructureError` where one array stands twice in the model.
        """
        require_optimizer(optimizer)
        compute = compute_dtype(precision)
        whole = built(model)
        require_single(whole)
        require_masters(whole, compute)
        if loss_scale is not None and not isinstance(loss_scale, LossScale):
            raise ArgumentError(
                f"loss_scale is a LossScale, not {loss_scale!r:.40}",
                hint="loss_scale=pb.train.LossScale(initial=1024.0)",
            )
        if loss_scale is None and precision == "fp16":
            loss_scale = LossScale()
        return cls(
            model=copied(whole),
            optimizer=copied(optimizer.init(trained_part(whole))),
            network_state=copied(built(network_state)),
            key=None if key is None else copied(_key(key)),
            step=constant(0, int32),
            scale=copied(loss_scale),
        )


def copied(tree: Tree) -> Tree:
    """The tree with arrays of its own, each in its own memory; values of a trace have none."""
    leaves, structure = flatten_arrays(tree, "the state")
    copies = [concrete(x.numpy().copy()) if x.has_numbers else x for x in leaves]
    return unflatten(structure, copies)


def require_optimizer(optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(
            f"the optimizer is no Optimizer but {getattr(optimizer, '__name__', optimizer)!r:.60}",
            hint="call it: optimizer = pb.optim.adamw(1e-3)"
            if callable(optimizer)
            else "pb.optim.adamw(1e-3) is one; pb.optim.Optimizer(init, update) makes your own",
        )


def require_single(model: Tree) -> None:
    """Raise `StructureError` where one array stands in two places: a step would part them."""
    leaves, structure = flatten(model)
    first: dict[int, int] = {}
    for i, leaf in enumerate(leaves):
        j = first.setdefault(id(leaf), i)
        if isinstance(leaf, Array) and j != i:
            names = paths(structure, "model")
            raise StructureError(
                f"{names[j]} and {names[i]} are one array, and would be trained as two",
                hint="hold it once and use it twice, or give each a copy",
            )


def _key(key: Any) -> Array:
    array = lift(key)
    if array.dtype != uint32 or array.shape != (2,):
        raise DTypeError(
            f"a key is uint32[2], not {array.type}", hint="key=pb.random.key(0), of any seed"
        )
    return array


# ---- the part of a model that is trained -----------------------------------------------------


def marks(model: Tree) -> list[bool]:
    """For each array of a model whether it is trained: floating, and not frozen."""
    leaves, _ = flatten_arrays(model, "model")
    free = flatten(trainable(model))[0]
    chosen = [mark and is_float(x.dtype) for mark, x in zip(free, leaves, strict=True)]
    if not any(chosen):
        raise ArgumentError(
            "the model has nothing to train: "
            + ("every array is frozen" if leaves else "it holds no array"),
            hint="pb.nn.unfreeze(model, pattern) frees parameters" if leaves else None,
        )
    return chosen


def trained_part(model: Tree) -> Tree:
    """The model with None, which is no leaf, in the place of what is not trained."""
    leaves, structure = flatten(model)
    chosen = marks(model)
    return unflatten(
        structure, [x if mark else None for x, mark in zip(leaves, chosen, strict=True)]
    )


def completed(part: Tree, model: Tree, chosen: Sequence[bool]) -> Tree:
    """The model with its trained part replaced."""
    leaves, structure = flatten(model)
    new = iter(flatten(part)[0])
    return unflatten(
        structure, [next(new) if mark else x for x, mark in zip(leaves, chosen, strict=True)]
    )
