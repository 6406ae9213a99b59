"""`Builder` records nodes; an evaluating one computes each node as it is recorded.

`apply` is the one road for every operation: record it in the builder at work here, or, when
none is, compute it and record nothing.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from pullback._settings import settings
from pullback.errors import (
    NOWHERE,
    Frame,
    GraphError,
    LeakedValueError,
    NonFiniteError,
    Operand,
    Phase,
    PullbackError,
    Site,
    calling_site,
    in_library,
    is_called,
)
from pullback.ir.array import CONCRETE, DONATED, Array
from pullback.ir.graph import Graph, Node
from pullback.ir.types import Numbers, TensorType, is_float

if TYPE_CHECKING:
    from pullback.ir.op import Op

P = ParamSpec("P")
R = TypeVar("R")

_trace_ids = itertools.count(CONCRETE + 1)
_current: ContextVar[Builder | None] = ContextVar("pullback builder", default=None)
_scope: ContextVar[str] = ContextVar("pullback module path", default="")
_watched: ContextVar[bool] = ContextVar("pullback looks for NaN and infinity", default=True)
_quiet: ContextVar[bool] = ContextVar("pullback floating-point warnings are off", default=False)


class Builder:
    """Records nodes; when `evaluating`, each also gets its numbers by the op's reference."""

    def __init__(self, parent: Builder | None, evaluating: bool) -> None:
        self.parent = parent
        self.evaluating = evaluating
        self.trace = next(_trace_ids)
        self.depth: int = 1 if parent is None else parent.depth + 1
        self.nodes: list[Node] = []
        self.inputs: list[Array] = []
        self.naming: Callable[[], Sequence[str]] = lambda: [
            f"input {i}" for i in range(len(self.inputs))
        ]
        self.captured: dict[Array, Array] = {}
        self.constants: dict[object, Array] = {}
        self.inherited: Site | None = None
        self._sites: dict[object, Site] = {}
        self._here: tuple[FrameType, str, dict[int, Site]] | None = None
        """The user's frame that recorded last, its module path, its sites by their instruction."""

    # ---- values in ----

    def input(self, like: Array | TensorType) -> Array:
        """A fresh graph input; it carries the numbers of `like` when this builder evaluates."""
        if isinstance(like, Array):
            value = Array(like.type, like._data if self.evaluating else None, self.trace)
        else:
            value = Array(like, None, self.trace)
        self.inputs.append(value)
        return value

    def admit(self, value: Array) -> Array:
        """`value` as seen from this builder: its own, or a hidden input for one from outside."""
        if value.trace == self.trace:
            return value
        inner = self.captured.get(value)
        if inner is None:
            if value.trace != CONCRETE and not self._is_outer(value.trace):
                raise _leak(value)
            inner = Array(value.type, value._data if self.evaluating else None, self.trace)
            self.captured[value] = inner
        return inner

    def _is_outer(self, trace: int) -> bool:
        builder = self.parent
        while builder is not None:
            if builder.trace == trace:
                return True
            builder = builder.parent
        return False

    # ---- nodes ----

    def record(self, op: Op, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Append `op(*inputs)`; raises the op's errors completed with the user's line."""
        trace = self.trace
        if not inputs:
            known = self.constants.get(op)
            if known is not None:
                return (known,)
        admitted = tuple(inputs)
        for x in admitted:
            if x.trace != trace:
                admitted = tuple(map(self.admit, inputs))
                break
        site = self.inherited or self._capture()
        types = [x.type for x in admitted]
        try:
            output_types = op.output_types(*types)
            if self.evaluating:
                numbers = compute(op, [x._data for x in admitted], output_types)  # type: ignore[misc]
                outputs = tuple([Array(t, n, trace) for t, n in zip(output_types, numbers)])  # noqa: B905
            else:
                outputs = tuple([Array(t, None, trace) for t in output_types])
        except PullbackError as error:
            error.locate(
                op.name, site, _operands(op, error, types, [self.origin(x) for x in inputs])
            )
            raise
        self.nodes.append(Node(op, admitted, outputs, site))
        if not admitted and len(outputs) == 1:
            self.constants[op] = outputs[0]
        return outputs

    def adopt(self, node: Node, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """Append a copy of another builder's node on these inputs; numbers it has are kept."""
        outputs = tuple(
            [Array(x.type, x._data if self.evaluating else None, self.trace) for x in node.outputs]
        )
        self.nodes.append(Node(node.op, tuple([self.admit(x) for x in inputs]), outputs, node.site))
        return outputs

    def finish(self, outputs: Sequence[Array]) -> tuple[Graph, tuple[Array, ...]]:
        """The closed graph, and the outer values that its last, hidden inputs stand for."""
        results = tuple(self.admit(x) for x in outputs)
        graph = Graph((*self.inputs, *self.captured.values()), tuple(self.nodes), results)
        return graph, tuple(self.captured)

    # ---- where ----

    def forget_frames(self) -> None:
        """The user's frames hold the user's values: let go of them."""
        self._here = None

    def site(self) -> Site:
        """The site of a node recorded now; at least three frames of this library call it."""
        return self.inherited or self._capture()

    def _capture(self) -> Site:
        frame, scope = _innermost(sys._getframe(3)), _scope.get()
        here = self._here
        if here is None or frame is not here[0] or scope != here[1]:
            return self._walked(frame, scope, {})
        # Nothing moves in the frames that called this one before it is done.
        site = here[2].get(frame.f_lasti)
        return self._walked(frame, scope, here[2]) if site is None else site

    def _walked(self, frame: FrameType, scope: str, known: dict[int, Site]) -> Site:
        """The site of the user's frames from this one on."""
        site = self._site_of(_user_frames(frame, self.depth), scope)
        if not frame.f_code.co_flags & _RESUMED:
            known[frame.f_lasti] = site
            self._here = frame, scope, known
        return site

    def _site_of(self, frames: Sequence[FrameType], scope: str) -> Site:
        # By identity, because hashing a code object reads its bytecode; the site keeps it alive.
        key: list[object] = [scope]
        for each in frames:
            key += id(each.f_code), each.f_lasti
        place = tuple(key)
        site = self._sites.get(place)
        if site is None:
            stack = tuple([Frame(each.f_code, each.f_lasti) for each in frames])
            site = self._sites[place] = Site(stack, scope)
        return site

    def origin(self, value: Array) -> str:
        """Where a value came from, for a message: an argument's name or the line that made it."""
        builder: Builder | None = self
        while builder is not None:
            for position, each in enumerate(builder.inputs):
                if value is each:
                    return f"argument `{builder.naming()[position]}`"
            for node in reversed(builder.nodes):
                if any(value is each for each in node.outputs):
                    return f"from {node.site}"
            builder = builder.parent
        return "captured array"


def _innermost(frame: FrameType) -> FrameType:
    """The first frame from this one on that is the user's, or marks where the user's begin; the
    outermost where there is none."""
    while frame.f_back is not None:
        code = frame.f_code
        if code is _CALL_USER or not is_called(code.co_filename):
            break
        frame = frame.f_back
    return frame


_RESUMED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
"""Code whose frames may be called from another place each time."""


def _user_frames(frame: FrameType | None, depth: int) -> list[FrameType]:
    """The user's frames, innermost first, up to the outermost of `depth` nested calls of the user.

    When the function is the library's own, as in `grad(pb.linalg.det)`, the line that traces it;
    nothing where that is the command's.
    """
    frames: list[FrameType] = []
    outermost = frame
    while frame is not None:
        code = frame.f_code
        if not is_called(code.co_filename):
            if in_library(code.co_filename):
                return frames
            frames.append(frame)
        elif code is _CALL_USER:
            depth -= 1
            if depth == 0:
                break
        else:
            outermost = frame
        frame = frame.f_back
    if frames:
        return frames
    while frame is not None and is_called(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return [] if outermost is None else [outermost]
    return [] if in_library(frame.f_code.co_filename) else [frame]


# ---- the one road ---------------------------------------------------------------------------


def apply(op: Op, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of `op` on `inputs`: recorded in the builder at work, else computed at once."""
    builder = _current.get()
    if builder is not None:
        return builder.record(op, inputs)
    for value in inputs:
        if value.trace != CONCRETE:
            raise _leak(value)
    types = [x.type for x in inputs]
    try:
        output_types = op.output_types(*types)
        numbers = compute(op, [x._data for x in inputs], output_types)  # type: ignore[misc]
    except PullbackError as error:
        error.locate(op.name, calling_site(), _operands(op, error, types, [""] * len(inputs)))
        raise
    return tuple([Array(t, n) for t, n in zip(output_types, numbers)])  # noqa: B905


def replay(node: Node, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """The outputs of an evaluated node on the inputs it was evaluated on, not computed again."""
    builder = _current.get()
    if builder is not None and (builder.evaluating <= node.outputs[0].has_numbers):
        return builder.adopt(node, inputs)
    if builder is None and node.outputs[0].has_numbers:
        return tuple([Array(x.type, x._data) for x in node.outputs])
    return apply(node.op, inputs)


def compute(op: Op, inputs: Sequence[Numbers], types: Sequence[TensorType]) -> tuple[Numbers, ...]:
    """The reference meaning of `op`, each result read-only and of its declared element type."""
    if _quiet.get():
        result = op.reference(*inputs)
    else:
        with np.errstate(all="ignore"):
            result = op.reference(*inputs)
    if isinstance(result, tuple):
        outputs = tuple([_frozen(x, kind) for x, kind in zip(result, types, strict=True)])
    else:
        outputs = (_frozen(result, types[0]),)
    if settings().check and _watched.get():
        require_finite(op, inputs, outputs)
    return outputs


def _frozen(result: Any, kind: TensorType) -> Numbers:
    numbers = np.asarray(result, kind.dtype)
    numbers.setflags(write=False)
    return numbers


def require_finite(op: Op, inputs: Sequence[Numbers], outputs: Sequence[Numbers]) -> None:
    """Raise `NonFiniteError` where `op` made a NaN or an infinity of finite numbers."""
    if all(map(is_finite, op.answerable(inputs))) and not all(map(is_finite, outputs)):
        bad = next(x for x in outputs if not is_finite(x))
        place = np.argwhere(~np.isfinite(bad.astype(np.float64)))[0]
        index = "" if not bad.ndim else f" at index {tuple(map(int, place))}"
        raise NonFiniteError(f"{bad[tuple(place)]} was born{index} from finite operands")


def is_finite(numbers: Numbers) -> bool:
    return not is_float(numbers.dtype) or bool(np.isfinite(numbers).all())


def located(error: PullbackError, subject: str, **operands: Array) -> PullbackError:
    """`error` completed for a function called `subject`: the user's line, and the named operands.

    For a check that comes before any op: `raise located(ShapeError(…), "matmul", left=x)`.
    """
    builder = _current.get()
    site = calling_site() if builder is None else builder.inherited or builder._capture()
    origins = ["" if builder is None else builder.origin(x) for x in operands.values()]
    listed = zip(operands.items(), origins, strict=True)
    error.locate(
        subject, site, [Operand(name, str(x.type), origin) for (name, x), origin in listed]
    )
    return error


def _leak(value: Array) -> PullbackError:
    if value.trace == DONATED:
        return value.donated()
    error = LeakedValueError(
        f"a value of an earlier trace ({value.type}) was used after that trace had ended",
        hint="return it from the function instead of storing it; has_aux=True carries extras",
    )
    error.locate("leaked value", calling_site())
    return error


def _operands(
    op: Op, error: PullbackError, types: Sequence[TensorType], origins: Sequence[str]
) -> list[Operand]:
    labels = error.labels or [p for p in inspect.signature(op.reference).parameters if p != "self"]
    if len(labels) != len(types):
        labels = [f"operand {i + 1}" for i in range(len(types))]
    return [Operand(n, str(t), o) for n, t, o in zip(labels, types, origins, strict=True)]


# ---- contexts -------------------------------------------------------------------------------


def current() -> Builder | None:
    """The builder at work here, or None."""
    return _current.get()


@contextmanager
def building(evaluating: bool | None = None) -> Iterator[Builder]:
    """A new builder, nested in the one at work; by default it evaluates as its parent does.

    Nothing can evaluate inside an abstract trace: there the values have no numbers.
    """
    parent = _current.get()
    possible = parent is None or parent.evaluating
    builder = Builder(parent, possible if evaluating is None else evaluating and possible)
    if parent is not None:
        builder.inherited = parent.inherited
    try:
        with at_work(builder):
            yield builder
    finally:
        builder.forget_frames()


@contextmanager
def at_work(builder: Builder) -> Iterator[None]:
    """Operations inside are recorded in `builder`."""
    token = _current.set(builder)
    try:
        yield
    finally:
        _current.reset(token)


def record(function: Callable[..., Iterable[Array]], types: Iterable[TensorType]) -> Graph:
    """The closed graph of `function`, which may use nothing but its arguments."""
    with building(evaluating=False) as builder:
        inputs = [builder.input(kind) for kind in types]
        graph, captured = builder.finish(tuple(function(*inputs)))
    if captured:
        raise GraphError(f"the function captured {captured[0].type}")
    return graph


@contextmanager
def rewriting(site: Site, phase: Phase | None = None) -> Iterator[None]:
    """Nodes recorded inside inherit `site`: a gradient node points at the line it belongs to."""
    builder = _current.get()
    if builder is None:
        yield
        return
    before = builder.inherited
    builder.inherited = site if phase is None else site.during(phase)
    try:
        yield
    finally:
        builder.inherited = before


@contextmanager
def unwatched() -> Iterator[None]:
    """No NaN or infinity raises inside (at CHECK ≥ 1): what it does later is watched instead."""
    token = _watched.set(False)
    try:
        yield
    finally:
        _watched.reset(token)


@contextmanager
def quiet() -> Iterator[None]:
    """No NumPy floating-point warnings inside: once for a walk, as entering costs 1.3 µs."""
    token = _quiet.set(True)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _quiet.reset(token)


@contextmanager
def named_scope(name: str) -> Iterator[None]:
    """Nodes recorded inside carry `name` in their module path (`model.layers[3]`)."""
    outer = _scope.get()
    joined = name if not outer else outer + name if name.startswith("[") else f"{outer}.{name}"
    token = _scope.set(joined)
    try:
        yield
    finally:
        _scope.reset(token)


def call_user(f: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call the user's function; its frame marks where the user's part of the stack begins."""
    return f(*args, **kwargs)


_CALL_USER = call_user.__code__
__all__ = [
    "NOWHERE",
    "Builder",
    "apply",
    "at_work",
    "building",
    "call_user",
    "compute",
    "current",
    "located",
    "named_scope",
    "quiet",
    "record",
    "replay",
    "rewriting",
]
