"""`Op`: one primitive operation, everything that is known about it in one class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pullback.errors import NotDifferentiableError
from pullback.ir.array import Array
from pullback.ir.builder import apply
from pullback.ir.range import EVERYTHING, Range
from pullback.ir.types import Numbers, TensorType

if TYPE_CHECKING:
    from pullback.ir.graph import Graph

Maybe = Array | None
"""A tangent or cotangent; None is the zero that need not be computed."""

Parted = tuple["Op", tuple[int | None, ...]]
"""The op that makes a part of a result, and the axis of each operand that is cut alike."""


@dataclass(frozen=True)
class Op:
    """A primitive. Subclasses are frozen dataclasses whose fields are the op's attributes.

    Derivative rules come in two layers. Families and ops with several outputs implement
    `cotangents` and `tangents`; a plain op implements `pullback` and `pushforward`.
    """

    name: ClassVar[str]
    differentiable: ClassVar[bool] = True
    """False when the outputs are piecewise constant in every input: their derivatives are 0."""

    commutative: ClassVar[bool] = False
    """True when the two operands may change places without changing a bit of the result."""

    revival: ClassVar[str] = ""
    """What to do where the derivative is 0 at all numbers that it was given: see `stillness`."""

    parses: ClassVar[bool] = True
    """False for an op that holds Python functions: it prints, but its text cannot be read back."""

    # ---- meaning ----

    def infer(self, *types: TensorType) -> TensorType | tuple[TensorType, ...]:
        """Output types; raises `ShapeError` or `DTypeError` for operands that do not fit."""
        raise NotImplementedError

    def reference(self, *inputs: Numbers) -> Any:
        """The meaning, in NumPy: slow and obvious. A tuple when there are several outputs."""
        raise NotImplementedError

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        """One element of the only output, in the scalar algebra `s`, from its coordinates.

        `at` has an int64 for each axis; `read` (`scalar.Reader`) gives elements of the operands.
        """
        raise NotImplementedError

    @property
    def by_element(self) -> bool:
        """Whether `element` says what each element is, independently of the others."""
        return type(self).element is not Op.element

    # ---- parts ----

    def parted(self, axis: int, count: int, *types: TensorType) -> Parted | None:
        """How one of `count` equal parts of the only output, along `axis`, is made from parts.

        The op that makes the part, and for each operand the axis along which it takes the same one
        of as many parts, or None for an operand that it reads whole. None where there is no such
        way. `count` divides the size of the axis.
        """
        return None

    def summed(self, operand: int, axis: int) -> tuple[int | None, ...] | None:
        """Where the output adds up what the op makes of the parts of an operand along `axis`.

        The axis of each operand, as for `parted`; None where it is no such sum.
        """
        return None

    # ---- derivatives ----

    def pullback(self, bar: Any, out: Any, *inputs: Array) -> tuple[Maybe, ...]:
        """Cotangents of the inputs from that of the output (tuples for several outputs)."""
        raise NotDifferentiableError(f"{self.name} has no reverse-mode derivative")

    def pushforward(self, dots: tuple[Maybe, ...], out: Any, *inputs: Array) -> Any:
        """Tangent of the output from the tangents of the inputs (tuples for several outputs)."""
        raise NotDifferentiableError(f"{self.name} has no forward-mode derivative")

    def cotangents(
        self,
        bars: tuple[Maybe, ...],
        outs: tuple[Array, ...],
        inputs: tuple[Array, ...],
        wanted: Sequence[bool],
    ) -> tuple[Maybe, ...]:
        """`pullback` for any number of outputs; results where `wanted` is False are not used."""
        if not self.differentiable:
            return (None,) * len(inputs)
        if len(outs) == 1:
            return self.pullback(bars[0], outs[0], *inputs)
        return self.pullback(bars, outs, *inputs)

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        """`pushforward` for any number of outputs."""
        if not self.differentiable:
            return (None,) * len(outs)
        if len(outs) == 1:
            return (self.pushforward(dots, outs[0], *inputs),)
        result: tuple[Maybe, ...] = self.pushforward(dots, outs, *inputs)
        return result

    # ---- what is known before any number is ----

    def reach(self, *operands: Range) -> Range:
        """The numbers that the only output can have, when those of the operands are as given.

        The same object stands for the same value: x·x is not negative.
        """
        return EVERYTHING

    def cut(self, *types: TensorType) -> str | None:
        """Why no derivative passes from operands of these types; None where one may."""
        return None if self.differentiable else f"{self.name} is piecewise constant"

    def stillness(self, operand: int, out: Numbers, *inputs: Numbers) -> str:
        """Why the derivative with respect to an operand is 0 at these numbers, everywhere."""
        return f"the derivative of {self.name} is 0 at these values"

    # ---- batching ----

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        """The outputs for `size` examples at once, and which of them carry the new leading axis.

        `batched[i]` says whether `inputs[i]` carries it; at least one does.
        """
        raise NotImplementedError(f"{self.name} has no batching rule")

    # ---- failure ----

    def answerable(self, inputs: Sequence[Numbers]) -> Sequence[Numbers]:
        """The operands that, all finite, leave a NaN or an infinity in the result to this op."""
        return inputs

    # ---- cost ----

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """Floating-point operations (a fused multiply-add counts two)."""
        return 0

    def bytes_moved(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        """Bytes read and written when every operand is touched once."""
        return sum(x.nbytes for x in (*inputs, *outputs))

    # ---- text ----

    def formula(self, *operands: str) -> str:
        """The application in mathematical notation.

        The caller puts an operand in parentheses where the operators around its place ask for it:
        `x²` and `W x` are written without.
        """
        return f"{self.name}({', '.join(operands)})"

    # ---- tests ----

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        """Applications that between them reach every attribute, rank and special case of the op."""
        raise NotImplementedError

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        """Applications that `infer` must refuse."""
        raise NotImplementedError

    # ---- application ----

    def __call__(self, *inputs: Array) -> Array:
        """Apply a one-output op: recorded inside a trace, computed at once outside."""
        return apply(self, inputs)[0]

    def outputs(self, *inputs: Array) -> tuple[Array, ...]:
        """Apply an op of any number of outputs."""
        return apply(self, inputs)

    def output_types(self, *types: TensorType) -> tuple[TensorType, ...]:
        inferred = self.infer(*types)
        return inferred if isinstance(inferred, tuple) else (inferred,)


Pull = Callable[[tuple[Maybe, ...]], Iterable[tuple[int, Array]]]
"""From the cotangents of an op's outputs to contributions to those of its inputs: (position, bar).

