"""The laws every op obeys. Each takes a sample, and raises AssertionError or `Exempt`."""

from __future__ import annotations

import itertools

import numpy as np

from conformance.numpy_scalar import NumpyReader, NumpyScalar
from pullback.ir.array import Array, concrete
from pullback.ir.families import Elementwise
from pullback.ir.graph import verify
from pullback.ir.op import Op, Sample
from pullback.ir.parse import parse_graph
from pullback.ir.text import print_graph
from pullback.ir.types import is_float
from pullback.ops.pointwise import StraightThrough
from pullback.transforms.derivatives import linearize, vjp
from pullback.transforms.trace import trace
from pullback.transforms.vectorize import vmap


class Exempt(Exception):
    """The law does not speak about this sample; the message says why."""


# ---- meaning --------------------------------------------------------------------------------


def types(sample: Sample) -> None:
    """`infer` announces exactly the shapes and element types that `reference` gives."""
    expected = sample.op.output_types(*sample.types)
    with np.errstate(all="ignore"):
        result = sample.op.reference(*sample.inputs)
    results = result if isinstance(result, tuple) else (result,)
    for kind, numbers in zip(expected, map(np.asarray, results), strict=True):
        assert (numbers.shape, numbers.dtype) == (kind.shape, kind.dtype)


def body_is_reference(sample: Sample) -> None:
    """The loop body, run on NumPy numbers, gives what `reference` gives."""
    op = sample.op
    if not isinstance(op, Elementwise) or type(op).body is Elementwise.body:
        raise Exempt("no loop body")
    with np.errstate(all="ignore"):
        body = op.body(NumpyScalar(), *sample.inputs)
        reference = op.reference(*sample.inputs)
    np.testing.assert_allclose(
        np.asarray(body, dtype=reference.dtype), reference, rtol=1e-12, atol=1e-300
    )


def element_is_reference(sample: Sample) -> None:
    """Every element, computed from its coordinates, is the one that `reference` gives."""
    op = sample.op
    if not op.by_element:
        raise Exempt("no rule for one element")
    with np.errstate(all="ignore"):
        reference = np.asarray(op.reference(*sample.inputs))
        at = tuple(np.indices(reference.shape))
        element = op.element(NumpyScalar(), at, NumpyReader(sample.inputs))
    np.testing.assert_array_equal(np.broadcast_to(element, reference.shape), reference)
    assert np.asarray(element).dtype == reference.dtype


def parts_make_parts(sample: Sample) -> None:
    """A part of the output comes from the parts of operands that `parted` names."""
    op, ways = sample.op, 0
    if type(op).parted is Op.parted:
        raise Exempt("not made part by part")
    with np.errstate(all="ignore"):
        whole = np.asarray(op.reference(*sample.inputs))
        for axis, size in enumerate(whole.shape):
            count = next((n for n in range(2, size + 1) if size % n == 0), 0)
            way = op.parted(axis, count, *sample.types) if count else None
            for i in range(count if way is not None else 0):
                part, axes = way
                inputs = [_part(x, a, i, count) for x, a in zip(sample.inputs, axes, strict=True)]
                expected, ways = _part(whole, axis, i, count), ways + 1
                made = np.asarray(part.reference(*inputs))
                assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
                np.testing.assert_allclose(  # BLAS adds in an order that depends on the sizes
                    made.astype(float), expected.astype(float), rtol=1e-12
                )
    if not ways:
        raise Exempt("no axis has parts")


def terms_make_sums(sample: Sample) -> None:
    """What an op makes of the parts that `summed` names adds up to its output."""
    op, ways = sample.op, 0
    for operand, x in enumerate(sample.inputs):
        for axis, count in enumerate(x.shape):
            axes = op.summed(operand, axis)
            if axes is None or not count:
                continue
            terms = [
                op.reference(
                    *[_part(x, a, i, count) for x, a in zip(sample.inputs, axes, strict=True)]
                )
                for i in range(count)
            ]
            whole, ways = op.reference(*sample.inputs), ways + 1
            tolerance = 1e-12 if whole.dtype.itemsize >= 8 else 1e-2
            np.testing.assert_allclose(
                np.sum(terms, axis=0).astype(float), whole.astype(float), rtol=tolerance
            )
    if not ways:
        raise Exempt("no sum over parts")


def _part(x: np.ndarray, axis: int | None, i: int, count: int) -> np.ndarray:
    return x if axis is None else np.split(x, count, axis)[i]


