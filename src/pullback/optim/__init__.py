"""Optimisers: pure pairs of `init` and `update`."""

from pullback.optim.gradient import Optimizer, adam, apply_updates, sgd

__all__ = ["Optimizer", "adam", "apply_updates", "sgd"]