An input may receive several; they are added in the order given.
"""


class GraphTransforms(Protocol):
    """What an op with sub-graphs needs of the layer above: passed in, never imported."""

    def inline(self, graph: Graph, inputs: Sequence[Array]) -> tuple[Array, ...]:
        """The outputs of `graph` on `inputs`, recorded node by node."""
        ...

    def reverse(
        self,
        graph: Graph,
        inputs: Sequence[Array],
        wrt: Sequence[int],
        known: Mapping[int, Array] | None = None,
    ) -> tuple[tuple[Array, ...], Pull]:
        """`inline`, and what pulls back: contributions to `inputs[i]` for i in `wrt`.

        The outputs that are `known` are not computed again.
        """
        ...

    def vjp(self, graph: Graph, wrt: Sequence[int]) -> tuple[Graph, Graph]:
        """(`inputs → outputs + residuals`, `residuals + output bars → bars of inputs[wrt]`).

        Float outputs alone have bars.
        """
        ...

    def jvp(self, graph: Graph, active: Sequence[bool]) -> Graph:
        """`inputs + tangents of the active inputs → outputs + tangents of all float outputs`."""
        ...

    def batch(
        self, graph: Graph, size: int, batched: Sequence[bool], force: Sequence[bool]
    ) -> tuple[Graph, tuple[bool, ...]]:
        """The graph over `size` examples, and which outputs are batched (at least `force`)."""
        ...


class HigherOrder(Op):
    """An op that holds sub-graphs. Its rules receive the graph transforms they need.

    Where a rule returns `outputs`, they replace the plain application: one loop computes values and
    residuals, or values and tangents. None says that the plain application will do.
    """

    def bodies(self) -> Iterator[tuple[Graph, tuple[int | None, ...]]]:
        """The sub-graphs that may run, and for each of their inputs which operand it is, or is a
        row of; None for what changes from step to step."""
        return iter(())

    def augmented(
        self, inputs: tuple[Array, ...], wanted: Sequence[bool], transforms: GraphTransforms
    ) -> tuple[tuple[Array, ...], Pull] | None:
        """(outputs, pull): the reverse-mode rule, for the inputs that are `wanted`.

        None where `pulling`, after the plain application, is the rule.
        """
        return None

    def pulling(
        self,
        inputs: tuple[Array, ...],
        outputs: tuple[Array, ...],
        wanted: Sequence[bool],
        transforms: GraphTransforms,
    ) -> Pull:
        """The reverse-mode rule of an op whose plain application gives all that it needs."""
        raise NotDifferentiableError(f"{self.name} has no reverse-mode derivative")

    def tangents_of(
        self, dots: tuple[Maybe, ...], inputs: tuple[Array, ...], transforms: GraphTransforms
    ) -> tuple[tuple[Array, ...] | None, tuple[Maybe, ...]]:
        """(outputs, tangents): the forward-mode rule."""
        raise NotDifferentiableError(f"{self.name} has no forward-mode derivative")

    def batch_of(
        self,
        size: int,
        inputs: tuple[Array, ...],
        batched: Sequence[bool],
        transforms: GraphTransforms,
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        """`batch`, with the transforms."""
        raise NotImplementedError(f"{self.name} has no batching rule")


# ---- samples --------------------------------------------------------------------------------


class Sample:
    """One application of an op to given numbers, for the conformance suite.

    `smooth` is False where finite differences make no sense (ties, kinks, branch points, integers).
    """

    def __init__(self, op: Op, *inputs: Numbers, smooth: bool = True) -> None:
        self.op = op
        self.inputs = inputs
        self.smooth = smooth

    @property
    def types(self) -> tuple[TensorType, ...]:
        return tuple(TensorType(x.shape, x.dtype) for x in self.inputs)

    def __str__(self) -> str:
        fields = ",".join(f"{k}={v}" for k, v in vars(self.op).items() if not callable(v))
        return f"{self.op.name}[{fields[:60]}]({','.join(map(str, self.types))})"