def operands_change_places(sample: Sample) -> None:
    """A commutative op gives the same bits when its operands are exchanged."""
    if not sample.op.commutative:
        raise Exempt("not commutative")
    with np.errstate(all="ignore"):
        result = sample.op.reference(*sample.inputs)
        exchanged = sample.op.reference(*sample.inputs[::-1])
    np.testing.assert_array_equal(result, exchanged)
    if is_float(result.dtype):
        plain = ~np.isnan(result)
        np.testing.assert_array_equal(np.signbit(result)[plain], np.signbit(exchanged)[plain])


def text_round_trip(sample: Sample) -> None:
    """Printing and parsing give the same graph."""
    graph = trace(sample.op.outputs, *sample.types)
    if not sample.op.parses:
        raise Exempt("holds Python functions, which have no text")
    text = print_graph(graph)
    parsed = parse_graph(text)
    verify(parsed)
    assert print_graph(parsed) == text
    assert [node.op for node in parsed.nodes if not _holds_graph(node.op)] == [
        node.op for node in graph.nodes if not _holds_graph(node.op)
    ]


def _holds_graph(op: Op) -> bool:
    return any(hasattr(value, "nodes") for value in vars(op).values())


def costs(sample: Sample) -> None:
    """FLOPs and bytes are non-negative integers."""
    outputs = sample.op.output_types(*sample.types)
    for number in (
        sample.op.flops(sample.types, outputs),
        sample.op.bytes_moved(sample.types, outputs),
    ):
        assert isinstance(number, int)
        assert number >= 0


# ---- derivatives ----------------------------------------------------------------------------


def derivative(sample: Sample) -> None:
    """J v by forward mode = the directional derivative by finite differences."""
    f, primals = _smooth_function(sample)
    _check_derivative(f, primals)


def adjoint(sample: Sample) -> None:
    """⟨J v, u⟩ = ⟨v, Jᵀ u⟩."""
    f, primals = _smooth_function(sample)
    _check_adjoint(f, primals)


def second_order(sample: Sample) -> None:
    """Both laws again, for the function x ↦ J(x)ᵀ u, and for x ↦ J(x) v."""
    f, primals = _smooth_function(sample)
    cotangents = [_direction(y.shape, 7 + i) for i, y in enumerate(f(*primals))]
    tangents = [_direction(x.shape, 11 + i) for i, x in enumerate(primals)]

    def reverse(*xs: Array) -> tuple[Array, ...]:
        return vjp(f, *xs)[1](tuple(map(concrete, cotangents)))

    def forward(*xs: Array) -> tuple[Array, ...]:
        return linearize(f, *xs)[1](*map(concrete, tangents))

    for g in (reverse, forward):
        _check_derivative(g, primals)
        _check_adjoint(g, primals)


def finite_everywhere(sample: Sample) -> None:
    """A zero cotangent gives a zero gradient, even where the derivative is infinite."""
    f, primals = _float_function(sample)
    primals = [
        concrete(np.nan_to_num(x.numpy(), nan=1.0, posinf=1e300, neginf=-1e300)) for x in primals
    ]
    outputs, pullback = vjp(f, *primals)
    bars = pullback(
        tuple(
            y * 0 if np.isfinite(y.numpy()).all() else concrete(np.zeros(y.shape)) for y in outputs
        )
    )
    for bar in bars:
        np.testing.assert_array_equal(bar.numpy(), 0.0)


def declared(sample: Sample) -> None:
    """`straight_through` hands its cotangent to `soft`, and nothing to `hard`."""
    if not isinstance(sample.op, StraightThrough):
        raise Exempt("the derivative is that of the value")
    f, primals = _float_function(sample)
    bar = concrete(_direction(sample.inputs[0].shape, 5))
    hard, soft = vjp(f, *primals)[1]((bar,))
    np.testing.assert_array_equal(hard.numpy(), 0.0)
    np.testing.assert_array_equal(soft.numpy(), bar.numpy())


def _float_function(sample: Sample):
    places = [i for i, x in enumerate(sample.inputs) if is_float(x.dtype)]
    if not sample.op.differentiable:
        raise Exempt("piecewise constant")
    floats_out = [
        i for i, t in enumerate(sample.op.output_types(*sample.types)) if is_float(t.dtype)
    ]
    if not places or not floats_out:
        raise Exempt("no floating operand or result")

    def f(*xs: Array) -> tuple[Array, ...]:
        complete: list[Array] = [concrete(x.copy()) for x in sample.inputs]
        for place, x in zip(places, xs, strict=True):
            complete[place] = x
        outputs = sample.op.outputs(*complete)
        return tuple(outputs[i] for i in floats_out)

    return f, [concrete(sample.inputs[i].copy()) for i in places]


