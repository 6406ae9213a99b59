"""The handwritten digits of the UCI repository, shipped in the package."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from pullback.ir.types import Numbers, float32, int64

CLASSES = 10
LARGEST = 16
"""Each pixel counts the ink in a block of 4 × 4 points."""


@dataclass(frozen=True, eq=False)
class Digits:
    """`images` float32[n,8,8] in [0, 1] and `labels` int64[n] in 0 … 9, NumPy arrays."""

    images: Numbers
    labels: Numbers

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Numbers | slice) -> Digits:
        """The examples at these positions."""
        return Digits(self.images[chosen], self.labels[chosen])


def digits() -> Digits:
    """1,797 images of handwritten digits: the test set of the UCI optical recognition data.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998, https://doi.org/10.24432/C50P49, licence CC BY 4.0.

    >>> data = digits()
    >>> data.images.shape, int(data.labels[0])
    ((1797, 8, 8), 0)
    """
    # Not importlib.resources: it costs `import pullback` 15 ms.
    file = os.path.join(os.path.dirname(__file__), "digits.npz")
    with np.load(file, allow_pickle=False) as stored:
        images = stored["images"].astype(float32) / np.float32(LARGEST)
        return Digits(images, stored["labels"].astype(int64))
