"""Kernels chained in one iteration: a table of operands, and calls of the kernels.

Each inner kernel is an ordinary one, over the part of its domain that an iteration of the chain
stands for. The chain tells it where the part begins, in a buffer or in the thread's scratch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pullback.backend.assembly import Function, Module, Ssa, integer
from pullback.schedule.kernels import Chain, Kernel
from pullback.schedule.memory import Step, Value, Workload, evaluate
from pullback.schedule.packing import aligned


@dataclass(frozen=True, slots=True)
class Inner:
    """A written kernel of the body."""

    name: str
    operands: tuple[tuple[int, int], ...]
    """Buffers of the body, and where in each the operand begins, in bytes."""
    iterations: int
    scratch: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A kernel of the body: what runs in the first turn of the serial axes, and in the others."""

    kernel: Kernel
    first: Inner
    other: Inner


@dataclass(frozen=True, slots=True)
class WrittenChain:
    """The operands are windows, each at the place that its buffer begins."""

    buffers: tuple[int, ...]
    iterations: int
    scratch: int


def write_chain(chain: Chain, pieces: Sequence[Piece], name: str, module: Module) -> WrittenChain:
    """`void @name(ptr %operands, i64 %begin, i64 %end, ptr %scratch)`."""
    writer = _Writer(chain, pieces, name)
    writer.write()
    module.add(writer.function)
    buffers = tuple(sorted(chain.reads() | chain.writes()))
    return WrittenChain(buffers, chain.iterations, writer.scratch)


class _Writer:
    def __init__(self, chain: Chain, pieces: Sequence[Piece], name: str) -> None:
        self.chain, self.pieces = chain, pieces
        self.function = Function.kernel(name)
        self.places, local = _places(chain, pieces)
        every = [inner for piece in pieces for inner in (piece.first, piece.other)]
        self.own = aligned(max(inner.scratch for inner in every))
        """Scratch of the kernels themselves, before the local buffers."""
        self.scratch = self.own + local
        self.width = max(len(inner.operands) for inner in every)

    def write(self) -> None:
        f, chain = self.function, self.chain
        operands, begin, end, scratch = f.parameters
        self.table = f.assign("ptr", f"alloca ptr, i64 {self.width}, align 8")
        order = sorted(chain.reads() | chain.writes())
        pointers = {
            buffer: f.load("ptr", f.at(operands, "ptr", integer(i)), 8)
            for i, buffer in enumerate(order)
        }
        fixed = {
            i: f.at(scratch, "i8", integer(self.own + offset)) for i, offset in self.places.items()
        }
        with f.loop(begin, end) as loop:
            outer = _coordinates(f, loop.index, chain.outer)
            with self._turns() as serial:
                here = fixed | self._windows(pointers, [*outer, *serial])
                for piece in self.pieces:
                    self._run(piece, here, serial)
        f.finish()

    @contextmanager
    def _turns(self) -> Iterator[list[Ssa]]:
        """A loop over the serial axes, if there are any."""
        if not self.chain.serial:
            yield []
            return
        with self.function.loop(integer(0), integer(math.prod(self.chain.serial))) as turn:
            self.turn = turn.index
            yield _coordinates(self.function, turn.index, self.chain.serial)

    def _windows(self, pointers: dict[int, Ssa], indices: Sequence[Ssa]) -> dict[int, Ssa]:
        """Where each window begins."""
        f, body = self.function, self.chain.body
        starts: dict[int, Ssa] = {}
        for i, window in zip((*body.inputs, *body.outputs), self.chain.windows, strict=True):
            place = pointers[window.buffer]
            size = body.buffers[i].type.dtype.itemsize
            for index, step in zip(indices, window.steps, strict=True):
                if step:
                    distance = f.binary("mul", index, integer(step * size))
                    place = f.at(place, "i8", distance)
            starts[i] = place
        return starts

    def _run(self, piece: Piece, here: dict[int, Ssa], serial: Sequence[Ssa]) -> None:
        f = self.function
        if piece.first is piece.other:
            self._call(piece.first, here)
            return
        begins = f.compare("icmp eq", self.turn, integer(0))
        with f.when(begins):
            self._call(piece.first, here)
        with f.when(f.compare("icmp ne", self.turn, integer(0))):
            self._call(piece.other, here)

    def _call(self, inner: Inner, here: dict[int, Ssa]) -> None:
        f = self.function
        for i, (buffer, offset) in enumerate(inner.operands):
            place = f.at(here[buffer], "i8", integer(offset)) if offset else here[buffer]
            f.store(place, f.at(self.table, "ptr", integer(i)), 8)
        scratch = f.parameters[3]
        f.call(inner.name, "void", self.table, integer(0), integer(inner.iterations), scratch)


def _coordinates(f: Function, number: Ssa, sizes: Sequence[int]) -> list[Ssa]:
    """The indices of a row-major number."""
    indices: list[Ssa] = []
    for size in reversed(sizes):
        last = len(indices) == len(sizes) - 1
        indices.append(number if last else f.binary("urem", number, integer(size)))
        if not last:
            number = f.binary("udiv", number, integer(size))
    return indices[::-1]


def _places(chain: Chain, pieces: Sequence[Piece]) -> tuple[dict[int, int], int]:
    """Where the scratch buffers lie, and how much they take together."""
    local = list(chain.local)
    number = {buffer: i for i, buffer in enumerate(local)}
    values = [Value(f"b{i}", chain.body.buffers[i].type.nbytes) for i in local]

    def numbers(buffers: set[int]) -> tuple[int, ...]:
        return tuple([number[i] for i in sorted(buffers) if i in number])

    steps = [
        Step(piece.other.name, numbers(piece.kernel.reads()), numbers(piece.kernel.writes()))
        for piece in pieces
    ]
    plan = evaluate(Workload(tuple(values), tuple(steps)))
    places = {}
    for position, step in enumerate(steps):
        for i, place in zip(step.writes, plan.writes(position), strict=True):
            places[local[i]] = place.offset
    return places, plan.arena_bytes
