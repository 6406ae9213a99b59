"""DLPack for NumPy arrays, with the element type that NumPy's own lacks: bfloat16.

A capsule holds a C structure with a pointer, a shape and an element type (kind, bits, lanes).
bfloat16 numbers travel as 16-bit integers, and only the kind in the structure is changed.
https://dmlc.github.io/dlpack/latest/c_api.html
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from pullback.ir.types import Numbers, bfloat16, int16

_INT, _BFLOAT = 0, 4
# Offset of DLDataType inside DLTensor: a pointer, the device (two int32) and the rank (int32).
_TYPE_OFFSET = ctypes.sizeof(ctypes.c_void_p) + 3 * ctypes.sizeof(ctypes.c_int32)
# DLManagedTensorVersioned: version (two uint32), context, deleter, flags (uint64), then the tensor.
_TENSOR_OFFSET = {b"dltensor": 0, b"dltensor_versioned": 24 + 2 * ctypes.sizeof(ctypes.c_uint32)}

_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes = [ctypes.py_object, ctypes.c_char_p]
_is_valid.restype = ctypes.c_int
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_pointer.restype = ctypes.c_void_p


def export(data: Numbers, **options: Any) -> Any:
    """A capsule of `data`. Consumers older than DLPack 1.0 cannot be told that it is read-only."""
    overlaps = any(step == 0 and n > 1 for step, n in zip(data.strides, data.shape, strict=True))
    if overlaps or (not data.flags.writeable and not options.get("max_version")):
        data = data.copy()  # a broadcast array is one element in many places
    if data.dtype != bfloat16:
        return data.__dlpack__(**options)
    capsule = data.view(int16).__dlpack__(**options)
    _kind(capsule).value = _BFLOAT
    return capsule


def numbers_of(producer: Any, copy: bool | None = None) -> Numbers:
    """The numbers of any object with `__dlpack__`, shared unless `copy`."""
    wrapped = _Relabelled(producer)
    data = np.from_dlpack(wrapped, copy=copy)
    return data.view(bfloat16) if wrapped.was_bfloat else data


class _Relabelled:
    """A producer whose bfloat16 numbers are announced as 16-bit integers."""

    def __init__(self, producer: Any) -> None:
        self.producer = producer
        self.was_bfloat = False

    def __dlpack__(self, **options: Any) -> Any:
        try:
            capsule = self.producer.__dlpack__(**options)
        except TypeError:  # a producer of the time before `max_version` and `copy`
            capsule = self.producer.__dlpack__()
        kind = _kind(capsule)
        if kind.value == _BFLOAT:
            kind.value = _INT
            self.was_bfloat = True
        return capsule

    def __dlpack_device__(self) -> Any:
        return self.producer.__dlpack_device__()


def _kind(capsule: Any) -> ctypes.c_uint8:
    name = next(n for n in _TENSOR_OFFSET if _is_valid(capsule, n))
    address = _pointer(capsule, name) + _TENSOR_OFFSET[name] + _TYPE_OFFSET
    return ctypes.c_uint8.from_address(address)
