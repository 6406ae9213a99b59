"""Data that ships with the package, and how it is split."""

from pullback.data.digits import Digits, digits
from pullback.data.split import Split, split

__all__ = ["Digits", "Split", "digits", "split"]
