"""What `pullback plan` plans for: data as `pullback train` takes it, a network of the benchmark, or
a user's own model. Each is known by the types of its state and its batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback import random
from pullback.bench.models import Model
from pullback.bench.workloads import SUITE
from pullback.bench.workloads import Training as TrainingTask
from pullback.cli.subject import Make, Subject, find, is_subject
from pullback.compile.signature import kind_of
from pullback.compile.stages import Lowered
from pullback.errors import ArgumentError, PullbackError
from pullback.functions.losses import cross_entropy
from pullback.ir.array import Array
from pullback.ir.types import Numbers, TensorType, float32, float64
from pullback.ops.operators import zeros
from pullback.optim.optimizer import Optimizer
from pullback.train.config import Tables
from pullback.train.models import GPTChoice, apply, plain_model
from pullback.train.optimizers import OptimizerChoice
from pullback.train.planning import Types, batch_types, of_size, state_types
from pullback.train.session import Choices, chosen, step_of
from pullback.train.step import train_step
from pullback.transforms.trace import types_of
from pullback.transforms.tree import Tree, flatten, map_leaves

SIZES = {
    "layers": ("layers", "blocks"),
    "width": ("width", "hidden"),
    "heads": ("heads",),
    "context": ("length", "block"),
    "vocabulary": ("vocabulary",),
}
"""The options of a network, and what its field is called."""


@dataclass(frozen=True)
class Decoder:
    """The `gpt` of `pullback train`, whose layers have names, as large as that of the benchmark."""

    layers: int = 4
    width: int = 192
    heads: int = 6
    length: int = 128
    vocabulary: int = 96
    batch: int = 8

    def parameters(self, rng: Any) -> Tree:
        choice = GPTChoice(self.layers, self.heads, self.width, self.length)
        return choice.build((), self.vocabulary, key=random.key(0))

    def examples(self, rng: np.random.Generator) -> tuple[Numbers, ...]:
        tokens = np.zeros((self.batch, self.length), np.int64)
        return tokens, tokens

    def loss(self, model: Tree, tokens: Any, targets: Any) -> Array:
        return cross_entropy(apply(model, tokens), targets)


NETWORKS: Mapping[str, Any] = {
    name: task.model
    for name, task in SUITE.items()
    if isinstance(task, TrainingTask) and not getattr(task.model, "half", False)
} | {"gpt": Decoder()}
"""The networks of `pullback bench`, by name."""

STEPS = 1000
"""Of a run whose length is not known yet: a schedule of rates is a formula of it."""


@dataclass(frozen=True)
class Planned:
    """A training step, for any size of the batch."""

    title: str
    batch: int
    lower: Callable[[int, str | None], Lowered]
    """The step for so many examples, within so many bytes."""
    notes: Sequence[str] = ()
    unit: int = 1
    """A batch is a multiple of it."""
    memory: str | None = None
    """The limit that a configuration sets."""
    has_lines: bool = False
    """Whether the lines that values come from are the user's own."""


@dataclass(frozen=True)
class Wanted:
    """The options: sections as `pullback train` has them, and sizes of a network."""

    sections: Tables
    file: Tables
    sizes: Mapping[str, int]

    def training(self, name: str, default: Any = None) -> Any:
        return self.sections.get("training", {}).get(name, default)


def planned(source: str, wanted: Wanted) -> Planned:
    """What a source stands for; `ArgumentError` where it stands for nothing."""
    if source in NETWORKS:
        return _network(source, wanted)
    if is_subject(source):
        return _own(find(source), wanted)
    return _data(source, wanted)


# ---- data -----------------------------------------------------------------------------------


def _data(source: str, wanted: Wanted) -> Planned:
    sizes = {{"context": "block"}.get(key, key): x for key, x in wanted.sizes.items()}
    model = {**wanted.sections.get("model", {}), **sizes}
    sections = {**wanted.sections, **({"model": model} if model else {})}
    length = {"training": {"steps": STEPS, **sections.get("training", {})}}
    choices = chosen(source, wanted.file, {**sections, **length})
    training, task = choices.training, choices.task
    optimizer = choices.optimizer.build(STEPS)

    def lower(batch: int, memory: str | None) -> Lowered:
        here = dataclasses.replace(training, batch_size=batch, memory=memory)
        other: Choices = dataclasses.replace(choices, training=here)
        model = types_of(
            lambda: other.model.build(task.inputs, task.outputs, key=random.key(here.seed))
        )
        state = state_types(model, optimizer, precision=here.precision)
        return step_of(other, optimizer).lower(state, *batch_types(task, here, other.model))

    title = f"{task.name}, {_listed(plain_model(choices.model))}; {choices.optimizer.name}"
    return Planned(
        f"{title}, {training.precision}",
        training.batch_size,
        lower,
        tuple(task.notes[:1]),
        training.accumulate,
        training.memory,
    )


def _listed(table: Mapping[str, Any]) -> str:
    rest = [f"{key} {x}" for key, x in table.items() if key != "name"]
    return f"{table['name']} ({', '.join(rest)})" if rest else str(table["name"])


# ---- networks of the benchmark --------------------------------------------------------------


class _Types:
    """Stands for a generator of random numbers where only types are asked for."""

    def standard_normal(self, shape: Any) -> Any:
        sizes = shape if isinstance(shape, tuple) else (shape,)
        return zeros(TensorType(sizes, float32))


