"""The training step: loss, gradients, clipping and the optimiser's update as one native program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pullback import random
from pullback._public import public
from pullback._settings import override
from pullback.compile import CompiledFunction, compile
from pullback.compile.stages import Lowered
from pullback.errors import ArgumentError, NonFiniteError, ShapeError, StructureError
from pullback.functions.elementwise import isfinite, sqrt
from pullback.functions.manipulation import stack
from pullback.functions.reductions import sum as total
from pullback.ir.array import Array
from pullback.ir.types import DType, bool_, float32, int32
from pullback.ops.operators import cast, constant, lift, select
from pullback.optim.hyperparameters import require_count, require_positive
from pullback.optim.optimizer import Optimizer, apply_updates, zeros_like
from pullback.train.function import UserFunction, drawn, paired, same_types, scalar_loss
from pullback.train.metrics import Metrics, Names
from pullback.train.microbatch import divide, is_array
from pullback.train.precision import (
    compute_dtype,
    master_dtype,
    require_masters,
    rounded,
    widened,
)
from pullback.train.state import (
    TrainState,
    completed,
    copied,
    marks,
    require_optimizer,
    trained_part,
)
from pullback.transforms.control import scan
from pullback.transforms.derivatives import value_and_grad
from pullback.transforms.tree import (
    Tree,
    argument_paths,
    flatten,
    flatten_arrays,
    map_leaves,
    paths,
    unflatten,
)

Loss = Callable[..., Any]
Caught = Callable[["TrainStep", TrainState, tuple[Any, ...]], None]
_caught: ContextVar[Caught | None] = ContextVar("pullback catches training steps", default=None)


@public
def train_step(
    loss_fn: Loss,
    optimizer: Optimizer,
    *,
    accumulate: int = 1,
    clip: float | None = None,
    precision: str = "fp32",
    has_aux: bool = False,
    skip_nonfinite: bool = True,
    threads: int | None = None,
    memory: int | str | None = None,
) -> TrainStep:
    """`step(state, *batch) → (state, metrics)`: one native program that updates a `TrainState`.

    `loss_fn(model, *batch)` returns a scalar, with `has_aux` a pair (scalar, aux). Where it has a
    parameter named `key`, it is given the key of the state, folded with the number of the step (and
    of the micro-batch). Where it has one named `state`, it is given the state of the network, and
    returns (loss, state), with `has_aux` (loss, (state, aux)).

    `accumulate=k` cuts the batch along its first axis into k parts, one after the other inside the
    program, and steps with the mean of their gradients: the gradient of the whole batch, for a loss
    that is a mean over examples. `clip` bounds the norm of all gradients together. `precision`
    "bf16" or "fp16" computes the loss in half precision; parameters stay in float32 ("fp64": all
    in float64). A step whose loss or gradients are not finite changes nothing but the scale of
    the loss, and `metrics.skipped` says so; with `skip_nonfinite=False` it is taken as it comes,
    and NaN reaches the parameters. Frozen parameters (`pb.nn.freeze`) stay as they are.

    `threads` and `memory` are those of `pb.compile`. The state that is passed is given away.

    Raises `ArgumentError` for a senseless option. Calls raise `ShapeError` or `DTypeError` for a
    loss that is no floating scalar and for a batch that is empty or does not divide,
    `StructureError` for a state of another model or optimiser.

    >>> import pullback as pb
    >>> def loss(model, x, y):
    ...     return pb.nn.mse(model(x), y)
    >>> optimizer = pb.optim.sgd(0.1)
    >>> model = pb.nn.Linear(3, 1, key=pb.random.key(0))
    >>> state = pb.train.TrainState.create(model, optimizer)
    >>> step = pb.train.train_step(loss, optimizer, clip=1.0)
    >>> for _ in range(3):
    ...     state, metrics = step(state, pb.ones((8, 3)), pb.zeros((8, 1)))
    >>> int(state.step), bool(metrics.skipped), list(metrics.grad_norms)
    (3, False, ['weight', 'bias'])
    """
    require_optimizer(optimizer)
    require_count(accumulate=accumulate)
    if clip is not None:
        require_positive(clip=clip)
    function = UserFunction.of(loss_fn, "loss_fn")
    compute = compute_dtype(precision)
    recipe = _Recipe(function, optimizer, accumulate, clip, compute, has_aux, skip_nonfinite)
    return TrainStep(recipe, threads, memory)


@contextmanager
def catching(caught: Caught) -> Iterator[None]:
    """Steps that are made inside call `caught(step, state, batch)` before they run."""
    token = _caught.set(caught)
    try:
        yield
    finally:
        _caught.reset(token)


class TrainStep:
    """A compiled training step; made by `train_step`."""

    def __init__(self, recipe: _Recipe, threads: int | None, memory: int | str | None) -> None:
        def step(state: TrainState, *batch: Any) -> tuple[TrainState, Metrics]:
            return recipe.step(state, batch)

        step.__qualname__ = f"train_step of {recipe.loss.name}"
        recipe.loss.sign(step, "state")
        self._recipe = recipe
        self._caught = _caught.get()
        self._program: CompiledFunction = compile(step, donate=0, threads=threads, memory=memory)

    def __call__(self, state: TrainState, *batch: Any) -> tuple[TrainState, Metrics]:
        if self._caught is not None:
            self._caught(self, state, batch)
        try:
            result: tuple[TrainState, Metrics] = self._program(state, *batch)
        except NonFiniteError:  # at CHECK ≥ 1; the state is whole
            again = self._overflowed(state, batch)
            if again is None:
                raise
            return again
        return result

    def _overflowed(
        self, state: TrainState, batch: tuple[Any, ...]
    ) -> tuple[TrainState, Metrics] | None:
        """The step that is skipped because the scale of the loss was too large, as it may be.

        None where the scale is not to blame: there is none, or the loss itself is not finite.
        """
        if getattr(state, "scale", None) is None:
            return None
        with override(check=0):
            after, metrics = self._program(copied(state), *batch)
        return (after, metrics) if math.isfinite(float(metrics.loss)) else None

    def lower(self, state: TrainState, *batch: Any) -> Lowered:
        """The stages of the program for these arguments, as `pb.compile(f).lower` gives them."""
        return self._program.lower(state, *batch)

    @property
    def optimizer(self) -> Optimizer:
        return self._recipe.optimizer

    @property
    def loss_fn(self) -> Loss:
        return self._recipe.loss.call

    @property
    def has_aux(self) -> bool:
        return self._recipe.has_aux

    def __repr__(self) -> str:
        return repr(self._program)


@public
def eval_step(
    fn: Callable[..., Any], *, precision: str = "fp32", threads: int | None = None
) -> Callable[..., Any]:
    """`fn(model, *batch)` as a native program, in a precision as that of `train_step`.

    It is called with a model, or with a `TrainState`, whose model `fn` is given, and whose network
    state where `fn` has a parameter named `state`. Nothing is given away. Results of half precision
    come as float32.

    >>> import pullback as pb
    >>> evaluate = pb.train.eval_step(lambda model, x: model(x).sum())
    >>> float(evaluate(pb.nn.Linear(2, 1, key=pb.random.key(0)), pb.zeros((4, 2))))
    0.0
    """
    function = UserFunction.of(fn, "fn")
    compute = compute_dtype(precision)

    def evaluated(model: Any, *batch: Any) -> Any:
        given: dict[str, Any] = {}
        if isinstance(model, TrainState):
            given = function.named(model.network_state, drawn(function, model))
            model = model.model
        function.require_fitting(batch, given)
        return widened(function(rounded(model, compute), *rounded(batch, compute), **given))

    evaluated.__qualname__ = f"eval_step of {function.name}"
    function.sign(evaluated, "model")
    return compile(evaluated, threads=threads)


# ---- the step --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recipe:
    """What the program computes."""

    loss: UserFunction
    optimizer: Optimizer
    accumulate: int
    clip: float | None
    compute: DType
    has_aux: bool
    skips: bool

    def step(self, state: Any, batch: tuple[Any, ...]) -> tuple[TrainState, Metrics]:
        """The next state, and what there is to tell."""
        self._check(state, batch)
        params = trained_part(state.model)
        loss, grads, network_state, aux = self._accumulated(state, params, batch)
        squares = [total(g * g) for g in flatten(grads)[0]]
        norms = sqrt(stack(squares))
        norm = sqrt(total(stack(squares)))
        good = isfinite(loss) & isfinite(norm) if self.skips else constant(True, bool_)
        updates, optimizer = self.optimizer.update(
            self._bounded(grads, norm, good), state.optimizer, params
        )
        updated = apply_updates(params, updates)
        model = completed(updated, state.model, marks(state.model))
        scale = None if state.scale is None else state.scale.after(good)
        changed = (model, optimizer, network_state, state.step + 1)
        before = (state.model, state.optimizer, state.network_state, state.step)
        model, optimizer, network_state, count = _chosen(good, changed, before)
        after = TrainState(model, optimizer, network_state, state.key, count, scale)
        return after, Metrics(
            loss=loss,
            grad_norm=norm,
            skipped=~good,
            scale=constant(1.0, float32) if state.scale is None else state.scale.value,
            norms=norms,
            ratios=select(good, _ratios(updates, updated), 0.0),
            aux=aux,
            names=Names(tuple([p.removeprefix(".") for p in paths(flatten(params)[1], "")])),
        )

    def _bounded(self, grads: Tree, norm: Array, good: Array) -> Tree:
        """The gradients clipped, and 0 in a step that is skipped.

        So all of the update waits for the norm, and is one kernel a parameter.
        """
        if self.clip is None:
            return map_leaves(lambda g: select(good, g, 0.0), grads)
        factor = select(norm > self.clip, self.clip / norm, 1.0)
        return map_leaves(lambda g: g * cast(factor, g.dtype), grads)

    def _accumulated(
        self, state: TrainState, params: Tree, batch: tuple[Any, ...]
    ) -> tuple[Array, Tree, Tree, Tree]:
        """(loss, gradients, network state, aux) of the batch, in `accumulate` parts."""
        key = drawn(self.loss, state)
        if self.accumulate == 1:
            loss, grads, network_state, aux = self._gradients(
                state, params, batch, state.network_state, key
            )
            return loss, _divided(grads, state.scale and state.scale.value), network_state, aux
        rows, whole = divide(batch, self.accumulate, self.loss)

        def part(carry: tuple[Any, ...], row: Any) -> tuple[tuple[Any, ...], Tree]:
            i, loss, grads, network_state = carry
            mine = None if key is None else random.fold_in(key, i)
            found = self._gradients(state, params, whole(row), network_state, mine)
            grads = map_leaves(lambda s, g: s + g, grads, found[1])
            return (i + 1, loss + found[0], grads, found[2]), found[3]

        wide = master_dtype(self.compute)
        begin = (constant(0, int32), constant(0.0, wide), zeros_like(params), state.network_state)
        (_, loss, grads, network_state), aux = scan(part, begin, rows, self.accumulate)
        by = self.accumulate if state.scale is None else state.scale.value * self.accumulate
        return loss / self.accumulate, _divided(grads, by), network_state, aux

    def _gradients(
        self, state: TrainState, params: Tree, batch: Sequence[Any], network_state: Tree, key: Any
    ) -> tuple[Array, Tree, Tree, Tree]:
        """(loss, gradients times the scale, network state, aux) of one batch."""
        chosen = marks(state.model)

        def scaled(params: Tree) -> tuple[Array, Any]:
            model = rounded(completed(params, state.model, chosen), self.compute)
            given = self.loss.named(network_state, key)
            result = self.loss(model, *rounded(tuple(batch), self.compute), **given)
            taken_apart = public(self._taken_apart, self.loss.name)  # whose errors are its own
            loss, after, aux = taken_apart(result, network_state)
            scale = state.scale
            return loss if scale is None else loss * scale.value, (loss, after, aux)

        scaled.__qualname__ = self.loss.name
        (_, (loss, after, aux)), grads = value_and_grad(scaled, has_aux=True)(params)
        return loss, grads, after, aux

    def _taken_apart(self, result: Any, network_state: Tree) -> tuple[Array, Tree, Tree]:
        """(loss, network state, aux) of what the loss function returned."""
        form = self.loss.form(self.has_aux)
        loss, rest = result, None
        if form != "loss":
            loss, rest = paired(result, form)
        state, aux = network_state, rest
        if self.loss.takes_state:
            state, aux = paired(rest, form) if self.has_aux else (rest, None)
            state = same_types(state, network_state)
        return cast(scalar_loss(loss), master_dtype(self.compute)), state, widened(aux)

    def _check(self, state: Any, batch: tuple[Any, ...]) -> None:
        if not isinstance(state, TrainState):
            raise ArgumentError(
                f"a step takes a TrainState, not a {type(state).__name__}",
                hint="state = pb.train.TrainState.create(model, optimizer)",
            )
        require_masters(state.model, self.compute)
        self.loss.require_fitting(batch, self.loss.named(None, None))
        if self.loss.takes_state and state.network_state is None:
            raise ArgumentError(
                f"{self.loss.name} takes a state, and this one has no network_state",
                hint="TrainState.create(..., network_state=model.initial_state())",
            )
        if state.network_state is not None and not self.loss.takes_state:
            raise ArgumentError(
                f"there is a network_state, and {self.loss.name} has no parameter named state",
                hint="def loss(model, x, y, state): ...; return loss, state",
            )
        if state.scale is None and self.compute == "float16":
            raise ArgumentError(
                "float16 needs a scale of the loss, and the state has none",
                hint='TrainState.create(..., precision="fp16")',
            )
        if state.scale is not None and not self.skips:
            raise ArgumentError(
                "a scaled loss overflows now and then, and such a step is skipped",
                hint="leave skip_nonfinite=False out, or the scale",
            )
        _require_own(self.optimizer, state)
        leaves, structure = flatten(batch)
        for i, leaf in enumerate(leaves):
            if is_array(leaf) and 0 in leaf.shape:
                name = argument_paths(structure, self.loss.names(batch))[i]
                raise ShapeError(f"the batch is empty: {name} is {lift(leaf).type}")


def _divided(grads: Tree, by: Any) -> Tree:
    if by is None:
        return grads
    factor = 1.0 / by
    return map_leaves(lambda g: g * factor, grads)


def _ratios(updates: Tree, updated: Tree) -> Array:
    """‖update‖ / ‖parameter‖ of each parameter, which is the updated one: it is at hand where the
    update is computed.
    """
    pairs = list(zip(flatten(updates)[0], flatten(updated)[0], strict=True))
    moved = stack([total(cast(u, x.dtype) * cast(u, x.dtype)) for u, x in pairs])
    size = stack([total(x * x) for _, x in pairs])
    return sqrt(select(size > 0, moved / select(size > 0, size, 1.0), 0.0))


def _chosen(good: Array, new: Tree, old: Tree) -> Tree:
    """The new arrays where the step is good, else the old ones."""
    leaves, structure = flatten_arrays(new, "the new state")
    before, expected = flatten_arrays(old, "the state")
    if structure != expected or [x.type for x in leaves] != [x.type for x in before]:
        raise StructureError(
            "the optimiser's new state has not the structure and types of the old one",
            hint="`update` keeps shapes and element types, so that one program serves all steps",
        )
    pairs = zip(leaves, before, strict=True)
    return unflatten(structure, [x if x is y else select(good, x, y) for x, y in pairs])


def _require_own(optimizer: Optimizer, state: TrainState) -> None:
    """Raise `StructureError` unless the optimiser's state is of this optimiser and model."""
    leaves, structure = flatten_arrays(state.optimizer, "state.optimizer")
    fresh, expected = flatten_arrays(optimizer.init(trained_part(state.model)), "state.optimizer")
    hint = "make it with TrainState.create(model, optimizer), of the optimizer of this step"
    if structure != expected:
        raise StructureError("the state is of another optimiser, or of another model", hint=hint)
    for i, (x, y) in enumerate(zip(leaves, fresh, strict=True)):
        if x.type != y.type:
            path = paths(structure, "state.optimizer")[i]
            raise StructureError(f"{path} is {x.type}, and this optimiser has {y.type}", hint=hint)
