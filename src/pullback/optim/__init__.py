"""Optimisers: pure pairs of `init` and `update`."""

from pullback.optim.gradient import Optimizer, adam, apply_updates, sgd
from pullback.optim.masking import masked

__all__ = ["Optimizer", "adam", "apply_updates", "masked", "sgd"]