def _smooth_function(sample: Sample):
    if not sample.smooth:
        raise Exempt("not smooth at this sample")
    return _float_function(sample)


def _check_derivative(f, primals) -> None:
    tangents = [_direction(x.shape, i) for i, x in enumerate(primals)]
    _, pushforward = linearize(f, *primals)
    exact = [y.numpy() for y in pushforward(*map(concrete, tangents))]

    def along(step: float) -> list[np.ndarray]:
        return [
            y.numpy()
            for y in f(
                *[concrete(x.numpy() + step * v) for x, v in zip(primals, tangents, strict=True)]
            )
        ]

    def central(step: float) -> list[np.ndarray]:
        return [(b - a) / (2 * step) for a, b in zip(along(-step), along(step), strict=True)]

    # Richardson: the error of the central difference falls from h² to h⁴.
    coarse, fine = central(1e-3), central(5e-4)
    for value, a, b in zip(exact, coarse, fine, strict=True):
        np.testing.assert_allclose(value, (4 * b - a) / 3, rtol=1e-6, atol=1e-6)


def _check_adjoint(f, primals) -> None:
    tangents = [concrete(_direction(x.shape, i)) for i, x in enumerate(primals)]
    outputs, pushforward = linearize(f, *primals)
    cotangents = tuple(concrete(_direction(y.shape, 3 + i)) for i, y in enumerate(outputs))
    pulled = vjp(f, *primals)[1](cotangents)
    forward = _inner(pushforward(*tangents), cotangents)
    backward = _inner(tangents, pulled)
    scale = 1.0 + abs(forward) + abs(backward)
    assert abs(forward - backward) <= 1e-10 * scale, f"⟨Jv,u⟩ = {forward}, ⟨v,Jᵀu⟩ = {backward}"


def _inner(xs, ys) -> float:
    for x, y in zip(xs, ys, strict=True):
        # NumPy would broadcast, and a cotangent that was never summed would pass.
        assert x.shape == y.shape, f"{x.type} paired with {y.type}"
    return sum(float(np.sum(x.numpy() * y.numpy())) for x, y in zip(xs, ys, strict=True))


def _direction(shape, seed: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(100 + seed).uniform(-1, 1, shape))


# ---- batching -------------------------------------------------------------------------------


def batches(sample: Sample) -> None:
    """`vmap` over any subset of the operands = the stack of single applications."""
    count = len(sample.inputs)
    if count == 0:
        raise Exempt("no operands")
    subsets = [s for n in (count, 1) for s in itertools.combinations(range(count), n)]
    for subset in dict.fromkeys(subsets):
        _check_batched(sample, subset, axis=0)
    if all(x.ndim for x in sample.inputs):
        _check_batched(sample, tuple(range(count)), axis=-1)


def _check_batched(sample: Sample, subset: tuple[int, ...], axis: int) -> None:
    examples = [
        [_variant(x, k) if i in subset else x for i, x in enumerate(sample.inputs)]
        for k in range(3)
    ]
    try:
        single = [sample.op.outputs(*[concrete(x.copy()) for x in example]) for example in examples]
    except IndexError:
        raise Exempt("a varied index leaves its axis") from None
    stacked = [
        concrete(np.stack([e[i] for e in examples], axis=axis) if i in subset else x.copy())
        for i, x in enumerate(sample.inputs)
    ]
    axes = tuple(axis if i in subset else None for i in range(len(sample.inputs)))
    batched = vmap(sample.op.outputs, in_axes=axes)(*stacked)
    for i, result in enumerate(batched):
        expected = np.stack([outputs[i].numpy() for outputs in single])
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-9, atol=1e-12)


def _variant(x: np.ndarray, k: int) -> np.ndarray:
    if is_float(x.dtype):
        return (x * (1 + 0.1 * k)).astype(x.dtype)
    return np.roll(x.ravel(), k).reshape(x.shape)


LAWS = (
    types,
    body_is_reference,
    element_is_reference,
    parts_make_parts,
    terms_make_sums,
    operands_change_places,
    text_round_trip,
    costs,
    derivative,
    adjoint,
    second_order,
    finite_everywhere,
    declared,
    batches,
)
