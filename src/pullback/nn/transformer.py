"""Attention as a layer, and the block that transformers stack."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from pullback import random
from pullback.errors import ArgumentError, OutOfRangeError, ShapeError
from pullback.functions.activations import gelu
from pullback.functions.attention import attention
from pullback.functions.manipulation import swapaxes
from pullback.ir.array import Array
from pullback.ir.types import Shape, TensorType, as_dtype, float32, int64
from pullback.nn import init
from pullback.nn.containers import Layer
from pullback.nn.dropout import Dropout
from pullback.nn.embedding import rotary
from pullback.nn.init import Initializer
from pullback.nn.linear import Linear, require_sizes
from pullback.nn.module import Module
from pullback.nn.normalization import LayerNorm
from pullback.ops.create import Iota
from pullback.ops.operators import cast, constant, less_equal, lift, reshape, zeros


class KeyValueCache(NamedTuple):
    """Keys and values of the positions seen so far, in arrays of a fixed size."""

    keys: Array
    """(…, kv_heads, capacity, head_size)"""
    values: Array
    """(…, kv_heads, capacity, head_size)"""
    length: Array
    """int64[]: how many positions are filled"""


class MultiHeadAttention(Module):
    """Attention of each position of x to those of x, or of a context (Vaswani et al. 2017).

    (…, T, size) → (…, T, size). With `kv_heads` below `heads`, neighbouring query heads share keys
    and values (Ainslie et al. 2023). `rotary_base`, as 10000.0, turns queries and keys by their
    positions. `causal`, `window` and `softcap` are those of `pb.nn.attention`. With `dropout`, the
    rate at which weights are dropped, a call takes `train=` and `key=`.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    heads: int
    kv_heads: int
    causal: bool
    window: int | tuple[int, int] | None
    softcap: float | None
    rotary_base: float | None
    dropout: Dropout

    def __init__(
        self,
        size: int,
        heads: int,
        kv_heads: int | None = None,
        head_size: int | None = None,
        context_size: int | None = None,
        use_bias: bool = True,
        *,
        causal: bool = False,
        window: int | tuple[int, int] | None = None,
        softcap: float | None = None,
        rotary_base: float | None = None,
        dropout: float = 0.0,
        key: Array,
        initializer: Initializer = init.lecun_normal,
        output_initializer: Initializer | None = None,
        dtype: Any = float32,
    ) -> None:
        """`head_size` is size / heads, and `context_size` is size, unless given."""
        shared = heads if kv_heads is None else kv_heads
        require_sizes(size=size, heads=heads, kv_heads=shared)
        each = _head_size(size, heads, shared, head_size)
        if rotary_base is not None and each % 2:
            raise ArgumentError(f"rotary positions turn pairs, and a head has {each} elements")

        def made(inputs: int, outputs: int, i: int, initializer: Initializer) -> Linear:
            mine = random.fold_in(key, i)
            return Linear(inputs, outputs, use_bias, key=mine, initializer=initializer, dtype=dtype)

        source = size if context_size is None else context_size
        self.query = made(size, heads * each, 0, initializer)
        self.key = made(source, shared * each, 1, initializer)
        self.value = made(source, shared * each, 2, initializer)
        self.output = made(heads * each, size, 3, output_initializer or initializer)
        self.heads, self.kv_heads = heads, shared
        self.causal, self.window, self.softcap = causal, window, softcap
        self.rotary_base = rotary_base
        self.dropout = Dropout(dropout)

    @property
    def takes_train(self) -> bool:  # type: ignore[override]
        return self.dropout.takes_train

    @property
    def head_size(self) -> int:
        """Elements of a query or key."""
        return self.key.weight.shape[0] // self.kv_heads

    def initial_cache(self, capacity: int, batch: Shape = (), dtype: Any = None) -> KeyValueCache:
        """An empty cache for `capacity` positions of x (*batch, T, size)."""
        require_sizes(capacity=capacity)
        element = self.key.weight.dtype if dtype is None else as_dtype(dtype)
        room = TensorType((*batch, self.kv_heads, capacity, self.head_size), element)
        return KeyValueCache(zeros(room), zeros(room), constant(0, int64))  # two, to be donated

    def __call__(
        self,
        x: Any,
        context: Any = None,
        *,
        mask: Any = None,
        bias: Any = None,
        cache: KeyValueCache | None = None,
        train: bool | None = None,
        key: Array | None = None,
    ) -> Any:
        """y; with a cache (y, cache), where x continues the positions that the cache holds.

        `mask` (bool, True = may be seen) and `bias` broadcast to (…, heads, T, S), S positions of
        the context or of the cache. One program serves all lengths of a cache; `OutOfRangeError`
        when it is full, from a compiled step in the words of the index that lies outside.
        """
        self._check(context, cache)
        source = x if context is None else context
        queries = _split(self.query(x), self.heads)
        keys = _split(self.key(source), self.kv_heads)
        dropout = functools.partial(self.dropout, train=train, key=key)
        values = _split(self.value(source), self.kv_heads)
        if cache is None:
            queries, keys = self._turned(queries, None), self._turned(keys, None)
            seen = attention(
                queries,
                keys,
                values,
                mask,
                self.causal,
                bias=bias,
                softcap=self.softcap,
                window=self.window,
                dropout=dropout,
            )
            return self.output(_joined(seen))
        places = cache.length + Iota(queries.shape[-2], int64)()
        cache = _extended(cache, places, self._turned(keys, places), values)
        seen = attention(
            self._turned(queries, places),
            cache.keys,
            cache.values,
            self._visible(places, cache.keys.shape[-2], mask),
            bias=bias,
            softcap=self.softcap,
            dropout=dropout,
        )
        return self.output(_joined(seen)), cache

    def _turned(self, x: Array, places: Array | None) -> Array:
        return x if self.rotary_base is None else rotary(x, places, base=self.rotary_base)

    def _visible(self, places: Array, capacity: int, mask: Any) -> Array:
        """Which of the cache's positions each query may see."""
        query, key = reshape(places, (places.size, 1)), Iota(capacity, int64)()
        seen = less_equal(key, query)
        if self.window is not None:
            left = self.window if isinstance(self.window, int) else self.window[0]
            seen = seen & less_equal(query - left, key)
        return seen if mask is None else lift(mask) & seen

    def _check(self, context: Any, cache: KeyValueCache | None) -> None:
        if context is not None and cache is not None:
            raise ArgumentError("a cache holds keys of x itself, and a context was given too")
        if context is not None and self.rotary_base is not None:
            raise ArgumentError("rotary positions compare places of one sequence, not of a context")
        if cache is not None and not self.causal:
            raise ArgumentError(
                "a cache serves causal attention, where the past does not see what follows",
                hint="MultiHeadAttention(..., causal=True)",
            )


