"""Lanczos' iteration: eigenvalues of a symmetric map that is known by its products alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pullback._public import public
from pullback.errors import ArgumentError, NonFiniteError, ShapeError
from pullback.ir.array import Array, concrete
from pullback.transforms.tree import Tree, flatten_arrays, unflatten


@public
def lanczos(
    product: Callable[[Tree], Tree], start: Tree, steps: int = 30, k: int = 1
) -> tuple[Array, list[Tree]]:
    """The `k` largest eigenvalues, descending, of a symmetric map, and their unit eigenvectors.

    `product(v)` is the map applied to a tree like `start`, as `lambda v: pb.hvp(loss, (model,),
    (v,))`, compiled or not; `start` is any vector with a part of each eigenvector, a random one.
    With `steps` ≥ the number of parameters the values are exact; far fewer do for the ends of a
    spectrum. The iteration is a loop on the host in float64, every vector orthogonalised twice
    against all before (Paige 1972; Parlett 1998), so `steps` vectors are kept.

    Raises `ArgumentError` for senseless sizes and a start of 0, `ShapeError` for another number
    of numbers than `start` has, `NonFiniteError` when a product is not finite.

    >>> import numpy as np
    >>> values, vectors = lanczos(lambda v: v * np.array([1.0, 5.0, 2.0]), np.ones(3))
    >>> round(values.item(), 6)
    5.0
    """
    leaves, structure = flatten_arrays(start, "start")

    def vector(tree: Tree) -> np.ndarray:
        parts = [x.numpy().astype(np.float64).ravel() for x in flatten_arrays(tree, "v")[0]]
        return np.concatenate(parts) if parts else np.zeros(0)

    def tree(flat: np.ndarray) -> Tree:
        ends = np.cumsum([math.prod(x.shape) for x in leaves])[:-1]
        parts = zip(np.split(flat, ends), leaves, strict=True)
        return unflatten(structure, [_like(part, x) for part, x in parts])

    first = vector(start)
    for name, size in (("steps", steps), ("k", k)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ArgumentError(f"{name} is a positive integer, not {size!r:.60}")
    if k > min(steps, first.size):
        raise ArgumentError(f"{k} eigenvalues need {k} steps and numbers: {steps}, {first.size}")
    if not (np.isfinite(first).all() and first.any()):
        raise ArgumentError("the start is finite and not 0", hint="draw one with pb.random.normal")
    basis, matrix = _tridiagonal(lambda v: vector(product(tree(v))), first, steps)
    values, mixes = np.linalg.eigh(matrix)
    if len(values) < k:
        raise ArgumentError(
            f"the start lies in an invariant space of {len(values)} dimensions: {k} were asked for",
            hint="draw the start with pb.random.normal",
        )
    largest = [tree(mixes[:, -1 - i] @ basis) for i in range(k)]
    return concrete(np.ascontiguousarray(values[::-1][:k])), largest


def _like(part: np.ndarray, x: Array) -> Array:
    return concrete(part.reshape(x.shape).astype(x.dtype))


def _tridiagonal(
    product: Callable[[np.ndarray], np.ndarray], first: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal basis of the Krylov space, as rows, and the map in it."""
    basis = [first / np.linalg.norm(first)]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        moved = product(basis[-1])
        if moved.shape != first.shape:
            raise ShapeError(f"the product has {moved.size} numbers, the start {first.size}")
        if not np.isfinite(moved).all():
            raise NonFiniteError("a product with the map is not finite")
        diagonal.append(float(basis[-1] @ moved))
        known = np.stack(basis)
        rest = moved
        for _ in range(2):
            rest = rest - known.T @ (known @ rest)
        size = float(np.linalg.norm(rest))
        scale = float(np.linalg.norm(moved))
        if len(basis) == min(steps, first.size) or size <= 1e-12 * scale:
            return known, np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        beside.append(size)
        basis.append(rest / size)
