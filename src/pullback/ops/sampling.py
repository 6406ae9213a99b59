"""Random bits from a counter: element i of a draw depends on (key, i) and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pullback.errors import DTypeError, ShapeError
from pullback.ir.array import Array
from pullback.ir.op import Op, Sample
from pullback.ir.types import Shape, TensorType, int64, uint32

# Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), table 2.
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)
GROUPS = 5
"""Four rounds and one injection of the key each: Threefry-2x32-20."""


def threefry(key: Any, counter: Any) -> tuple[Any, Any]:
    """Threefry-2x32-20: two uint32 words from the two words of a key and of a counter.

    The order of the words is that of Random123: the low half of a counter comes first.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ PARITY)
    x, y = counter[0] + schedule[0], counter[1] + schedule[1]
    for group in range(1, GROUPS + 1):
        for distance in ROTATIONS[(group - 1) % 2]:
            x = x + y
            y = (y << np.uint32(distance) | y >> np.uint32(32 - distance)) ^ x
        x = x + schedule[group % 3]
        y = y + schedule[(group + 1) % 3] + np.uint32(group)
    return x, y


def _mixed(s: Any, key: Sequence[Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """`threefry` in the scalar algebra."""
    parity = s.const(int(PARITY), key[0])
    schedule = (*key, s.bit_xor(s.bit_xor(key[0], key[1]), parity))
    x, y = s.add(counter[0], schedule[0]), s.add(counter[1], schedule[1])
    for group in range(1, GROUPS + 1):
        for distance in ROTATIONS[(group - 1) % 2]:
            x = s.add(x, y)
            left = s.shift_left(y, s.const(distance, y))
            right = s.shift_right(y, s.const(32 - distance, y))
            y = s.bit_xor(s.bit_or(left, right), x)
        x = s.add(x, schedule[group % 3])
        y = s.add(y, s.add(schedule[(group + 1) % 3], s.const(group, y)))
    return x, y


@dataclass(frozen=True)
class RandomBits(Op):
    """`shape` uniform 32-bit words for each key: word i is word i mod 2 of Threefry(key, i div 2).

    A key is two uint32 words on the last axis; other axes of the operand are examples and come
    first in the result.
    """

    name = "random_bits"
    differentiable = False
    shape: Shape

    def infer(self, key: TensorType) -> TensorType:
        if any(n < 0 for n in self.shape):
            raise ShapeError(f"a shape has no negative sizes: {self.shape}")
        if key.dtype != uint32:
            raise DTypeError(
                f"a random key is uint32[2], not {key}", hint="make one with pb.random.key(seed)"
            )
        if key.shape[-1:] != (2,):
            raise ShapeError(
                f"a random key is uint32[2], not {key}", hint="make one with pb.random.key(seed)"
            )
        return key.reshaped((*key.shape[:-1], *self.shape))

    def reference(self, key: Any) -> Any:
        count = math.prod(self.shape)
        pairs = np.arange((count + 1) // 2, dtype=np.uint64)
        counter = (pairs.astype(np.uint32), (pairs >> np.uint64(32)).astype(np.uint32))
        words = np.stack(threefry((key[..., :1], key[..., 1:]), counter), axis=-1)
        flat = words.reshape(*key.shape[:-1], 2 * pairs.size)[..., :count]
        return flat.reshape((*key.shape[:-1], *self.shape))

    def element(self, s: Any, at: Sequence[Any], read: Any) -> Any:
        lead = len(at) - len(self.shape)
        number = s.literal(0, int64)
        for i, n in zip(at[lead:], self.shape, strict=True):
            number = s.add(s.mul(number, s.const(n, number)), i)
        two = s.const(2, number)
        pair, second = s.quot(number, two), s.rem(number, two)
        high = s.cast(s.quot(pair, s.const(1 << 32, pair)), uint32)
        key = [read(0, (*at[:lead], s.literal(i, int64))) for i in range(2)]
        x, y = _mixed(s, key, (s.cast(pair, uint32), high))
        return s.select(s.equal(second, s.const(0, second)), x, y)

    def batch(
        self, size: int, inputs: tuple[Array, ...], batched: Sequence[bool]
    ) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        return self.outputs(*inputs), (True,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        key = np.array([0x13198A2E, 0x03707344], uint32)
        yield Sample(cls((3, 4)), key)
        yield Sample(cls(()), key)
        yield Sample(cls((0, 2)), key)
        yield Sample(cls((5,)), np.arange(12, dtype=uint32).reshape(2, 3, 2))

    @classmethod
    def rejected(cls) -> Iterator[Sample]:
        yield Sample(cls((3,)), np.zeros(2))
        yield Sample(cls((3,)), np.zeros(3, uint32))
        yield Sample(cls((3,)), np.zeros((), uint32))
        yield Sample(cls((-1,)), np.zeros(2, uint32))
