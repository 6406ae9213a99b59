"""Products of matrices as native code: right, bitwise the same however cut, inside their memory."""

from __future__ import annotations

import itertools
import mmap

import ml_dtypes
import numpy as np
import pytest

from native import Call, Compiled
from pullback.backend.assembly import Module, floating, splat
from pullback.backend.blocking import Machine, Tile, blocking_of
from pullback.backend.contract import write
from pullback.backend.packing import load_prefix
from pullback.backend.product import product_of, row_major
from pullback.ops.contract import Contract
from thorough import sampled

AVX512, NEON = Machine(32, 64, 1 << 20), Machine(32, 16)
PATTERNS = (
    "ij,jk,ik",
    "ij,kj,ik",
    "ji,jk,ik",
    "ji,kj,ik",
    "ij,jk,ki",
    "bij,bjk,bik",
    "bij,bkj,bik",
    "ibj,bjk,ibk",
    "bij,jk,bik",
    "bij,bik,jk",
    "bhqd,bhkd,bhqk",
    "bhqd,hde,bqe",
    "bqhd,bkhd,bhqk",
    "ij,j,i",
    "j,ij,i",
    "i,j,ij",
    "i,i,",
    "bi,bi,b",
    "ij,ij,",
    "ij,ji,",
    "ijk,kjl,li",
)
SIZES = (0, 1, 2, 3, 5, 7, 8, 13, 16, 17, 31, 33, 48, 65)


def dims(rng, letters):
    """A size for each letter, edges likely, no more than 2·10⁶ products."""
    while True:
        sizes = {c: int(rng.choice(SIZES)) for c in letters}
        if rng.random() < 0.15:
            sizes[str(rng.choice(list(letters)))] = int(rng.integers(300, 1200))
        if np.prod(list(sizes.values()), dtype=float) <= 2e6:
            return sizes


def strided(rng, array, dense):
    """The same numbers as a view of a larger array, axes in another order."""
    if dense or not array.ndim:
        return array.copy(order="C")
    order = rng.permutation(array.ndim)
    pads = rng.integers(0, 3, array.ndim)
    large = np.full([n + p for n, p in zip(np.array(array.shape)[order], pads, strict=True)], 0)
    large = large.astype(array.dtype)
    view = large[tuple(slice(0, n) for n in np.array(array.shape)[order])]
    view = view.transpose(np.argsort(order))
    view[...] = array
    return view


