"""Optimisers: pure pairs of `init` and `update`, and schedules of their rates."""

from pullback.optim.adaptive import adagrad, adam, adamw, rmsprop
from pullback.optim.clipping import clip_by_global_norm, clip_by_value, global_norm
from pullback.optim.combining import accumulate, chain, ema
from pullback.optim.decay import add_decayed_weights
from pullback.optim.factored import adafactor
from pullback.optim.hyperparameters import inject_hyperparams, with_hyperparams
from pullback.optim.masking import masked
from pullback.optim.momentum import lion, sgd
from pullback.optim.newton import natural_gradient, newton_cg
from pullback.optim.optimizer import Optimizer, apply_updates
from pullback.optim.quasi_newton import lbfgs
from pullback.optim.schedules import (
    constant,
    cosine,
    exponential,
    linear,
    one_cycle,
    step,
    warmup_cosine,
)

__all__ = [
    "Optimizer",
    "accumulate",
    "adafactor",
    "adagrad",
    "adam",
    "adamw",
    "add_decayed_weights",
    "apply_updates",
    "chain",
    "clip_by_global_norm",
    "clip_by_value",
    "constant",
    "cosine",
    "ema",
    "exponential",
    "global_norm",
    "inject_hyperparams",
    "lbfgs",
    "linear",
    "lion",
    "masked",
    "natural_gradient",
    "newton_cg",
    "one_cycle",
    "rmsprop",
    "sgd",
    "step",
    "warmup_cosine",
    "with_hyperparams",
]
