"""Which kernels find out that indices lie in range, and which could only find it out again."""

from __future__ import annotations

from collections.abc import Sequence

from pullback.ir.strided import Strided
from pullback.ops.index import Indexed
from pullback.schedule.kernels import Call, Element, Kernel, Loops, Operand

Bound = tuple[int, Strided, int, bool]
"""All integers in a buffer, laid out so, index an axis of so many places; from its end too."""


def cannot_fail(kernels: Sequence[Kernel]) -> set[int]:
    """The kernels all of whose indices one before them has found in range.

    The transpose of a gather writes at the places that were read in the forward pass.
    """
    known: set[Bound] = set()
    safe: set[int] = set()
    for k, kernel in enumerate(kernels):
        wanted = _wanted(kernel)
        if wanted and wanted <= known:
            safe.add(k)
        known |= _found(kernel)
    return safe


def _wanted(kernel: Kernel) -> set[Bound]:
    """What must hold for a kernel that indexes not to fail; nothing for one that may do more."""
    match kernel:
        case Call(op=Indexed() as op):
            sizes = [kernel.outputs[0].layout.shape[axis] for axis in op.axes]
            return _bounds(op, kernel.inputs[-len(sizes) :], sizes)
        case Loops():
            steps = [step for step in kernel.steps if isinstance(step, Element)]
            if all(isinstance(step.op, Indexed) for step in steps):
                return {bound for step in steps for bound in _bounds_of(step)}
    return set()


def _found(kernel: Kernel) -> set[Bound]:
    """What holds once a kernel has run and not failed."""
    match kernel:
        case Call():
            return _wanted(kernel)
        case Loops():
            steps = [step for step in kernel.steps if isinstance(step, Element)]
            domain = (*kernel.outer, *kernel.inner)
            whole = [step for step in steps if _reads_all(step, domain)]
            return {bound for step in whole for bound in _bounds_of(step)}
    return set()


def _bounds_of(step: Element) -> set[Bound]:
    if not isinstance(step.op, Indexed):
        return set()
    sizes = [step.types[0].shape[axis] for axis in step.op.axes]
    indices = [x for x in step.operands[1:] if isinstance(x, Operand)]
    return _bounds(step.op, indices, sizes)


def _bounds(op: Indexed, indices: Sequence[Operand], sizes: Sequence[int]) -> set[Bound]:
    pairs = zip(indices, sizes, strict=False)
    return {(x.buffer, x.layout, size, op.from_end) for x, size in pairs}


def _reads_all(step: Element, domain: Sequence[int]) -> bool:
    """Whether each index is read: each of its axes is walked by an axis of the domain alone."""
    if not isinstance(step.op, Indexed):
        return False
    walked = []
    for size, walk in zip(step.types[1].shape, step.at, strict=False):
        strides = (*walk.outer, *walk.inner)
        axes = [axis for axis, stride in enumerate(strides) if stride]
        if size == 1 and not axes and not walk.offset:
            continue
        if walk.offset or [strides[axis] for axis in axes] != [1] or domain[axes[0]] != size:
            return False
        walked += axes
    return len(set(walked)) == len(walked)
