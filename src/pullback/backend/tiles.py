"""The inner loops of products: a tile of C in registers while k runs.

They are functions that all products of a module share. Depth and steps are arguments, so there is
one for each height, width and element type, and a product itself is little code.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from pullback.backend.assembly import Function, Module, Ssa, integer, vector
from pullback.backend.packing import VECTOR_BYTES, Count, bytes_of, offset, shifted, ssa
from pullback.backend.place import multiply_add

UNROLL = 2
"""Steps of k written out: 4 are as fast, and twice the code to compile. Small tiles have 4."""

PARAMETERS = (
    ("ptr", "a"),
    ("ptr", "b"),
    ("ptr", "start"),
    ("ptr", "c"),
    ("i64", "depth"),
    ("i64", "a_row"),
    ("i64", "a_k"),
    ("i64", "b_k"),
    ("i64", "start_row"),
    ("i64", "c_row"),
)


class Dense(Enum):
    """Along what the elements of A lie one beside the other. A step of 1 is written in the code:
    where all steps are arguments, LLVM finds each address from the one before it, and the
    additions take as long as the products."""

    ROW = "row"
    K = "k"
    FAR = "far"
    """Along k, in rows so far apart that no processor sees that the next ones are wanted."""
    NOTHING = "any"

    @classmethod
    def of(cls, row: int, k: int) -> Dense:
        return cls.K if k == 1 else cls.ROW if row == 1 else cls.NOTHING


def tile_function(module: Module, element: str, rows: int, vectors: int, dense: Dense) -> str:
    """`c[i, j] = start[i, j] + Σₖ a[i, k]·b[k, j]` for `rows` rows of `vectors` vectors.

    The steps `a_row`, `a_k` … count elements; each row of b, start and c is dense.
    """
    name = f"tile_{element}_{rows}x{vectors}_{dense.value}"
    if name not in module.names:
        f = Function(name, PARAMETERS)
        _Tile(f, element, rows, vectors, dense).write()
        module.add(f)
    return name


class _Tile:
    def __init__(self, f: Function, element: str, rows: int, vectors: int, dense: Dense) -> None:
        self.f, self.element, self.rows, self.vectors = f, element, rows, vectors
        self.dense = dense
        self.lanes = VECTOR_BYTES // bytes_of(element)
        self.kind = vector(self.lanes, element)
        self.align = bytes_of(element)

    def write(self) -> None:
        f, element = self.f, self.element
        a, b, start, c, depth, row, k, self.b_k, start_row, c_row = f.parameters
        a_row: Count = 1 if self.dense is Dense.ROW else row
        self.a_k: Count = 1 if self.dense in (Dense.K, Dense.FAR) else k
        self.lines = [offset(f, a, element, i, a_row) for i in range(self.rows)]
        sums = [
            x
            for i in range(self.rows)
            for x in self._loaded(offset(f, start, element, i, start_row))
        ]
        unroll = UNROLL if len(sums) > 4 else 2 * UNROLL
        whole = f.binary("and", depth, integer(-unroll))
        state = [integer(0), b, *sums]
        ahead = f.at(a, element, f.binary("mul", row, integer(self.rows)))
        with f.loop(integer(0), whole, unroll, carried=state) as loop:
            if self.dense is Dense.FAR:
                self._ask(ahead, loop.index, row, unroll)
            loop.carry(*self._steps(unroll, loop.values))
        with f.loop(whole, depth, carried=loop.results) as tail:
            tail.carry(*self._steps(1, tail.values))
        for i in range(self.rows):
            line = offset(f, c, element, i, c_row)
            for j in range(self.vectors):
                here = shifted(f, line, element, j * self.lanes)
                f.store(tail.results[2 + i * self.vectors + j], here, self.align)
        f.finish()

    def _ask(self, ahead: Ssa, k: Ssa, row: Ssa, unroll: int) -> None:
        """Ask for a line of the rows of the next tile: while k runs through a line of A, for that
        line of one row after the other."""
        f = self.f
        turns = self.lanes // unroll
        line = f.binary("and", k, integer(-self.lanes))
        turn = f.binary("and", f.binary("udiv", k, integer(unroll)), integer(turns - 1))
        place = f.binary("add", f.binary("mul", turn, row), line)
        f.prefetch(f.at(ahead, self.element, place), False)

    def _loaded(self, line: Ssa) -> list[Ssa]:
        f = self.f
        places = [shifted(f, line, self.element, j * self.lanes) for j in range(self.vectors)]
        return [f.load(self.kind, place, self.align) for place in places]

    def _steps(self, count: int, state: Sequence[Ssa]) -> list[Ssa]:
        """`count` steps of k: the offset in a line of A, the line of B and the sums move on."""
        f = self.f
        k, b, *sums = state
        for _ in range(count):
            row = self._loaded(b)
            for i, line in enumerate(self.lines):
                x = f.spread(
                    f.load(self.element, f.at(line, self.element, k), self.align), self.lanes
                )
                for j in range(self.vectors):
                    at = i * self.vectors + j
                    sums[at] = multiply_add(f, x, row[j], sums[at])
            k = f.binary("add", k, ssa(self.a_k))
            b = f.at(b, self.element, self.b_k)
        return [k, b, *sums]
