"""Multi-head attention: what it may see, and generation with a cache of fixed size."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.errors import OutOfRangeError
from pullback.ir.array import Array

nn = pb.nn
KEY = pb.random.key(4)
X = np.random.default_rng(1).standard_normal((2, 7, 8))

OPTIONS = {
    "plain": {},
    "grouped": {"kv_heads": 2},
    "rotary": {"rotary_base": 10000.0},
    "window": {"window": 3},
    "both sides": {"window": (2, 1)},
    "soft": {"softcap": 2.0, "kv_heads": 1, "rotary_base": 100.0, "window": 4},
}


def causal(**options):
    return nn.MultiHeadAttention(8, 4, causal=True, key=KEY, dtype="float64", **options)


class GPT(nn.Module):
    """Tokens (…, T) → logits (…, T, vocabulary)."""

    embedding: nn.Embedding
    blocks: tuple[nn.TransformerBlock, ...]
    norm: nn.RMSNorm

    def __init__(self, vocabulary, size, heads, depth, key):
        keys = pb.random.split(key, depth + 1)
        how = {"causal": True, "rotary_base": 10000.0, "kv_heads": 1, "norm": nn.RMSNorm}
        self.embedding = nn.Embedding(vocabulary, size, key=keys[depth])
        self.blocks = tuple(
            nn.TransformerBlock(size, heads, key=keys[i], **how) for i in range(depth)
        )
        self.norm = nn.RMSNorm(size)

    def __call__(self, tokens, caches=None):
        x, after = self.embedding(tokens), []
        for i, block in enumerate(self.blocks):
            if caches is None:
                x = block(x)
            else:
                x, cache = block(x, cache=caches[i])
                after.append(cache)
        logits = self.embedding.attend(self.norm(x))
        return logits if caches is None else (logits, tuple(after))

    def initial_caches(self, capacity, batch):
        return tuple(block.initial_cache(capacity, batch) for block in self.blocks)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("pieces", [(1,) * 7, (4, 1, 2), (7,)], ids=str)
def test_a_cache_gives_what_the_whole_gives(name, pieces):
    layer = causal(**OPTIONS[name])
    cache, parts, start = layer.initial_cache(9, (2,)), [], 0
    for size in pieces:
        y, cache = layer(X[:, start : start + size], cache=cache)
        parts.append(y.numpy())
        start += size
    np.testing.assert_allclose(
        np.concatenate(parts, axis=1), layer(X).numpy(), rtol=1e-10, atol=1e-13
    )
    assert cache.length.item() == 7


def test_generation_never_compiles_again():
    model = GPT(11, 8, 2, 2, KEY)
    step = pb.compile(lambda model, tokens, caches: model(tokens, caches), donate="caches")
    tokens = np.random.default_rng(3).integers(0, 11, (3, 12))
    caches, logits = model.initial_caches(12, (3,)), []
    for t in range(12):
        out, caches = step(model, tokens[:, t : t + 1], caches)
        logits.append(out.numpy())
    assert len(step._programs) == 1
    expected = model(tokens).numpy()
    np.testing.assert_allclose(np.concatenate(logits, axis=1), expected, rtol=1e-6, atol=1e-6)


def test_the_future_is_not_seen():
    layer = causal()
    changed = X.copy()
    changed[:, 4:] += 1
    np.testing.assert_array_equal(layer(X).numpy()[:, :4], layer(changed).numpy()[:, :4])
    assert np.all(layer(X).numpy()[:, 4:] != layer(changed).numpy()[:, 4:])


def test_a_mask_hides_in_both_ways():
    layer = nn.MultiHeadAttention(8, 2, key=KEY, dtype="float64")
    seen = np.arange(7) < 5
    np.testing.assert_allclose(
        layer(X, mask=seen).numpy()[:, :5], layer(X[:, :5]).numpy(), rtol=1e-12
    )
    whole = causal()
    padding = np.arange(7)[None] >= np.array([[2], [0]])  # two places before the first text
    mask = padding[:, None, None, :]
    y, _ = whole(
        X, mask=np.pad(mask, ((0, 0),) * 3 + ((0, 2),)), cache=whole.initial_cache(9, (2,))
    )
    np.testing.assert_allclose(y.numpy(), whole(X, mask=mask).numpy(), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(
        y.numpy()[0, 2:], whole(X[:1, 2:]).numpy()[0], rtol=1e-10, atol=1e-13
    )


def test_shared_heads_are_repeated_heads():
    shared = nn.MultiHeadAttention(8, 4, 2, key=KEY, dtype="float64")
    assert (shared.key.weight.shape, shared.head_size) == ((4, 8), 2)

    def repeated(linear):
        weight = linear.weight.numpy().reshape(2, 2, 8).repeat(2, axis=0).reshape(8, 8)
        return linear.replace(
            weight=weight, bias=linear.bias.numpy().reshape(2, 2).repeat(2, 0).ravel()
        )

    full = shared.replace(key=repeated(shared.key), value=repeated(shared.value), kv_heads=4)
    np.testing.assert_allclose(full(X).numpy(), shared(X).numpy(), rtol=1e-12)


def test_sizes_of_heads_and_contexts():
    layer = nn.MultiHeadAttention(8, 3, 1, head_size=5, context_size=6, use_bias=False, key=KEY)
    assert [x.weight.shape for x in (layer.query, layer.key, layer.value, layer.output)] == [
        (15, 8),
        (5, 6),
        (5, 6),
        (8, 15),
    ]
    assert layer.query.bias is None
    y = layer(X.astype(np.float32), np.ones((2, 3, 6), np.float32))
    assert (y.shape, y.dtype) == ((2, 7, 8), np.float32)
    assert layer(X[0].astype(np.float32), np.ones((3, 6), np.float32)).shape == (7, 8)


# ---- rotary ---------------------------------------------------------------------------------


def test_rotary_turns_pairs_by_their_positions():
    x = X[..., :4]
    turned = nn.rotary(x, base=100.0).numpy()
    z = (x[..., :2] + 1j * x[..., 2:]) * np.exp(1j * np.arange(7)[:, None] * np.array([1.0, 0.1]))
    np.testing.assert_allclose(turned, np.concatenate([z.real, z.imag], -1), rtol=1e-12)
    np.testing.assert_array_equal(
        nn.rotary(x, base=100.0).numpy(), nn.rotary(x, np.arange(7), base=100.0).numpy()
    )
    assert nn.rotary(x.astype(np.float16)).dtype == np.float16


def test_rotary_products_depend_on_distances():
    q, k = X[:1, :1], X[:1, 1:2]
    product = lambda i, j: pb.sum(nn.rotary(q, np.array([i])) * nn.rotary(k, np.array([j]))).item()
    np.testing.assert_allclose(product(3, 5), product(103, 105), rtol=1e-12)


def test_rotary_takes_positions_of_each_example():
    places = np.array([[[0, 1, 2]], [[5, 6, 7]]])
    x = np.ones((2, 3, 3, 4))
    y = nn.rotary(x, places).numpy()
    np.testing.assert_allclose(y[1, 0], nn.rotary(x[1, 0], places[1, 0]).numpy(), rtol=1e-12)
    with pytest.raises(pb.errors.ShapeError, match="do not fit"):
        nn.rotary(x, np.arange(4))
    with pytest.raises(pb.errors.ShapeError, match="even"):
        nn.rotary(np.ones((2, 3)))


def test_dropout_in_a_block():
    block = nn.TransformerBlock(8, 2, dropout=0.5, key=KEY, dtype="float64")
    once, again = (block(X, train=True, key=pb.random.key(i)) for i in (1, 1))
    np.testing.assert_array_equal(once.numpy(), again.numpy())
    other = block(X, train=True, key=pb.random.key(2))
    assert isinstance(other, Array)
    assert not np.array_equal(once.numpy(), other.numpy())
    calm = nn.TransformerBlock(8, 2, key=KEY, dtype="float64")
    np.testing.assert_array_equal(block(X, train=False).numpy(), calm(X).numpy())


def test_a_full_cache_says_so():
    layer = causal()
    _, cache = layer(X, cache=layer.initial_cache(9, (2,)))
    with pytest.raises(OutOfRangeError, match="room for 9 positions: 7 are held and 3 come"):
        layer(X[:, :3], cache=cache)
    with pytest.raises(OutOfRangeError, match="room for 4 positions"):
        pb.compile(lambda x: layer(x, cache=layer.initial_cache(4, (2,)))[0])(X)


def test_a_compiled_step_refuses_a_full_cache():
    layer = causal()
    step = pb.compile(lambda x, cache: layer(x, cache=cache)[1])
    cache = step(X, layer.initial_cache(9, (2,)))
    with pytest.raises(OutOfRangeError, match="index 9 is out of range"):
        step(X, cache)


# ---- dropout on the weights -------------------------------------------------------------------


def test_dropout_drops_weights():
    """With values that tell the keys apart the output shows the weights."""
    q, k = X[:, None, :, :4], X[:, None, :, 4:]
    values = np.broadcast_to(np.eye(7), (2, 1, 7, 7)).copy()
    drop = nn.Dropout(0.5)
    whole = nn.attention(q, k, values)
    part = nn.attention(q, k, values, dropout=lambda w: drop(w, train=True, key=KEY)).numpy()
    kept = part != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(part[kept], 2 * whole.numpy()[kept])


def test_a_layer_with_dropout_is_the_plain_one_in_use():
    plain, dropped = causal(), causal(dropout=0.5)
    assert (plain.takes_train, dropped.takes_train) == (False, True)
    np.testing.assert_array_equal(dropped(X, train=False), plain(X))
    one, other = (dropped(X, train=True, key=pb.random.key(i)) for i in (0, 1))
    assert not np.allclose(one, other)
    np.testing.assert_array_equal(one, dropped(X, train=True, key=pb.random.key(0)))
    outputs = [dropped(X, train=True, key=pb.random.key(i)).numpy() for i in range(400)]
    np.testing.assert_allclose(np.mean(outputs, axis=0), plain(X), atol=0.15)


def test_a_block_drops_what_it_adds_or_what_it_sees():
    how = {"causal": True, "key": KEY, "dtype": "float64"}
    plain = nn.TransformerBlock(8, 2, **how)
    block = nn.TransformerBlock(8, 2, attention_dropout=0.5, **how)
    assert block.takes_train
    np.testing.assert_array_equal(block(X, train=False), plain(X))
    assert not np.allclose(block(X, train=True, key=KEY), plain(X))
    first = pb.compile(lambda x: block(x, train=True, key=KEY))(X)
    np.testing.assert_allclose(first, block(X, train=True, key=KEY), rtol=1e-10)
    with pytest.raises(pb.errors.ArgumentError, match="needs a key"):
        block(X, train=True)
