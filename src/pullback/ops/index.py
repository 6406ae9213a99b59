"""Ops that read and write elements at places given by integer operands.

The geometry is shared. An array has `batch` axes, indexed `axes` and the rest. There is one integer
operand for each indexed axis, all of one shape: the batch sizes, then the index shape. What is read
or written has the shape batch sizes + index shape + rest. An index i of an axis of size n satisfies
-n ≤ i < n and counts from the end when negative, as in NumPy, or is a label, 0 ≤ i < n, where
`from_end` is False; any other raises `OutOfRangeError`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from pullback.errors import DTypeError, OutOfRangeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.families import Linear, Operands, Partial
from pullback.ir.op import Maybe, Op, Parted, Sample
from pullback.ir.range import Range
from pullback.ir.samples import distinct, integers, normal, truths
from pullback.ir.types import Axes, Numbers, Shape, TensorType, bool_, int64, is_integer
from pullback.ops.layout import Flip
from pullback.ops.operators import broadcast_to, cast, reshape, select, transpose, zeros
from pullback.ops.previous import Previous
from pullback.ops.reduce import wide

I = TypeVar("I", bound="Indexed")


@dataclass(frozen=True)
class Indexed(Op):
    """The geometry that reading and writing share."""

    axes: Axes
    batch_axes: Axes = ()
    from_end: bool = True

    def selected(self, x: TensorType, *indices: TensorType) -> TensorType:
        """The type of what the indices select from `x`."""
        named = (*self.batch_axes, *self.axes)
        if len(set(named)) != len(named) or any(not 0 <= a < x.ndim for a in named):
            raise ShapeError(f"{named} are not distinct axes of {x}")
        if not indices or len(indices) != len(self.axes):
            raise ShapeError(f"{len(indices)} index arrays for {len(self.axes)} axes")
        for each in indices:
            if not is_integer(each.dtype):
                raise DTypeError(f"an index is an integer, not {each.dtype}")
            if each.shape != indices[0].shape:
                raise ShapeError("index arrays differ in shape")
        shape = indices[0].shape
        shared = tuple(x.shape[a] for a in self.batch_axes)
        if shape[: len(shared)] != shared:
            raise ShapeError(f"indices of shape {shape} do not begin with the batch sizes {shared}")
        return x.reshaped((*shape, *(x.shape[a] for a in self._rest(x.ndim))))

    def _rest(self, ndim: int) -> Axes:
        return tuple(a for a in range(ndim) if a not in self.axes and a not in self.batch_axes)

    def _order(self, ndim: int) -> Axes:
        return (*self.batch_axes, *self.axes, *self._rest(ndim))

    def _coordinates(self, shape: Shape, indices: Sequence[Numbers]) -> tuple[Numbers, ...]:
        """Non-negative indices along the batch axes and the indexed axes, in that order."""
        rank = indices[0].ndim
        grids = [
            np.arange(shape[axis]).reshape(-1, *(1,) * (rank - i - 1))
            for i, axis in enumerate(self.batch_axes)
        ]
        return (
            *grids,
            *(
                checked(i, a, shape[a], self.from_end)
                for i, a in zip(indices, self.axes, strict=True)
            ),
        )

    def _as(self, op: type[I]) -> I:
        """Another op at the same places."""
        return op(self.axes, self.batch_axes, self.from_end)

    def _batched(self) -> Indexed:
        """The same with one more batch axis, in front."""
        shifted = tuple(a + 1 for a in self.batch_axes)
        return replace(self, axes=tuple(a + 1 for a in self.axes), batch_axes=(0, *shifted))


def checked(index: Numbers, axis: int, size: int, from_end: bool) -> Numbers:
    """Indices of an axis, as numbers in 0 … size - 1."""
    outside = (index < (-size if from_end else 0)) | (index >= size)
    if outside.any():
        wrong = index[outside][0] if index.ndim else index
        raise out_of_range(int(wrong), axis, size, from_end)
    signed = index.astype(np.int64)
    return np.where(signed < 0, signed + size, signed)


def out_of_range(index: int, axis: int, size: int, from_end: bool) -> OutOfRangeError:
    """What is said of an index, or of a label, that an axis does not have."""
    if not from_end:
        return no_label(index, size)
    return OutOfRangeError(f"index {index} is out of range for axis {axis} of size {size}")


def no_label(label: int, classes: int, place: tuple[int, ...] = ()) -> OutOfRangeError:
    """What is said of a label that is no class; `place` is where it stands, if that is known."""
    where = f" at {place}" if place else ""
    return OutOfRangeError(
        f"label {label}{where} is none of the {classes} classes 0 … {classes - 1}",
        hint="ignore_index= leaves labels out",
    )


class Gather(Linear, Indexed):
    """The elements of `x` at the given places. Linear in `x`; the transpose adds at the places."""

    name = "gather"

    def infer(self, x: TensorType, *indices: TensorType) -> TensorType:
        return self.selected(x, *indices)

    def reference(self, x: Any, *indices: Any) -> Any:
        return x.transpose(self._order(x.ndim))[self._coordinates(x.shape, indices)]

    def reach(self, *operands: Range) -> Range:
        return operands[0]

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        x, rank = read.types[0], read.types[1].ndim
        axes = (*self.batch_axes, *self._rest(x.ndim))
        place = dict(zip(axes, (*at[: len(self.batch_axes)], *at[rank:]), strict=True))
        for i, axis in enumerate(self.axes, 1):
            place[axis] = read.inside(read(i, at[:rank]), axis, x.shape[axis], self.from_end)
        return read(0, [place[axis] for axis in range(x.ndim)])

    def parted(self, axis: int, count: int, *types: TensorType) -> Parted:
        x, index, *_ = types
        if axis >= index.ndim:
            return self, (self._rest(x.ndim)[axis - index.ndim], *[None] * (len(types) - 1))
        batch = self.batch_axes[axis] if axis < len(self.batch_axes) else None
        return self, (batch, *[axis] * (len(types) - 1))

    def transpose(self, bar: Array, x: Array, *indices: Array) -> Array:
        return self._as(ScatterAdd)(zeros(x.type), bar, *indices)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        x, *indices = inputs
        if batched[0]:
            repeated = repeat(indices, batched[1:], size)
            return self._batched().outputs(x, *repeated), (True,)
        # One array for all examples: the examples become the first axis of the index shape.
        front = len(self.batch_axes)
        fronted = repeat(indices, batched[1:], size)
        out = self(x, *(transpose(i, _moved(0, front, i.ndim)) for i in fronted))
        return (transpose(out, _moved(front, 0, out.ndim)),), (True,)

    def formula(self, *operands: str) -> str:
        return f"{operands[0]}[{', '.join(operands[1:])}]"

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((0,)), normal(4, 3), np.array([0, -1, 2, 0]))
        yield Sample(cls((1,)), normal(3, 4), np.array([[1, 3], [-4, 1]], np.int32))
        yield Sample(cls((0,)), normal(5), np.array(3))
        yield Sample(cls((0, 2)), normal(3, 2, 4), np.array([0, 2, 2]), np.array([3, -1, 3]))
        yield Sample(cls((1,), (0,)), normal(2, 4, 3), np.array([[1, 1, 0], [3, -1, 2]]))
        yield Sample(cls((0,), (1,)), normal(4, 2), np.array([[1, 1, 0], [3, -1, 2]]))
        yield Sample(cls((0,)), normal(3, 2), np.zeros(0, np.int64))
        yield Sample(cls((0,)), integers(4), np.array([2, 2], np.uint8))
        yield Sample(cls((0,)), truths(4), np.array([3, 0]))
        yield Sample(cls((1,), (0,), from_end=False), normal(2, 4), np.array([1, 3]))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((0,)), normal(3), normal(2))
        yield Sample(cls((1,)), normal(3), integers(2))
        yield Sample(cls((0, 0)), normal(3), integers(2), integers(2))
        yield Sample(cls((0, 1)), normal(3, 3), integers(2), integers(3))
        yield Sample(cls((0,)), normal(3, 3), integers(2), integers(2))
        yield Sample(cls((1,), (0,)), normal(3, 3), integers(2, 2))
        yield Sample(cls(()), normal(3, 3))


def _moved(source: int, destination: int, ndim: int) -> Axes:
    order = [i for i in range(ndim) if i != source]
    order.insert(destination, source)
    return tuple(order)


def repeat(arrays: Sequence[Array], batched: Sequence[bool], size: int) -> list[Array]:
    return [
        x if b else broadcast_to(x, (size, *x.shape)) for x, b in zip(arrays, batched, strict=True)
    ]


# ---- writing --------------------------------------------------------------------------------


class Scatter(Indexed):
    """`base` with `updates` written at the given places, one after the other in row-major order.

    Rule: the partial derivatives w of the result in the base and in the updates.
    jvp: ẏ = w_base·ẋ, with w_updates·u̇ added at the places.
    vjp: x̄ = w_base·ȳ,  ū = w_updates·ȳ[places].
    """

    accepts: ClassVar[Any] = staticmethod(Operands.numbers)

    # ---- rule ----

    def write(self, rows: Numbers, places: Numbers, updates: Numbers) -> None:
        """Write update i into `rows[places[i]]`, for each i in order."""
        raise NotImplementedError

    def combine(self, s: Any, x: Any, update: Any) -> Any:
        """An element after one update, in the scalar algebra."""
        raise NotImplementedError

    def base_partial(self, out: Array, base: Array, updates: Array, *indices: Array) -> Partial:
        raise NotImplementedError

    def update_partial(self, out: Array, base: Array, updates: Array, *indices: Array) -> Partial:
        raise NotImplementedError

    # ---- meaning ----

    def infer(self, base: TensorType, updates: TensorType, *indices: TensorType) -> TensorType:
        expected = self.selected(base, *indices)
        if updates.dtype != base.dtype:
            raise DTypeError(f"element types differ: {base.dtype} and {updates.dtype}")
        if not self.accepts(base.dtype):
            raise DTypeError(f"{self.name} does not take {base.dtype}")
        if updates != expected:
            raise ShapeError(f"updates {updates} for places that hold {expected}")
        return base

    def reference(self, base: Any, updates: Any, *indices: Any) -> Any:
        order = self._order(base.ndim)
        lead = len(self.batch_axes) + len(self.axes)
        result = np.array(wide(base).transpose(order), order="C")
        sizes, rest = result.shape[:lead], result.shape[lead:]
        places = np.zeros(indices[0].shape, np.int64)
        for size, coordinate in zip(sizes, self._coordinates(base.shape, indices), strict=True):
            places = places * size + coordinate
        width = math.prod(rest)
        self.write(
            result.reshape(math.prod(sizes), width),
            places.reshape(-1),
            wide(updates).reshape(places.size, width),
        )
        return result.transpose(np.argsort(order)).astype(base.dtype, copy=False)

    # ---- derivatives ----

    def cotangents(
        self,
        bars: tuple[Maybe, ...],
        outs: tuple[Array, ...],
        inputs: tuple[Array, ...],
        wanted: Sequence[bool],
    ) -> tuple[Maybe, ...]:
        bar = bars[0]
        result: list[Maybe] = [None] * len(inputs)
        if bar is not None and wanted[0]:
            result[0] = _weighted(bar, self.base_partial(outs[0], *inputs))
        if bar is not None and wanted[1]:
            read = self._read(bar, *inputs[2:])
            result[1] = _weighted(read, self.update_partial(outs[0], *inputs))
        return tuple(result)

    def tangents(
        self, dots: tuple[Maybe, ...], outs: tuple[Array, ...], inputs: tuple[Array, ...]
    ) -> tuple[Maybe, ...]:
        base, updates, *_ = dots
        total = zeros(outs[0].type)
        if base is not None:
            total = _weighted(base, self.base_partial(outs[0], *inputs))
        if updates is not None:
            moved = _weighted(updates, self.update_partial(outs[0], *inputs))
            total = self._as(ScatterAdd)(total, moved, *inputs[2:])
        return (total,)

    def _read(self, x: Array, *indices: Array) -> Array:
        return self._as(Gather)(x, *indices)

    def _places(self, base: Array, indices: Sequence[Array]) -> Array:
        """One number for each place written, along one last axis after the batch axes."""
        place = zeros(TensorType(indices[0].shape, int64))
        for axis, index in zip(self.axes, indices, strict=True):
            size = base.shape[axis]
            signed = cast(index, int64)
            place = place * size + select(signed < 0, signed + size, signed)
        return reshape(place, (*place.shape[: len(self.batch_axes)], self._count(place)))

    def _count(self, index: Array) -> int:
        return math.prod(index.shape[len(self.batch_axes) :])

    # ---- batching, cost ----

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return self._batched().outputs(*repeat(inputs, batched, size)), (True,)

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return inputs[1].size

    # ---- tests ----

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls((0,)), distinct(4, 2), distinct(3, 2, seed=1) + 0.02, np.array([0, -1, 2]))
        yield Sample(cls((0,)), distinct(3), distinct(5, seed=1) + 0.02, np.array([1, 2, 1, -2, 1]))
        yield Sample(cls((1,)), distinct(2, 3), distinct(2, seed=1) + 0.02, np.array(1, np.int32))
        rows, columns = np.array([[0, 2, 0], [1, 2, 0]]), np.array([[1, -1, 1], [0, 1, 1]])
        updates = distinct(2, 3, seed=1) + 0.02
        yield Sample(cls((0, 1)), distinct(3, 2), updates, rows, columns)
        places = np.array([[1, 1, 0], [3, -1, 3]])
        yield Sample(cls((1,), (0,)), distinct(2, 4), updates, places)
        yield Sample(cls((0,), (2,)), distinct(4, 2, 2), distinct(2, 3, 2, seed=1) + 0.02, places)
        yield Sample(cls((0,)), normal(3, 2), normal(0, 2), np.zeros(0, np.int64))
        yield Sample(cls((0,)), integers(4), integers(3, seed=1), np.array([3, 0, 3]))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((0,)), normal(3), normal(2), normal(2))
        yield Sample(cls((0,)), normal(3), integers(2), integers(2))
        yield Sample(cls((0,)), normal(3), normal(3), integers(2))
        yield Sample(cls((0,)), normal(3, 2), normal(2, 3), integers(2))
        if not cls.accepts(bool_):
            yield Sample(cls((0,)), truths(3), truths(2), integers(2))


def _weighted(bar: Array, partial: Partial) -> Array:
    if not isinstance(partial, Array):
        return bar if partial == 1.0 else bar * partial
    return select(partial, bar, 0.0) if partial.dtype == bool_ else bar * partial


class ScatterSet(Scatter):
    """`base` with `updates` in place of the elements there. Where a place is written twice the last
    update wins, and it alone has a gradient."""

    name = "scatter_set"
    accepts = staticmethod(Operands.anything)

    def write(self, rows: Numbers, places: Numbers, updates: Numbers) -> None:
        # NumPy promises no order for repeated places: keep the last update of each.
        last = np.full(len(rows), -1)
        order = np.arange(len(places))
        np.maximum.at(last, places, order)
        winners = last[places] == order
        rows[places[winners]] = updates[winners]

    def combine(self, s: Any, x: Any, update: Any) -> Any:
        return update

    def base_partial(self, out: Array, base: Array, updates: Array, *indices: Array) -> Partial:
        untouched = zeros(TensorType(base.shape, bool_)) == False  # noqa: E712
        return self._as(ScatterSet)(untouched, zeros(TensorType(updates.shape, bool_)), *indices)

    def update_partial(self, out: Array, base: Array, updates: Array, *indices: Array) -> Partial:
        places = self._places(base, indices)
        last = _flip_last(Previous()(_flip_last(places))) < 0
        shape = indices[0].shape
        return reshape(last, (*shape, *(1,) * (updates.ndim - len(shape))))

    def flops(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
        return 0

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        yield Sample(cls((0,)), truths(4), truths(2, seed=1), np.array([3, 0]))


class ScatterAdd(Scatter):
    """`base` with `updates` added to the elements there; half precision adds up in float32."""

    name = "scatter_add"

    def write(self, rows: Numbers, places: Numbers, updates: Numbers) -> None:
        np.add.at(rows, places, updates)

    def combine(self, s: Any, x: Any, update: Any) -> Any:
        return s.add(x, update)

    def base_partial(self, out: Array, base: Array, updates: Array, *indices: Array) -> Partial:
        return 1.0

    def update_partial(self, out: Array, base: Array, updates: Array, *indices: Array) -> Partial:
        return 1.0


class ScatterMultiply(Scatter):
    """`base` with the elements there multiplied by `updates`; right derivatives at zeros too."""

    name = "scatter_multiply"

    def write(self, rows: Numbers, places: Numbers, updates: Numbers) -> None:
        np.multiply.at(rows, places, updates)

    def combine(self, s: Any, x: Any, update: Any) -> Any:
        return s.mul(x, update)

    def base_partial(self, out: Array, base: Array, updates: Array, *indices: Array) -> Partial:
        return self(zeros(base.type) + 1, updates, *indices)

    def update_partial(self, out: Array, base: Array, updates: Array, *indices: Array) -> Partial:
        """The base times all the other updates of the same place: those before, and those after."""
        front = len(self.batch_axes)
        rest = updates.shape[indices[0].ndim :]
        rows = reshape(updates, (*updates.shape[:front], self._count(indices[0]), *rest))
        places = self._places(base, indices)
        backwards = Flip((front,))
        before = _product_of_earlier(rows, Previous()(places), front)
        after = backwards(
            _product_of_earlier(backwards(rows), Previous()(_flip_last(places)), front)
        )
        return self._read(base, *indices) * reshape(before * after, updates.shape)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        zeros = np.array([0.0, 2.0, 0.0, 3.0, 0.0])
        yield Sample(cls((0,)), distinct(3), zeros, np.array([1, 1, 1, 2, 2]))


def _product_of_earlier(rows: Array, previous: Array, axis: int) -> Array:
    """For each row the product of the rows that its chain of `previous` ones reaches.

    Pointer doubling: after k rounds a row holds the product of its last 2ᵏ predecessors.
    """
    take = Gather((axis,), tuple(range(axis)))
    tail = (1,) * (rows.ndim - previous.ndim)

    def follow(values: Array, link: Array, otherwise: int) -> Array:
        linked = link >= 0
        if values.ndim > link.ndim:
            linked = reshape(linked, (*link.shape, *tail))
        return select(linked, take(values, link), otherwise)

    if rows.size == 0:
        return rows
    product, link = follow(rows, previous, 1), previous
    for _ in range(max(rows.shape[axis] - 2, 0).bit_length()):
        product, link = product * follow(product, link, 1), follow(link, link, -1)
    return product


class ScatterExtremum(Scatter):
    """The derivative of maximum and minimum: equal candidates share the gradient equally."""

    def base_partial(self, out: Array, base: Array, updates: Array, *indices: Array) -> Partial:
        return select(base == out, 1 / self._ties(out, base, updates, indices), 0.0)

    def update_partial(self, out: Array, base: Array, updates: Array, *indices: Array) -> Partial:
        ties = self._ties(out, base, updates, indices)
        reached = updates == self._read(out, *indices)
        return select(reached, 1 / self._read(ties, *indices), 0.0)

    def _ties(self, out: Array, base: Array, updates: Array, indices: Sequence[Array]) -> Array:
        """For each place how many candidates equal the result."""
        reached = updates == self._read(out, *indices)
        return self._as(ScatterAdd)(
            cast(base == out, base.dtype), cast(reached, base.dtype), *indices
        )


class ScatterMax(ScatterExtremum):
    """`base` with the maximum of element and updates there."""

    name = "scatter_max"

    def write(self, rows: Numbers, places: Numbers, updates: Numbers) -> None:
        np.maximum.at(rows, places, updates)

    def combine(self, s: Any, x: Any, update: Any) -> Any:
        return s.maximum(x, update)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from super().samples()
        yield Sample(
            cls((0,)), np.ones(2), np.array([1.0, 1.0, 0.0]), np.array([0, 0, 1]), smooth=False
        )


class ScatterMin(ScatterExtremum):
    """`base` with the minimum of element and updates there."""

    name = "scatter_min"

    def write(self, rows: Numbers, places: Numbers, updates: Numbers) -> None:
        np.minimum.at(rows, places, updates)

    def combine(self, s: Any, x: Any, update: Any) -> Any:
        return s.minimum(x, update)


# ---- one place along an axis ----------------------------------------------------------------


def take_along(x: Array, indices: Array, axis: int) -> Array:
    """out[…, k, …] = x[…, indices[…, k, …], …] along `axis`; the other sizes are equal."""
    order = _last(axis, x.ndim)
    taken = Gather((axis,), order[:-1], from_end=False)(x, transpose(indices, order))
    return transpose(taken, _inverse(order))


def put_along(x: Array, indices: Array, axis: int, size: int) -> Array:
    """Zeros of `size` along `axis`, where x[…, k, …] is added at indices[…, k, …]."""
    order = _last(axis, x.ndim)
    shape = tuple(size if i == axis else n for i, n in enumerate(x.shape))
    scatter = ScatterAdd((axis,), order[:-1], from_end=False)
    return scatter(zeros(x.type.reshaped(shape)), transpose(x, order), transpose(indices, order))


def _last(axis: int, ndim: int) -> Axes:
    return (*(i for i in range(ndim) if i != axis), axis)


def _inverse(order: Axes) -> Axes:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


@dataclass(frozen=True)
class Place(Op):
    """Indices of an axis as numbers in 0 … size - 1, each checked."""

    name = "place"
    differentiable = False
    axis: int
    size: int
    from_end: bool = True

    def infer(self, index: TensorType) -> TensorType:
        if not is_integer(index.dtype):
            raise DTypeError(f"an index is an integer, not {index.dtype}")
        return index.of(int64)

    def reference(self, index: Any) -> Any:
        return checked(index, self.axis, self.size, self.from_end)

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        return read.inside(read(0, at), self.axis, self.size, self.from_end)

    def parted(self, axis: int, count: int, *types: TensorType) -> Parted:
        return self, (axis,)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return self.outputs(*inputs), (True,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield Sample(cls(0, 4), np.array([[3, -1], [-4, 0]]))
        yield Sample(cls(0, 4, from_end=False), np.array([3, 1], np.uint8))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls(0, 4), normal(3))


def _flip_last(x: Array) -> Array:
    return Flip((x.ndim - 1,))(x)
