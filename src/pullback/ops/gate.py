"""Ops that pass operands on as they are, once something is known."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from pullback.ir.op import Op

T = TypeVar("T")


class Gate(Op):
    """An op that computes nothing: its outputs are its last operands, behind a condition.

    Whoever reads an output comes after whatever the op needs.
    """

    tests: ClassVar[int] = 0
    """How many of the first operands are not passed on: the condition."""

    def tested(self, operands: tuple[T, ...]) -> tuple[T, ...]:
        return operands[: self.tests]

    def passed(self, operands: tuple[T, ...]) -> tuple[T, ...]:
        return operands[self.tests :]