class TransformerBlock(Module):
    """x + attention(norm(x)), then x + feedforward(norm(x)): a pre-norm block (Xiong et al. 2020).

    (…, T, size) → (…, T, size). What `MultiHeadAttention` takes by name is passed on to it:
    `causal=`, `kv_heads=`, `rotary_base=` … With `dropout`, which acts on what is added to x, or
    `attention_dropout`, which acts on the weights of attention, a call takes `train=` and `key=`.
    """

    attention_norm: Layer
    attention: MultiHeadAttention
    feedforward_norm: Layer
    expand: Linear
    contract: Linear
    dropout: Dropout
    activation: Callable[[Array], Array]

    def __init__(
        self,
        size: int,
        heads: int,
        hidden: int | None = None,
        activation: Callable[[Array], Array] = gelu,
        dropout: float = 0.0,
        norm: Callable[..., Layer] = LayerNorm,
        use_bias: bool = True,
        *,
        key: Array,
        initializer: Initializer | None = None,
        output_initializer: Initializer | None = None,
        dtype: Any = float32,
        attention_dropout: float = 0.0,
        **attention: Any,
    ) -> None:
        """`hidden` units, 4 · size unless given; `norm(size, dtype=dtype)` makes the norms.

        `output_initializer` draws the two weights whose products are added to x; GPT-2 scales these
        by 1 / √(2 · blocks).
        """
        require_sizes(size=size)
        width = 4 * size if hidden is None else hidden
        first = initializer or init.lecun_normal
        last = output_initializer or initializer
        keys = random.split(key, 3)
        how: Any = {"use_bias": use_bias, "dtype": dtype}
        self.attention_norm = norm(size, dtype=dtype)
        self.attention = MultiHeadAttention(
            size,
            heads,
            key=keys[0],
            initializer=first,
            output_initializer=last,
            dropout=attention_dropout,
            **how,
            **attention,
        )
        self.feedforward_norm = norm(size, dtype=dtype)
        self.expand = Linear(size, width, key=keys[1], initializer=first, **how)
        last = last or init.variance_preserving(activation)
        self.contract = Linear(width, size, key=keys[2], initializer=last, **how)
        self.dropout = Dropout(dropout)
        self.activation = activation

    @property
    def takes_train(self) -> bool:  # type: ignore[override]
        return self.dropout.takes_train or self.attention.takes_train

    def initial_cache(self, capacity: int, batch: Shape = (), dtype: Any = None) -> KeyValueCache:
        """See `MultiHeadAttention.initial_cache`."""
        return self.attention.initial_cache(capacity, batch, dtype)

    def __call__(
        self,
        x: Any,
        *,
        mask: Any = None,
        bias: Any = None,
        cache: KeyValueCache | None = None,
        train: bool | None = None,
        key: Array | None = None,
    ) -> Any:
        """y, or with a cache (y, cache)."""
        keys = [None if key is None else random.fold_in(key, i) for i in range(3)]
        attended = self.attention(
            self.attention_norm(x), mask=mask, bias=bias, cache=cache, train=train, key=keys[2]
        )
        if cache is not None:
            attended, cache = attended
        x = x + self.dropout(attended, train=train, key=keys[0])
        thought = self.contract(self.activation(self.expand(self.feedforward_norm(x))))
        y = x + self.dropout(thought, train=train, key=keys[1])
        return y if cache is None else (y, cache)


