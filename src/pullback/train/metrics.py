"""`Metrics`: what a training step tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pullback.functions.manipulation import unstack
from pullback.ir.array import Array
from pullback.nn.module import Module


@dataclass(frozen=True)
class Names:
    """The path of each parameter that is trained."""

    paths: tuple[str, ...]


class Metrics(Module):
    """The loss of a step, the sizes of its gradients and updates, and whether it was skipped.

    All of it are arrays that the step's program computed; `float(metrics.loss)` gives a number.
    """

    loss: Array
    """float32[], of the batch, with the parameters before the step; not scaled."""
    grad_norm: Array
    """float32[]: the Euclidean norm of all gradients, before clipping."""
    skipped: Array
    """bool[]: the loss or a gradient was not finite, and nothing but the scale was changed."""
    scale: Array
    """float32[]: what the loss was multiplied by; 1 where it is not scaled."""
    sizes: Array
    """float32[4, parameters], in the order of `names`: the norm of each gradient; ‖update‖ /
    ‖updated parameter‖, 0 in a step that was skipped; the share of the gradient's elements that are
    0; how many of them are not finite."""
    aux: Any
    """What the loss function returned besides."""
    names: Names

    @property
    def norms(self) -> Array:
        """float32[parameters]: the norm of each gradient."""
        return self.sizes[0]

    @property
    def ratios(self) -> Array:
        """float32[parameters]: ‖update‖ / ‖updated parameter‖; 0 in a step that was skipped."""
        return self.sizes[1]

    @property
    def grad_norms(self) -> dict[str, Array]:
        """The norm of each gradient by the path of its parameter, as in checkpoints."""
        return self._by_path(0)

    @property
    def update_ratios(self) -> dict[str, Array]:
        """‖update‖ / ‖parameter‖ by path: about 1e-3 where the learning rate fits."""
        return self._by_path(1)

    @property
    def zero_shares(self) -> dict[str, Array]:
        """The share of the elements of each gradient that are exactly 0, by path."""
        return self._by_path(2)

    @property
    def nonfinite(self) -> dict[str, Array]:
        """How many elements of each gradient are NaN or infinite, by path."""
        return self._by_path(3)

    def _by_path(self, row: int) -> dict[str, Array]:
        return dict(zip(self.names.paths, unstack(self.sizes[row]), strict=True))
