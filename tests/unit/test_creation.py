"""Arrays from nothing, from lists, from other libraries; what the namespace says of itself."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import pullback as pb
from pullback.errors import DTypeError, PullbackError, ShapeError, StructureError

# ---- asarray --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("obj", "dtype"),
    [
        (1.5, pb.float32),
        (3, pb.int64),
        (True, pb.bool),
        ([1, 2.5], pb.float32),
        ([[1, 2], [3, 4]], pb.int64),
        ([], pb.float32),
        ([np.float64(1), 2.0], pb.float64),
        (np.float64(1), pb.float64),
        (np.zeros(2, np.float16), pb.float16),
        (np.zeros(2, ml_dtypes.bfloat16), pb.bfloat16),
        (np.zeros(2, ">i4"), pb.int32),
        (bytearray(b"ab"), pb.uint8),
        ([np.zeros(2, np.int8), np.ones(2, np.int8)], pb.int8),
    ],
    ids=lambda x: type(x).__name__ if " at 0x" in str(x) else str(x),
)
def test_the_element_type_is_kept_and_python_numbers_have_defaults(obj, dtype):
    assert pb.asarray(obj).dtype == dtype


def test_lists_of_arrays_are_stacked_and_differentiable():
    x = pb.asarray([pb.asarray(1.0, dtype=pb.float64), 2, [3.0][0]])
    assert (x.dtype, x.tolist()) == (pb.float64, [1.0, 2.0, 3.0])
    assert pb.grad(lambda v: pb.asarray([[v, v * v], [1.0, v]]).sum())(3.0).item() == 8.0


def test_exact_literals_when_a_dtype_is_given():
    assert pb.asarray(0.1, dtype=pb.float64).item() == 0.1
    assert pb.asarray([0.1], dtype=pb.float64).tolist() == [0.1]
    assert pb.asarray([1.9, -1.9], dtype=pb.int32).tolist() == [1, -1]


def test_numpy_arrays_are_copied_unless_copy_is_false():
    source = np.arange(3.0)
    copied, shared = pb.asarray(source), pb.asarray(source, copy=False)
    source[0] = 7
    assert copied.tolist() == [0, 1, 2]
    assert shared.tolist() == [7, 1, 2]
    assert not np.asarray(shared).flags.writeable
    assert source.flags.writeable
    for impossible in (
        lambda: pb.asarray([1], copy=False),
        lambda: pb.asarray(source, dtype=pb.int8, copy=False),
        lambda: pb.asarray(np.zeros(2, ">f4"), copy=False),
    ):
        with pytest.raises(ValueError, match="copy=False"):
            impossible()


@pytest.mark.parametrize(
    ("obj", "error"),
    [
        ([[1], [1, 2]], ShapeError),
        ([pb.asarray([1]), pb.asarray([1, 2])], ShapeError),
        (["a"], DTypeError),
        ([1j], DTypeError),
        (np.zeros(2, complex), DTypeError),
        ({1}, StructureError),
        (None, StructureError),
        ([2**70], DTypeError),
    ],
    ids=lambda x: type(x).__name__ if " at 0x" in str(x) else str(x),
)
def test_what_is_no_array_is_refused(obj, error):
    with pytest.raises(error) as caught:
        pb.asarray(obj)
    assert "test_creation.py" in str(caught.value)


# ---- NumPy and DLPack -----------------------------------------------------------------------


def test_numpy_reads_without_a_copy_and_cannot_write():
    x = pb.asarray([1.0, 2.0])
    view = np.asarray(x)
    assert np.shares_memory(view, x.numpy())
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 5.0
    assert np.asarray(x, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize(
    "dtype",
    [pb.float32, pb.int8, pb.bool],
    ids=lambda x: type(x).__name__ if " at 0x" in str(x) else str(x),
)
def test_dlpack_to_and_from_numpy(dtype):
    x = pb.asarray([1, 0, 3], dtype=dtype)
    there = np.from_dlpack(x)
    assert np.shares_memory(there, x.numpy())
    back = pb.from_dlpack(np.array([1, 0, 3], dtype))
    np.testing.assert_array_equal(back.numpy(), there)
    assert back.dtype == dtype


def test_dlpack_shares_memory_unless_asked_to_copy():
    source = np.arange(3.0)
    shared, copied = pb.from_dlpack(source), pb.from_dlpack(source, copy=True)
    source[0] = 9
    assert shared.tolist() == [9, 1, 2]
    assert copied.tolist() == [0, 1, 2]
    assert source.flags.writeable


def test_bfloat16_travels_to_itself():
    x = pb.asarray([1.5, -2.0], dtype=pb.bfloat16)

    class Exporter:
        def __dlpack__(self, **options):
            return x.__dlpack__(**options)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    there = pb.from_dlpack(Exporter())
    assert (there.dtype, there.tolist()) == (pb.bfloat16, [1.5, -2.0])


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "float16", "int64", "bool"])
def test_dlpack_to_and_from_torch(name):
    torch = pytest.importorskip("torch")
    x = pb.asarray([[1, 0], [3, 2]], dtype=getattr(pb, name))
    tensor = torch.from_dlpack(x)
    assert tensor.dtype == getattr(torch, name)
    assert tensor.tolist() == x.tolist()
    assert tensor.data_ptr() == np.asarray(x).ctypes.data
    for back in (pb.from_dlpack(tensor), pb.asarray(tensor)):
        assert back.dtype == x.dtype
        assert back.tolist() == x.tolist()


def test_a_traced_value_is_not_exported():
    with pytest.raises(PullbackError, match="traced"):
        pb.grad(lambda x: np.from_dlpack(x).sum())(1.0)


# ---- creation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [(5,), (2, 7), (0, 10, 3), (5, 0, -2), (0.0, 1.0, 0.25), (3, 1), (1, 2.1, 0.1)]
)
def test_arange(arguments):
    ours, theirs = pb.arange(*arguments), np.arange(*arguments)
    assert ours.dtype == (pb.int64 if theirs.dtype.kind == "i" else pb.float32)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-7)


def test_arange_keeps_large_integers():
    assert pb.arange(2**63, 2**63 + 2, dtype=pb.uint64).tolist() == [2**63, 2**63 + 1]
    assert pb.arange(0, 3, dtype=pb.bfloat16).tolist() == [0, 1, 2]


def test_linspace():
    assert pb.linspace(0, 10, 11).tolist() == list(range(11))
    assert pb.linspace(0, 1, 4, endpoint=False).tolist() == [0, 0.25, 0.5, 0.75]
    assert (pb.linspace(2, 3, 1).tolist(), pb.linspace(2, 3, 0).shape) == ([2], (0,))
    np.testing.assert_array_equal(
        pb.linspace(0.1, 0.7, 7, dtype=pb.float64).numpy(), np.linspace(0.1, 0.7, 7)
    )
    assert pb.grad(lambda end: pb.linspace(0.0, end, 5).sum())(1.0).item() == 2.5


def test_filled():
    assert pb.zeros(3).tolist() == [0, 0, 0]
    assert (pb.ones((2, 0)).shape, pb.empty(()).shape) == ((2, 0), ())
    assert (pb.full(2, 3).dtype, pb.full(2, 3.5).dtype, pb.full(2, True).dtype) == (
        pb.int64,
        pb.float32,
        pb.bool,
    )
    assert pb.full_like(pb.zeros(2), 7).tolist() == [7, 7]
    assert pb.zeros_like(np.ones(2, np.int8)).dtype == pb.int8
    assert pb.grad(lambda v: pb.full((2, 3), v).sum())(1.0).item() == 6.0


@pytest.mark.parametrize(("shape", "k"), [((3,), 0), ((2, 4), 1), ((4, 2), -2)])
def test_eye(shape, k):
    np.testing.assert_array_equal(pb.eye(*shape, k=k).numpy(), np.eye(*shape, k=k))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: pb.zeros((2, -1)), ShapeError),
        (lambda: pb.zeros(2.5), ShapeError),
        (lambda: pb.ones(2, device="gpu"), ShapeError),
        (lambda: pb.ones(2, dtype="complex64"), DTypeError),
        (lambda: pb.full(2, np.ones(2)), ShapeError),
        (lambda: pb.arange(0, 1, 0), ShapeError),
        (lambda: pb.linspace(0, 1, -1), ShapeError),
        (lambda: pb.tril(np.ones(1)), ShapeError),
        (lambda: pb.finfo(pb.int8), DTypeError),
        (lambda: pb.iinfo(pb.float32), DTypeError),
        (lambda: pb.isdtype(pb.int8, "small"), DTypeError),
        (pb.result_type, DTypeError),
        (lambda: pb.result_type(pb.uint64, pb.int64), DTypeError),
    ],
)
def test_bad_input(call, error):
    with pytest.raises(error):
        call()


# ---- element types --------------------------------------------------------------------------


def test_element_types():
    assert pb.finfo(pb.float32).eps == np.finfo(np.float32).eps
    assert (pb.finfo(pb.bfloat16).bits, pb.finfo(pb.zeros(1)).bits) == (16, 32)
    assert pb.iinfo(pb.uint8).max == 255
    assert pb.isdtype(pb.int8, ("bool", "signed integer"))
    assert not pb.isdtype(pb.bfloat16, "integral")
    assert pb.result_type(pb.int8, 1.0) == pb.float32
    assert pb.result_type(pb.float64, 1.0, pb.zeros(1)) == pb.float64
    assert pb.result_type(pb.bfloat16, pb.float16) == pb.float32
    assert pb.result_type(1, True) == pb.int64
    assert pb.can_cast(pb.int8, pb.int64)
    assert not pb.can_cast(pb.float64, pb.float32)
    assert not pb.can_cast(pb.uint64, pb.int64)
    assert pb.astype(np.array([1.5, np.nan, 1e30]), pb.int32).tolist() == [1, 0, 2**31 - 1]


def test_the_namespace_describes_itself():
    info = pb.__array_namespace_info__()
    assert info.default_device() in info.devices()
    assert info.default_dtypes()["real floating"] == pb.zeros(1).dtype
    assert info.default_dtypes()["integral"] == pb.arange(1).dtype
    assert info.dtypes(kind="bool") == {"bool": pb.bool}
    assert info.capabilities()["boolean indexing"]
    assert pb.zeros(1).__array_namespace__(api_version="2024.12") is pb
    with pytest.raises(ValueError, match=r"2024\.12"):
        pb.zeros(1).__array_namespace__(api_version="2030.12")


def test_a_broadcast_array_is_exported_as_elements_of_their_own():
    ones = np.from_dlpack(pb.ones((3, 2)))
    assert 0 not in ones.strides


def test_what_knows_no_dlpack_is_refused():
    with pytest.raises(StructureError, match="int has no __dlpack__"):
        pb.from_dlpack(3)
