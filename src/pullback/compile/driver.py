"""The driver: signature → cache → trace → optimise → fuse → program, and the call of a program."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pullback._public import public, without_library_frames
from pullback._settings import Settings, log, settings
from pullback.compile.budget import parse_bytes, require_machine
from pullback.compile.captured import Watch
from pullback.compile.executable import Executable
from pullback.compile.report import with_batch
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
from pullback.compile.stages import Lowered, Met, timed
from pullback.errors import ArgumentError, PullbackError, calling_site
from pullback.ir.array import Array
from pullback.ir.builder import current
from pullback.ir.graph import is_same
from pullback.ops.weak import Weak
from pullback.passes.pipeline import prepare
from pullback.schedule.planner.driver import Planner
from pullback.transforms.derivatives import name_of
from pullback.transforms.trace import Traced, trace_leaves
from pullback.transforms.tree import flatten, unflatten
from pullback.transforms.walk import preparing

Key = tuple[Signature, str, int]


@public
def compile(
    f: Callable[..., Any],
    *,
    donate: Names = (),
    static: Names = (),
    threads: int | None = None,
    memory: int | str | None = None,
) -> CompiledFunction:
    """`f` as native code: one program for each signature of its arguments.

    A signature is the structure of the arguments, their shapes and element types, and the values of
    the `static` arguments (positions or names; these must be hashable). Python scalars are no part
    of it: a changed learning rate compiles nothing. An integer that does not fit the element type
    of what it meets raises, as it does eagerly; what is computed from scalars wraps. The results
    have the structure that `f` returns, and their bits do not depend on `threads` (by default
    `PULLBACK_THREADS`, or all cores).

    The arrays of `donate`d arguments (positions or names) are given away: their memory is reused in
    place for results of the same type, and using them again raises `DonationError`. A donated tree
    comes back as a result of the same structure and types, which costs nothing per array when it
    is donated again. After an error the donated arrays are as they were. An interrupt (Ctrl-C)
    waits until the program has run; then they stay with who gave them, and all of them hold what
    was written over them, the new state. NumPy arrays are copied, and keep their numbers.

    Arrays that `f` captures are inputs too, held by reference. Each call looks whether the names,
    attributes and items that led to them still do, and where one is bound anew, traces `f` again.
    What else `f` captures (numbers, flags) is read when the program is made, and not again; so are
    the numbers of NumPy arrays.

    The memory of results of a megabyte and more is kept when they are dropped, for the next calls:
    of each result at most two arrays, until the function itself is dropped. `plan.peak_bytes`
    counts one of them, the one that a call writes. With `memory`, nothing is kept.

    With `memory` (bytes, or "500 MB"), a program holds no more than that: arguments, results, state
    and all between. Where it would, values are dropped and computed again later, at the least extra
    time that was found; the results have the same bits. `lower(...).plan.peak_bytes` is exact
    before anything runs. `MemoryPlanError` where no schedule fits: it names the smallest budget
    that is possible, and the values that bind it.

    Inside a transform (`grad`, `vmap`, another `compile` …) the operations of `f` become part of
    what is being transformed.

    Raises `StructureError` for an argument that is no tree of arrays, `TracedValueError` where `f`
    asks a traced value for its number, `DTypeError` for a scalar that does not fit, `CompileError`
    for an operation without native code.

    >>> import pullback as pb
    >>> float(pb.compile(lambda x: x * x + 1)(3.0))
    10.0
    """
    if not callable(f):
        raise ArgumentError(f"compile takes a function, not a {type(f).__name__}")
    if threads is not None and (isinstance(threads, bool) or threads < 1):
        raise ArgumentError(f"threads is a positive number, not {threads!r}")
    chosen = Chosen.of(f, static, "static"), Chosen.of(f, donate, "donate")
    return CompiledFunction(f, *chosen, threads, None if memory is None else parse_bytes(memory))


class CompiledFunction:
    """A function that runs as native programs; made by `pb.compile`."""

    def __init__(
        self,
        f: Callable[..., Any],
        static: Chosen,
        donate: Chosen,
        threads: int | None,
        memory: int | None,
    ) -> None:
        functools.update_wrapper(self, f)
        self._function = f
        self._static = static
        self._donate = donate
        self._threads = threads
        self._memory = memory
        self._programs: dict[Key, Executable] = {}
        self._lock = threading.Lock()
        self._last: tuple[Settings, Executable] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._call(args, kwargs)
        except Exception as error:
            if isinstance(error, PullbackError):
                error.locate(name_of(self._function), calling_site())
            if settings().traceback == "short":
                error.__traceback__ = without_library_frames(error.__traceback__)
            raise

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        chosen, last = settings(), self._last
        if current() is not None or chosen.eager:
            return self._function(*args, **kwargs)
        if last is not None and last[0] is chosen and not kwargs:
            known = last[1].match(args)
            if known is not None and last[1].watch.holds():
                return last[1](known)
        signature, feeds = read(self._function, args, kwargs, self._static)
        executable = self._executable(signature)
        self._last = chosen, executable
        return executable(feeds)

    @public
    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The stages of the program for these arguments; arrays may be given by their types."""
        signature, _ = read(self._function, args, kwargs, self._static)
        found = self._programs.get(self._key(signature))
        return found.lowered if found and found.watch.holds() else self._lowered(signature)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """By its name where it has one, as a decorated function; else without its programs."""
        f = self._function
        place: Any = sys.modules.get(getattr(f, "__module__", None) or "")
        name = getattr(f, "__qualname__", "")
        if _named(place, name) is self:
            return name
        return CompiledFunction, (f, self._static, self._donate, self._threads, self._memory)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        count = len(self._programs)
        return f"<compiled {name_of(self._function)}: {count} program{'s' * (count != 1)}>"

    def _key(self, signature: Signature) -> Key:
        chosen = settings()
        return signature, chosen.target, self._threads or chosen.threads

    def _executable(self, signature: Signature) -> Executable:
        key = self._key(signature)
        found = self._programs.get(key)
        if found is None or not found.watch.holds():
            with self._lock:
                found = self._programs.get(key)
                if found is None or not found.watch.holds():
                    with collector_at_rest():
                        found = self._programs[key] = self._compile(signature, found)
        return found

    def _compile(self, signature: Signature, old: Executable | None) -> Executable:
        """The program; the old one again where only arrays that it captured are others."""
        if old is None:
            self._tell_why(signature)
            if self._memory is not None:
                require_machine(self._memory)
        lowered = self._lowered(signature)
        watch = Watch(self._function, lowered.traced.captured)
        if old is not None:
            if _is_same(lowered, old.lowered):
                old.capture(lowered.traced, watch)
                return old
            name = name_of(self._function)
            log("recompile", f"{name} is compiled again: what it captures is bound anew")
        lowered.explain()
        made = Executable(lowered, signature, signature.names(self._function), watch)
        lowered.tell()
        return made

    def _lowered(self, signature: Signature) -> Lowered:
        times: dict[str, float] = {}
        with timed(times, "trace"), preparing(prepare):
            traced, met = self._trace(signature)
        dynamic = enumerate(signature.dynamic)
        donated = tuple([k for k, (i, _) in dynamic if self._donate.has(signature, i)])
        names = signature.leaf_names(self._function)
        chosen = self._threads, self._memory
        given = traced, signature, names, donated, *chosen, times, met

        def batched(of: Sequence[str], size: int) -> Planner:
            known = signature.names(self._function)
            other = self._lowered(with_batch(signature, known, donated, of, size))
            return replace(other, memory=None).code.planner

        return Lowered(name_of(self._function), *given, batched)

    def _trace(self, signature: Signature) -> tuple[Traced, Met]:
        kinds = signature.kinds
        scalars: dict[int, Weak] = {}

        def body(*leaves: Any) -> Any:
            values = [_stand_in(x, kind) for x, kind in zip(leaves, kinds, strict=True)]
            scalars.update((i, x) for i, x in enumerate(values) if isinstance(x, Weak))
            positional, named = _rebuilt(signature, values)
            return self._function(*positional, **named)

        traced = trace_leaves(
            body,
            [kind.type if isinstance(kind, ScalarType) else kind for kind in kinds],
            flatten(tuple(kinds))[1],
            evaluating=False,
            naming=lambda: signature.leaf_names(self._function),
        )
        return traced, {i: frozenset(x.met) for i, x in scalars.items()}

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


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """No search for cyclic garbage inside, unless somebody asks for it.

    A graph is many objects and no garbage. Making it would have the collector look at everything
    that the process holds: 22 ms after the imports of this library alone.
    """
    works = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if works:
            gc.enable()


def uncompiled(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function that `compile` was given; another one as it is."""
    return f._function if isinstance(f, CompiledFunction) else f


def _named(place: Any, name: str) -> Any:
    for part in name.split("."):
        place = getattr(place, part, None)
    return place


def _is_same(new: Lowered, old: Lowered) -> bool:
    return new.traced.result == old.traced.result and is_same(new.graph, old.graph)


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