def _network(name: str, wanted: Wanted) -> Planned:
    _refuse(wanted, ("optimizer", "training"), f"the network {name}")
    model = dataclasses.replace(NETWORKS[name], **_fields(name, wanted.sizes))
    optimizer = _optimizer(wanted)

    def lower(batch: int, memory: str | None) -> Lowered:
        sized: Model = dataclasses.replace(model, batch=batch)
        generator: Any = _Types()
        params = types_of(lambda: sized.parameters(generator))
        examples = sized.examples(np.random.default_rng(0))
        types = tuple([_narrow(kind_of(x)) for x in examples])
        return _lowered(sized.loss, optimizer, params, types, wanted, memory)

    fields = {key: x for key, x in vars(model).items() if key not in ("batch", "half")}
    precision = wanted.training("precision", "fp32")
    title = f"{_listed({'name': name, **fields})}; {_name(wanted)}, {precision}"
    return Planned(title, model.batch, lower, unit=wanted.training("accumulate", 1))


def _fields(name: str, sizes: Mapping[str, int]) -> dict[str, int]:
    known = {field.name for field in dataclasses.fields(NETWORKS[name])}
    found = {}
    for option, size in sizes.items():
        field = next((x for x in SIZES[option] if x in known), None)
        if field is None or not isinstance(getattr(NETWORKS[name], field), int):
            raise ArgumentError(f"the network {name} has no --{option}")
        found[field] = size
    width, heads = (found.get(x, getattr(NETWORKS[name], x, 1)) for x in ("width", "heads"))
    if width % heads:
        raise ArgumentError(f"--width {width} does not divide into --heads {heads}")
    return found


def _narrow(kind: Any) -> Any:
    """Numbers are drawn in float64 and trained on in float32."""
    return TensorType(kind.shape, float32) if kind.dtype == float64 else kind


# ---- a user's own ---------------------------------------------------------------------------


def _own(make: Make, wanted: Wanted) -> Planned:
    _refuse(wanted, ("optimizer", "training"), make.name)
    if wanted.sizes:
        raise ArgumentError(f"--{min(wanted.sizes)} is for the networks of this package")
    own = _Own(make, wanted)
    subject = own.subject(None)
    optimizer = "its own optimizer" if subject.optimizer else _name(wanted)
    return Planned(
        f"{make.name}; {optimizer}, {wanted.training('precision', 'fp32')}",
        _size(make, subject.batch),
        own.lower,
        own.notes,
        wanted.training("accumulate", 1),
        has_lines=True,
    )


class _Own:
    """A user's model as types; or made in full, where the user's code asks for its numbers."""

    def __init__(self, make: Make, wanted: Wanted) -> None:
        self.make, self.wanted = make, wanted
        self.notes: list[str] = []

    def subject(self, batch: int | None) -> Subject:
        """The subject, its arrays as types."""
        made: list[Subject] = []

        def build() -> Tree:
            made.append(self.make(batch))
            return made[-1].model, made[-1].batch, made[-1].network_state

        if self.notes:
            tree = types_of(lambda tree: tree, build())
        else:
            try:
                tree = types_of(build)
            except PullbackError:
                self._make_in_full()
                return self.subject(batch)
        model, examples, network_state = tree
        parts: Any = {"model": model, "batch": examples, "network_state": network_state}
        return dataclasses.replace(made[-1], **parts)

    def lower(self, batch: int, memory: str | None) -> Lowered:
        try:
            return self._lower(batch, memory)
        except PullbackError:
            if self.notes:
                raise
            self._make_in_full()  # a loss that captures an array of its maker needs the numbers
            return self._lower(batch, memory)

    def _make_in_full(self) -> None:
        self.notes.append("its code asks for numbers: the model was made in full")

    def _lower(self, batch: int, memory: str | None) -> Lowered:
        subject = self.subject(batch)
        optimizer = subject.optimizer or _optimizer(self.wanted)
        examples = _resized(self.make, subject.batch, batch)
        return _lowered(
            subject.loss_fn,
            optimizer,
            subject.model,
            examples,
            self.wanted,
            memory,
            subject.network_state,
        )


def _size(make: Make, batch: Types) -> int:
    """The examples of a batch: the size that the first axes of its arrays have in common."""
    sizes = {x.shape[0] if x.shape else None for x in flatten(batch)[0]}
    size: int | None = sizes.pop() if len(sizes) == 1 else None
    if size is None:
        raise ArgumentError(
            f"the first axes of the batch of {make.name} differ, so none counts the examples",
            hint="give it a parameter: def make(batch=32)",
        )
    return size


def _resized(make: Make, batch: Types, size: int) -> Types:
    if make.takes_batch or _size(make, batch) == size:
        return batch
    resized: Types = map_leaves(lambda x: of_size(x, size), batch)
    return resized


# ---- shared ---------------------------------------------------------------------------------


def _refuse(wanted: Wanted, known: Sequence[str], what: str) -> None:
    """Raise `ArgumentError` for a choice that is for data alone."""
    if wanted.file:
        raise ArgumentError(f"--config is for data, and {what} has none")
    for name, table in wanted.sections.items():
        if name not in known:
            raise ArgumentError(f"--{next(iter(table))} is for data, and {what} has none")


def _name(wanted: Wanted) -> str:
    return str(wanted.sections.get("optimizer", {}).get("name", "adamw"))


def _optimizer(wanted: Wanted) -> Optimizer:
    return OptimizerChoice.parse({"name": _name(wanted)}).build(STEPS)


def _lowered(
    loss_fn: Callable[..., Any],
    optimizer: Optimizer,
    model: Tree,
    batch: Types,
    wanted: Wanted,
    memory: str | None,
    network_state: Tree = None,
) -> Lowered:
    precision = wanted.training("precision", "fp32")
    step = train_step(
        loss_fn,
        optimizer,
        accumulate=wanted.training("accumulate", 1),
        clip=wanted.training("clip"),
        precision=precision,
        threads=wanted.training("threads"),
        memory=memory,
    )
    state = state_types(model, optimizer, network_state=network_state, precision=precision)
    return step.lower(state, *batch)
