"""Random numbers: pure functions of their keys, with the distributions their names promise.

Seeds are fixed, so a test that passes once passes always; a p-value below 1e-3 would be bad luck of
one in a thousand, and is taken as an error.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import pullback as pb
from pullback import random
from pullback.errors import ArgumentError, DTypeError, ShapeError
from pullback.ir.array import concrete

stats = pytest.importorskip("scipy.stats")

KEY = random.key(20240229)
COUNT = 40_000


def require_distribution(x, distribution) -> None:
    assert stats.kstest(x.numpy().astype(np.float64), distribution.cdf).pvalue > 1e-3


def require_frequencies(indices, probabilities) -> None:
    counts = np.bincount(indices.numpy().ravel(), minlength=len(probabilities))
    assert stats.chisquare(counts, indices.size * np.array(probabilities)).pvalue > 1e-3


# ---- keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "words"),
    [(0, [0, 0]), (7, [0, 7]), (2**32 + 1, [1, 1]), (2**64 - 1, [2**32 - 1, 2**32 - 1])],
)
def test_a_key_is_the_halves_of_its_seed(seed, words):
    assert random.key(seed).tolist() == words
    assert random.key(np.uint64(seed)).tolist() == words


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_have_64_bits(seed):
    with pytest.raises(ArgumentError, match="lies in 0"):
        random.key(seed)


@pytest.mark.parametrize("seed", [1.0, True, None, "7", np.float32(3)])
def test_a_seed_is_an_integer(seed):
    with pytest.raises(DTypeError, match="integer"):
        random.key(seed)


def test_split_gives_different_keys():
    keys = random.split(KEY, 1000).numpy()
    assert len(np.unique(keys, axis=0)) == 1000
    assert random.split(KEY).shape == (2, 2)
    assert random.split(KEY, (2, 3)).shape == (2, 3, 2)


def test_fold_in_depends_on_every_bit_of_the_data():
    data = [0, *(1 << i for i in range(64))]
    keys = {tuple(random.fold_in(KEY, each).tolist()) for each in data}
    assert len(keys) == len(data)
    assert keys.isdisjoint(map(tuple, random.split(KEY, 65).tolist()))


def test_fold_in_of_neighbouring_seeds_and_steps_never_meets():
    keys = {
        tuple(random.fold_in(random.key(seed), step).tolist())
        for seed in range(40)
        for step in range(40)
    }
    assert len(keys) == 1600


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64])
def test_fold_in_of_an_array_is_that_of_its_number(dtype):
    expected = random.fold_in(KEY, 100).tolist()
    assert random.fold_in(KEY, concrete(dtype(100))).tolist() == expected
    folded = pb.vmap(lambda i: random.fold_in(KEY, i))(concrete(np.arange(99, 102, dtype=dtype)))
    assert folded[1].tolist() == expected


@pytest.mark.parametrize(
    ("key", "error"),
    [
        (np.zeros(2), DTypeError),
        (np.zeros(3, np.uint32), ShapeError),
        (np.zeros((4, 2), np.uint32), ShapeError),
        (7, DTypeError),
        (None, DTypeError),
    ],
)
def test_a_wrong_key_is_named(key, error):
    with pytest.raises(error, match="a random key is"):
        random.normal(key, (3,))


@pytest.mark.parametrize("shape", [-1, (2, -3), (1.5,), (True,)])
def test_a_wrong_shape_is_named(shape):
    with pytest.raises(ShapeError, match="shape"):
        random.uniform(KEY, shape)


# ---- purity ---------------------------------------------------------------------------------

DRAWS = {
    "bits": lambda key: random.bits(key, (4, 3)),
    "bits64": lambda key: random.bits(key, (4, 3), "uint64"),
    "uniform": lambda key: random.uniform(key, (4, 3), "float64", -1.0, 2.0),
    "normal": lambda key: random.normal(key, (4, 3)),
    "truncated_normal": lambda key: random.truncated_normal(key, -1.0, 2.0, (4, 3)),
    "exponential": lambda key: random.exponential(key, (4, 3)),
    "gumbel": lambda key: random.gumbel(key, (4, 3)),
    "bernoulli": lambda key: random.bernoulli(key, 0.4, (4, 3)),
    "randint": lambda key: random.randint(key, (4, 3), -5, 5),
    "categorical": lambda key: random.categorical(key, np.arange(3.0), shape=(4,)),
    "permutation": lambda key: random.permutation(key, 7),
    "choice": lambda key: random.choice(key, 9, (4,), replace=False),
    "orthogonal": lambda key: random.orthogonal(key, 3),
    "split": lambda key: random.split(key, 3),
    "fold_in": lambda key: random.fold_in(key, 5),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_same_key_draws_the_same(name):
    draw = DRAWS[name]
    np.testing.assert_array_equal(draw(KEY).numpy(), draw(KEY).numpy())
    other = draw(random.fold_in(KEY, 1)).numpy()
    assert not np.array_equal(draw(KEY).numpy(), other)


@pytest.mark.parametrize("name", DRAWS)
def test_vmap_over_keys_is_the_stack_of_single_draws(name):
    draw = DRAWS[name]
    keys = random.split(KEY, 5)
    batched = pb.vmap(draw)(keys).numpy()
    single = np.stack([draw(key).numpy() for key in keys])
    np.testing.assert_allclose(batched, single, rtol=1e-6, atol=1e-7)
    if batched.dtype.kind != "f":
        np.testing.assert_array_equal(batched, single)


@pytest.mark.parametrize(
    "draw",
    [random.bits, random.uniform, random.normal, random.exponential, random.gumbel],
)
def test_element_i_depends_on_the_key_and_i_alone(draw):
    long = draw(KEY, (100,)).numpy()
    np.testing.assert_array_equal(draw(KEY, (9,)).numpy(), long[:9])
    np.testing.assert_array_equal(draw(KEY, (4, 25)).numpy().ravel(), long)


def test_a_recomputed_draw_is_the_same():
    def loss(x):
        noise = random.normal(KEY, x.shape, x.dtype)
        return pb.sum(pb.sin(x * noise) * noise)

    x = np.linspace(-1, 1, 5)
    np.testing.assert_array_equal(pb.grad(pb.checkpoint(loss))(x).numpy(), pb.grad(loss)(x).numpy())


# ---- distributions --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform(dtype):
    x = random.uniform(KEY, (COUNT,), dtype)
    require_distribution(x, stats.uniform())
    assert x.dtype == dtype
    assert 0 <= x.numpy().min() < x.numpy().max() < 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("low", "high"), [(1.0, 2.0), (-3.0, 1.0), (100.0, 101.0), (-2.0, -1.0)])
def test_uniform_never_reaches_the_upper_end(dtype, low, high):
    x = random.uniform(KEY, (COUNT,), dtype, low, high).numpy().astype(np.float64)
    assert low <= x.min()
    assert x.max() < high


def test_uniform_is_differentiable_in_its_ends():
    unit = random.uniform(KEY, (5,), "float64").numpy()
    low, high = pb.grad(
        lambda a, b: pb.sum(random.uniform(KEY, (5,), "float64", a, b)), argnums=(0, 1)
    )(np.float64(0.5), np.float64(2.0))
    assert math.isclose(high.item(), unit.sum(), rel_tol=1e-12)
    assert math.isclose(low.item(), (1 - unit).sum(), rel_tol=1e-12)


def test_an_empty_interval_is_refused():
    for low, high in ((1.0, 1.0), (2.0, 1.0), (math.nan, 1.0)):
        with pytest.raises(ArgumentError, match="empty"):
            random.uniform(KEY, (2,), minval=low, maxval=high)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal(dtype):
    x = random.normal(KEY, (COUNT,), dtype)
    require_distribution(x, stats.norm())
    numbers = x.numpy().astype(np.float64)
    error = 1 / math.sqrt(COUNT)
    assert abs(numbers.mean()) < 4 * error
    assert abs(numbers.var() - 1) < 4 * error * math.sqrt(2)
    assert abs(np.mean(numbers**4) - 3) < 4 * error * math.sqrt(96)
    assert np.isfinite(numbers).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_rounded_float32(dtype):
    wide = random.normal(KEY, (100,))
    np.testing.assert_array_equal(
        random.normal(KEY, (100,), dtype).numpy(), wide.astype(dtype).numpy()
    )


def test_the_extreme_words_give_finite_normals():
    ends = np.array([0, 2**32 - 1], np.uint32) >> 9
    unit = (ends.astype(np.float32) * 2 + 1) * np.float32(2**-24)
    assert unit[0] > 0
    assert unit[1] < 1
    z = pb.erfinv(unit * 2 - 1).numpy()
    assert np.isfinite(z).all()
    assert z[0] == -z[1]


@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.0), (0.5, 3.0), (-1.0, -0.9)])
def test_truncated_normal(low, high):
    x = random.truncated_normal(KEY, low, high, (COUNT,))
    require_distribution(x, stats.truncnorm(low, high))
    assert low <= x.numpy().min() < x.numpy().max() <= np.float32(high)


def test_exponential_and_gumbel():
    require_distribution(random.exponential(KEY, (COUNT,)), stats.expon())
    require_distribution(random.gumbel(KEY, (COUNT,)), stats.gumbel_r())
    assert random.exponential(KEY, (COUNT,)).numpy().min() > 0


def test_bernoulli():
    assert not random.bernoulli(KEY, 0.0, (COUNT,)).numpy().any()
    assert random.bernoulli(KEY, 1.0, (COUNT,)).numpy().all()
    require_frequencies(random.bernoulli(KEY, 0.3, (COUNT,)).astype("int64"), [0.7, 0.3])
    chances = np.array([[0.1], [0.9]])
    assert random.bernoulli(KEY, chances, (2, 50)).numpy().sum(1).tolist() == pytest.approx(
        [5, 45], abs=8
    )
    with pytest.raises(ArgumentError, match="probability"):
        random.bernoulli(KEY, 1.1)


def test_randint():
    x = random.randint(KEY, (COUNT,), -2, 3)
    assert x.dtype == "int64"
    require_frequencies(x + 2, [0.2] * 5)
    assert random.randint(KEY, (9,), 3, 4).tolist() == [3] * 9
    whole = random.randint(KEY, (COUNT,), -128, 128, "int8").numpy()
    assert (whole.min(), whole.max()) == (-128, 127)
    wide = random.randint(KEY, (COUNT,), -(2**63), 2**63 - 1).numpy()
    assert stats.kstest(wide / 2.0**64 + 0.5, "uniform").pvalue > 1e-3
    with pytest.raises(ArgumentError, match="no integer"):
        random.randint(KEY, (2,), 4, 4)
    with pytest.raises(ArgumentError, match="is no bound"):
        random.randint(KEY, (2,), 0, 300, "int8")
    traced = pb.vmap(lambda high: random.randint(KEY, (), 3, high))(np.array([0, 3, 4]))
    assert traced.tolist() == [3, 3, 3]


def test_bits_are_balanced():
    for dtype in ("uint8", "uint16", "uint32", "uint64"):
        words = random.bits(KEY, (COUNT,), dtype).numpy()
        ones = np.unpackbits(words.view(np.uint8)).reshape(COUNT, -1).mean(0)
        assert np.abs(ones - 0.5).max() < 4.5 * 0.5 / math.sqrt(COUNT)
    with pytest.raises(DTypeError, match="unsigned"):
        random.bits(KEY, (3,), "int32")


def test_categorical():
    chances = [0.1, 0.2, 0.7]
    require_frequencies(random.categorical(KEY, np.log(chances), shape=(COUNT,)), chances)
    masked = np.array([0.0, -np.inf, 1.0])
    assert 1 not in random.categorical(KEY, masked, shape=(COUNT,)).numpy()
    columns = np.log([[0.99, 0.01], [0.01, 0.99]])
    assert random.categorical(KEY, columns, axis=0).shape == (2,)
    assert random.categorical(KEY, columns, shape=(5, 2)).shape == (5, 2)
    with pytest.raises(ShapeError, match="ends with"):
        random.categorical(KEY, columns, shape=(2, 5))
    with pytest.raises(ShapeError, match="no class"):
        random.categorical(KEY, np.zeros((3, 0)))


def test_permutation():
    orders = pb.vmap(lambda key: random.permutation(key, 4))(random.split(KEY, 12_000)).numpy()
    ranks = orders @ np.array([64, 16, 4, 1])
    _, counts = np.unique(ranks, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
    x = np.arange(12.0).reshape(3, 4)
    shuffled = random.permutation(KEY, x, axis=1).numpy()
    assert sorted(shuffled[0]) == [0, 1, 2, 3]
    np.testing.assert_array_equal(shuffled[1], shuffled[0] + 4)
    assert random.permutation(KEY, 0).shape == (0,)


def test_choice():
    require_frequencies(random.choice(KEY, 4, (COUNT,)), [0.25] * 4)
    chances = np.array([0.5, 0.0, 0.2, 0.3])
    drawn = random.choice(KEY, 4, (COUNT,), p=chances)
    require_frequencies(drawn[drawn.numpy() >= 0], [0.5, 1e-300, 0.2, 0.3])
    assert sorted(random.choice(KEY, 6, (6,), replace=False).tolist()) == list(range(6))
    rare = random.choice(KEY, 4, (3,), replace=False, p=chances)
    assert sorted(rare.tolist()) == [0, 2, 3]
    names = np.arange(20).reshape(4, 5)
    assert random.choice(KEY, names, (2, 3), axis=1).shape == (4, 2, 3)
    with pytest.raises(ArgumentError, match="cannot be chosen"):
        random.choice(KEY, 3, (4,), replace=False)
    with pytest.raises(ShapeError, match="probabilities"):
        random.choice(KEY, 3, p=np.ones(4) / 4)


def test_orthogonal_is_orthogonal_and_uniform():
    q = random.orthogonal(KEY, 3, (4000,), "float64").numpy()
    identity = np.broadcast_to(np.eye(3), q.shape)
    np.testing.assert_allclose(q @ q.transpose(0, 2, 1), identity, atol=1e-13)
    # Archimedes: each coordinate of a uniform point of the sphere is uniform in (-1, 1).
    for i, j in ((0, 0), (1, 2), (2, 1)):
        assert stats.kstest(q[:, i, j], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert abs(np.linalg.det(q).mean()) < 0.1
    assert random.orthogonal(KEY, 0).shape == (0, 0)
    assert random.orthogonal(KEY, 2).dtype == "float32"
