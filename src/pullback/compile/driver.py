"""The driver: signature → cache → trace → optimise → fuse → program, and the call of a program."""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pullback._public import public
from pullback._settings import log, settings
from pullback.compile.signature import (
    Chosen,
    Dynamic,
    Kind,
    Names,
    ScalarType,
    Signature,
    Static,
    difference,
    read,
)
from pullback.compile.stages import Lowered
from pullback.errors import ArgumentError
from pullback.ir.array import Array, concrete
from pullback.ir.builder import current
from pullback.ir.types import Numbers, TensorType
from pullback.ops.weak import Weak
from pullback.transforms.derivatives import name_of
from pullback.transforms.trace import Traced, trace_leaves
from pullback.transforms.tree import flatten, unflatten

Key = tuple[Signature, str, int]


@public
def compile(
    f: Callable[..., Any], *, static: Names = (), threads: int | None = None
) -> CompiledFunction:
    """`f` as native code: one program for each signature of its arguments.

    A signature is the structure of the arguments, their shapes and element types, and the values of
    the `static` arguments (positions or names; these must be hashable). Python scalars are no part
    of it: a changed learning rate compiles nothing. Arrays that `f` captures are read when the
    program is made, and held by reference. The results have the structure that `f` returns, and
    their bits do not depend on `threads` (by default `PULLBACK_THREADS`, or all cores).

    Inside a transform (`grad`, `vmap`, another `compile` …) the operations of `f` become part of
    what is being transformed.

    Raises `StructureError` for an argument that is no tree of arrays, `TracedValueError` where `f`
    asks a traced value for its number, `CompileError` for an operation without native code.

    >>> import pullback as pb
    >>> float(pb.compile(lambda x: x * x + 1)(3.0))
    10.0
    """
    if not callable(f):
        raise ArgumentError(f"compile takes a function, not a {type(f).__name__}")
    if threads is not None and (isinstance(threads, bool) or threads < 1):
        raise ArgumentError(f"threads is a positive number, not {threads!r}")
    return CompiledFunction(f, Chosen.of(f, static, "static"), threads)


class CompiledFunction:
    """A function that runs as native programs; made by `pb.compile`."""

    def __init__(self, f: Callable[..., Any], static: Chosen, threads: int | None) -> None:
        functools.update_wrapper(self, f)
        self._function = f
        self._static = static
        self._threads = threads
        self._programs: dict[Key, Executable] = {}
        self._lock = threading.Lock()

    @public
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current() is not None:
            return self._function(*args, **kwargs)
        signature, leaves = read(self._function, args, kwargs, self._static)
        return self._executable(signature, args, kwargs)(leaves)

    @public
    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The stages of the program for these arguments; arrays may be given by their types."""
        signature, _ = read(self._function, args, kwargs, self._static)
        found = self._programs.get(self._key(signature))
        return self._lowered(signature, args, kwargs) if found is None else found.lowered

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<compiled {name_of(self._function)}: {len(self._programs)} programs>"

    def _key(self, signature: Signature) -> Key:
        chosen = settings()
        return signature, chosen.target, self._threads or chosen.threads

    def _executable(
        self, signature: Signature, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Executable:
        key = self._key(signature)
        found = self._programs.get(key)
        if found is None:
            with self._lock:
                found = self._programs.get(key)
                if found is None:
                    self._tell_why(signature)
                    lowered = self._lowered(signature, args, kwargs)
                    found = Executable(lowered, signature.kinds)
                    lowered.tell(name_of(self._function))
                    self._programs[key] = found
        return found

    def _lowered(
        self, signature: Signature, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Lowered:
        return Lowered.of(lambda: self._trace(signature, args, kwargs), self._threads)

    def _trace(self, signature: Signature, args: Sequence[Any], kwargs: dict[str, Any]) -> Traced:
        kinds = signature.kinds

        def body(*leaves: Any) -> Any:
            values = [_stand_in(x, kind) for x, kind in zip(leaves, kinds, strict=True)]
            positional, named = _rebuilt(signature, values)
            return self._function(*positional, **named)

        return trace_leaves(
            body,
            [kind.type if isinstance(kind, ScalarType) else kind for kind in kinds],
            flatten(tuple(kinds))[1],
            evaluating=False,
            naming=lambda: signature.leaf_names(self._function),
        )

    def _tell_why(self, signature: Signature) -> None:
        name = name_of(self._function)
        if not self._programs:
            log("recompile", f"{name} is compiled for the first time")
            return
        known = [key[0] for key in reversed(self._programs)]
        changes = min(
            [difference(self._function, old, signature) for old in known],
            key=lambda lines: (len(lines), sum(map(len, lines))),
        )
        log("recompile", f"{name} is compiled again: {'; '.join(changes) or 'settings changed'}")


def _stand_in(x: Array, kind: Kind) -> Array | Weak:
    return Weak(x, kind.strength) if isinstance(kind, ScalarType) else x


def _rebuilt(signature: Signature, leaves: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments again, from their leaves."""
    values: list[Any] = []
    position = 0
    for argument in signature.arguments:
        match argument:
            case Static():
                values.append(argument.value)
            case Dynamic():
                end = position + len(argument.kinds)
                values.append(unflatten(argument.treedef, leaves[position:end]))
                position = end
    named = zip(signature.keywords, values[signature.count :], strict=True)
    return values[: signature.count], dict(named)


class Executable:
    """A program and how arguments become its inputs and its outputs the result."""

    def __init__(self, lowered: Lowered, kinds: Sequence[Kind]) -> None:
        self.lowered = lowered
        self.program = lowered.program
        self.kinds = list(kinds)
        captured = lowered.traced.captured
        self._captured = [numbers_of(x, x.type) for x in captured]
        places = {buffer: i for i, buffer in enumerate(self.program.schedule.inputs)}
        self._given = [places.get(buffer) for buffer in self.program.schedule.outputs]

    def __call__(self, leaves: Sequence[Any]) -> Any:
        inputs = [numbers_of(x, kind) for x, kind in zip(leaves, self.kinds, strict=True)]
        inputs += self._captured
        results = self.program(inputs)
        passed = [*leaves, *self.lowered.traced.captured]
        outputs = [
            concrete(x) if i is None else _unchanged(passed[i], x)
            for x, i in zip(results, self._given, strict=True)
        ]
        return self.lowered.traced.rebuild(outputs)


def _unchanged(leaf: Any, numbers: Numbers) -> Array:
    """An argument that is a result: itself, or a copy of what its owner may write to."""
    return leaf if isinstance(leaf, Array) else concrete(numbers.copy())


def numbers_of(leaf: Any, kind: Kind) -> Numbers:
    """The numbers of an argument, row-major, in this machine's byte order."""
    if isinstance(leaf, Array):
        numbers = leaf._numbers("a compiled function's argument")
    elif isinstance(kind, TensorType):
        numbers = np.asarray(leaf, kind.dtype)
    else:
        numbers = _scalar(leaf, kind)
    return numbers if numbers.flags.c_contiguous else np.ascontiguousarray(numbers)


def _scalar(leaf: Any, kind: ScalarType) -> Numbers:
    try:
        return np.asarray(leaf, kind.dtype)
    except OverflowError:
        raise ArgumentError(f"the integer {leaf} does not fit {kind.dtype}") from None
