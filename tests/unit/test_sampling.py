"""Threefry-2x32-20 against the known answers of Random123, and the law of the counter."""

from __future__ import annotations

import numpy as np
import pytest

from pullback.ir.array import concrete
from pullback.ops.sampling import RandomBits, threefry

# Random123 1.14.0, tests/kat_vectors, lines `threefry2x32 20`.
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    def word(x):
        return np.array([x], np.uint32)

    x, y = threefry(tuple(map(word, key)), tuple(map(word, counter)))
    assert (int(x[0]), int(y[0])) == expected


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 0), ()])
def test_element_i_is_word_i_mod_2_of_counter_i_div_2(shape):
    key = np.array([7, 11], np.uint32)
    words = RandomBits(shape)(concrete(key.copy())).numpy()
    assert words.shape == shape
    for i, word in enumerate(words.ravel()):
        counter = (np.array([i // 2], np.uint32), np.array([0], np.uint32))
        pair = threefry((key[:1], key[1:]), counter)
        assert word == pair[i % 2][0]


def test_a_longer_draw_begins_with_the_shorter_one():
    key = concrete(np.array([1, 2], np.uint32))
    long = RandomBits((100,))(key).numpy()
    np.testing.assert_array_equal(RandomBits((9,))(key).numpy(), long[:9])
    np.testing.assert_array_equal(RandomBits((5, 20))(key).numpy().ravel(), long)