# ---- heads ----------------------------------------------------------------------------------


def _head_size(size: int, heads: int, kv_heads: int, given: int | None) -> int:
    if heads % kv_heads:
        raise ArgumentError(f"{heads} query heads do not share {kv_heads} key heads evenly")
    if given is not None:
        require_sizes(head_size=given)
        return given
    if size % heads:
        raise ArgumentError(
            f"{size} elements do not divide into {heads} heads", hint="or say head_size="
        )
    return size // heads


def _split(x: Array, heads: int) -> Array:
    """(…, T, heads · d) → (…, heads, T, d)."""
    if x.ndim < 2:
        raise ShapeError(f"attention is over positions, (..., T, size), which {x.type} has not")
    apart = reshape(x, (*x.shape[:-1], heads, x.shape[-1] // heads))
    return swapaxes(apart, -3, -2)


def _joined(x: Array) -> Array:
    """(…, heads, T, d) → (…, T, heads · d)."""
    beside = swapaxes(x, -3, -2)
    return reshape(beside, (*beside.shape[:-2], beside.shape[-2] * beside.shape[-1]))


def _extended(cache: KeyValueCache, places: Array, keys: Array, values: Array) -> KeyValueCache:
    held = (*cache.keys.shape[:-2], cache.keys.shape[-1])
    new = (*keys.shape[:-2], keys.shape[-1])
    if held != new:
        raise ShapeError(
            f"the cache holds keys {cache.keys.type}, and those of x are {keys.type}",
            hint="initial_cache(capacity, batch) with the leading sizes of x",
        )
    _require_room(cache, keys.shape[-2])
    dtype = cache.keys.dtype
    return KeyValueCache(
        cache.keys.at[..., places, :].set(cast(keys, dtype)),
        cache.values.at[..., places, :].set(cast(values, dtype)),
        cache.length + keys.shape[-2],
    )


def _require_room(cache: KeyValueCache, count: int) -> None:
    """Raise where the positions do not fit; a traced length is asked when the step writes them."""
    capacity = cache.keys.shape[-2]
    held = int(cache.length.item()) if cache.length.has_numbers else 0
    if held + count > capacity:
        raise OutOfRangeError(
            f"the cache has room for {capacity} positions: {held} are held and {count} come",
            hint="initial_cache(capacity, batch) with a larger capacity",
        )