def steps_of(array):
    return tuple(s // array.itemsize for s in array.strides)


def prepare(pattern, left, right, out, **options):
    """A compiled kernel with its operands."""
    op = Contract(*pattern.split(","))
    steps = tuple(map(steps_of, (left, right, out)))
    product = product_of(op, left.dtype, (left.shape, right.shape), steps)
    module = Module()
    cpu, features = options.pop("cpu", ""), options.pop("features", "")
    kernel = write(product, options.pop("machine", Machine()), module, **options)
    operands = (right, left) if product.swapped else (left, right)
    return Call(Compiled(module, cpu, features)["product"], kernel, [*operands, out]), product


def reference(pattern, left, right):
    a, b, c = pattern.split(",")
    kind = object if left.dtype.kind in "iu" else np.float64
    if kind is object:
        return np.einsum(f"{a},{b}->{c}", left, right)
    left, right = left.astype(kind), right.astype(kind)
    bound = np.einsum(f"{a},{b}->{c}", abs(left), abs(right), optimize=True)
    return np.einsum(f"{a},{b}->{c}", left, right, optimize=True), bound


def assert_close(pattern, left, right, out):
    if left.dtype.kind in "iu":
        np.testing.assert_array_equal(out, reference(pattern, left, right))
        return
    exact, bound = reference(pattern, left, right)
    eps = float(ml_dtypes.finfo(out.dtype).eps)
    tiny = float(ml_dtypes.finfo(out.dtype).smallest_subnormal)
    wide = np.finfo(np.float64 if out.dtype == np.float64 else np.float32).eps
    depth = left.size * right.size / max(1, out.size)
    error = abs(out.astype(np.float64) - exact)
    rounding = eps * abs(exact) if out.itemsize == 2 else 0
    assert (error <= wide * bound * (np.sqrt(depth) + 2) + rounding + tiny).all()


@pytest.mark.parametrize("seed", sampled(range(40), 4))
def test_random_products(seed):
    rng = np.random.default_rng(seed)
    for _ in range(8):
        pattern = str(rng.choice(PATTERNS))
        a, b, c = pattern.split(",")
        sizes = dims(rng, sorted(set(a + b)))
        dtype = rng.choice(["f4", "f4", "f4", "f8", "f2", "bf", "i4", "i8", "u1"])
        dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bf" else dtype)
        left, right = (
            strided(
                rng,
                rng.integers(-9, 9, [sizes[x] for x in letters]).astype(dtype)
                if dtype.kind in "iu"
                else rng.standard_normal([sizes[x] for x in letters]).astype(dtype),
                rng.random() < 0.5,
            )
            for letters in (a, b)
        )
        empty = np.zeros([sizes[x] for x in c], dtype)
        out = strided(rng, empty, rng.random() < 0.7)
        before = None
        for machine in (Machine(), AVX512, NEON):
            for ways in (1, 3):
                out[...] = 99
                around = out.base if out.base is not None else out
                call, _ = prepare(pattern, left, right, out, machine=machine)
                if call.kernel.iterations:
                    call.run(ways)
                else:
                    assert out.size == 0
                result = np.asarray(around).tobytes()
                assert before is None or result == before, (pattern, sizes, dtype, machine, ways)
                before = result
        assert_close(pattern, left, right, out)


CUT = itertools.product(
    [(37, 1500, 50), (130, 512, 70), (1, 2050, 300), (5, 700, 999)],
    ["ij,jk,ik", "ij,kj,ik", "ji,jk,ik", "ij,jk,ki"],
)


@pytest.mark.parametrize("case", sampled(CUT, 3))
def test_the_same_bits_however_it_is_cut(case):
    sizes, pattern = case
    rng = np.random.default_rng(0)
    sizes = dict(zip("ijk", sizes, strict=True))
    a, b, c = pattern.split(",")
    left, right = (
        rng.standard_normal([sizes[x] for x in letters]).astype(np.float32) for letters in (a, b)
    )
    results = []
    for options in (
        {},
        {"cpu": "x86-64-v3"},
        {"tile": Tile(4, 1)},
        {"tile": Tile(3, 2)},
        {"tile": Tile(1, 1)},
        {"machine": AVX512},
        {"machine": Machine(cache=64 * 1024)},
    ):
        for ways in (1, 2, 4, 8):
            out = np.full([sizes[x] for x in c], np.nan, np.float32)
            call, _ = prepare(pattern, left, right, out, **dict(options))
            call.run(ways)
            results.append(out.tobytes())
            assert_close(pattern, left, right, out)
    assert len(set(results)) == 1


@pytest.mark.parametrize(
    ("pattern", "sizes", "ways"),
    [
        ("ij,jk,ik", (64, 260, 40), {"is_far"}),
        ("ij,jk,ik", (37, 1024, 300), {"group"}),
        ("ji,jk,ik", (64, 300, 600), {"group", "in_strips"}),
    ],
)
def test_a_large_product_walks_through_long_lines(pattern, sizes, ways):
    """Panels of B packed together, A copied in strips or asked for ahead: the bits of others."""
    rng, small = np.random.default_rng(0), Machine(cache=32 * 1024)
    left, right, out = (
        at_the_end(rng.standard_normal([sizes["ijk".index(x)] for x in letters]).astype("f4"))
        for letters in pattern.split(",")
    )
    call, product = prepare(pattern, left, right, out, machine=small)
    cut = blocking_of(product, small)
    taken = {"group": cut.group > 1, "in_strips": cut.in_strips, "is_far": cut.is_far}
    assert ways == {way for way, is_taken in taken.items() if is_taken}
    call.run(3)
    assert_close(pattern, left, right, out)
    plain = np.empty_like(out)
    prepare(pattern, left, right, plain, tile=Tile(4, 2))[0].run()
    assert out.tobytes() == plain.tobytes()


def test_every_element_adds_in_the_order_of_k():
    """The law itself, by hand: start at 0, one product a step, rounded once."""
    rng = np.random.default_rng(3)
    left = rng.standard_normal((7, 1030)).astype(np.float32)
    right = rng.standard_normal((1030, 19)).astype(np.float32)
    out = np.empty((7, 19), np.float32)
    prepare("ij,jk,ik", left, right, out)[0].run()
    total = np.zeros((7, 19), np.longdouble)
    for k in range(1030):
        exact = np.multiply.outer(left[:, k].astype(np.longdouble), right[k].astype(np.longdouble))
        total = (exact + total).astype(np.float32).astype(np.longdouble)
    assert (out == total.astype(np.float32)).mean() == 1.0


def test_a_product_that_sums_nothing_keeps_negative_zero():
    left, right = np.array([0.0, 1.0], np.float32), np.array([-1.0, -0.0, 2.0], np.float32)
    out = np.empty((2, 3), np.float32)
    prepare("i,j,ij", left, right, out)[0].run()
    assert out.tobytes() == np.multiply.outer(left, right).tobytes()


def test_nothing_to_add_gives_zeros():
    out = np.full((5, 20), 7.0, np.float32)
    prepare("ij,jk,ik", np.ones((5, 0), np.float32), np.ones((0, 20), np.float32), out)[0].run()
    assert (out == 0).all()


@pytest.mark.parametrize(
    "shape", [(13, 50, 37), (64, 20, 10), (1, 900, 70), (70, 900, 1), (40, 1024, 40)]
)
@pytest.mark.parametrize("pattern", ["ij,jk,ik", "ij,kj,ik", "ji,jk,ik"])
def test_bias_and_relu_in_the_epilogue(shape, pattern):
    sizes = dict(zip("ijk", shape, strict=True))
    rng = np.random.default_rng(1)
    left, right = (
        rng.standard_normal([sizes[x] for x in letters]).astype(np.float32)
        for letters in pattern.split(",")[:2]
    )
    bias = rng.standard_normal(sizes["k"]).astype(np.float32)
    plain = np.empty((sizes["i"], sizes["k"]), np.float32)
    _, product = prepare(pattern, left, right, plain)

    def epilogue(f, value, place):
        if product.swapped:  # vectors run along the rows: one bias for all lanes
            start = f.at(place.operands[1], "float", place.row)
            added = f.spread(f.load("float", start, 4), place.lanes)
        else:
            start = f.at(place.operands[1], "float", place.column)
            added = load_prefix(f, "float", place.lanes, place.count, start)
        total = f.binary("fadd", value, added)
        return f.intrinsic("maximum", total, splat(floating(0.0, "float"), place.lanes))

    prepare(pattern, left, right, plain)[0].run()
    fused = np.empty_like(plain)
    call, _ = prepare(pattern, left, right, fused, epilogue=epilogue, results=2)
    call = Call(call.function, call.kernel, [*call.arrays, bias])
    call.run(2)
    np.testing.assert_array_equal(fused, np.maximum(plain + bias, 0))


@pytest.mark.parametrize("pattern", ["ij,jk,ik", "ij,kj,ik", "ji,jk,ik", "ij,jk,ki"])
@pytest.mark.parametrize("sizes", [(37, 150, 50), (20, 900, 17), (5, 30, 64), (1, 70, 9)])
def test_a_product_in_parts(pattern, sizes):
    """A second product that goes on from the sums of a first one: the bits of a single one."""
    i, j, k = sizes
    rng = np.random.default_rng(3)
    shapes = [tuple({"i": i, "j": j, "k": k}[x] for x in part) for part in pattern.split(",")]
    left, right = (rng.standard_normal(shape).astype(np.float32) for shape in shapes[:2])
    whole, parts = (np.empty(shapes[2], np.float32) for _ in range(2))
    prepare(pattern, left, right, whole)[0].run()
    axes = [part.index("j") for part in pattern.split(",")[:2]]
    for first, last in ((0, j // 3), (j // 3, j)):
        pieces = (
            np.take(x, range(first, last), axis).copy()
            for x, axis in zip((left, right), axes, strict=True)
        )
        call, _ = prepare(pattern, *pieces, parts, adds="stored" if first else None)
        call.run(2)
    np.testing.assert_array_equal(parts, whole)


# ---- memory ---------------------------------------------------------------------------------


def at_the_end(array, pages=[]):  # noqa: B006  (the pages live as long as the tests)
    """A copy whose last byte is the last one of a page, before a page that may not be touched."""
    import ctypes

    size = -(-max(array.nbytes, 1) // 4096) * 4096
    area = mmap.mmap(-1, size + 4096)
    pages.append(area)
    address = ctypes.addressof(ctypes.c_char.from_buffer(area))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert protect(address + size, 4096, 0) == 0
    raw = np.frombuffer((ctypes.c_char * size).from_address(address), np.uint8)
    view = raw[size - array.nbytes :].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


@pytest.mark.parametrize(
    "pattern", ["ij,jk,ik", "ij,kj,ik", "ji,jk,ik", "ij,jk,ki", "i,i,", "ij,j,i"]
)
@pytest.mark.parametrize("sizes", [(5, 6, 7), (13, 17, 33), (6, 8, 16), (40, 9, 1), (1, 500, 21)])
@pytest.mark.parametrize("dtype", ["f4", "f8", "bf"])
def test_no_byte_beyond_an_operand(pattern, sizes, dtype):
    dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bf" else dtype)
    a, b, c = pattern.split(",")
    sizes = dict(zip("ijk", sizes, strict=True))
    left, right, out = (
        at_the_end(np.ones([sizes[x] for x in letters], dtype)) for letters in (a, b, c)
    )
    for machine in (Machine(), AVX512):
        prepare(pattern, left, right, out, machine=machine)[0].run(2)
        assert (out == out.flat[0]).all()


def test_threads_have_iterations_to_share():
    for shape in ((128, 784, 512), (64, 512, 10), (1024, 1024, 1), (512, 64, 16)):
        m, k, n = shape
        product = product_of(Contract("ij", "jk", "ik"), np.dtype("f4"), ((m, k), (k, n)))
        assert blocking_of(product, Machine()).iterations >= 4


def test_axes_join_where_one_step_walks_through_them():
    op = Contract("bqhd", "hde", "bqe")
    product = product_of(op, np.dtype("f4"), ((2, 3, 4, 5), (4, 5, 6)))
    assert (product.row.size, product.depth, product.column.size) == (6, 20, 6)
    assert (product.batch, len(product.inner)) == ((), 1)
    assert product.row.letters == "bq"
    assert row_major((2, 3, 4)) == (12, 4, 1)
