"""Networks: modules that hold arrays, layers, how their weights begin, activations, losses."""

from pullback.functions.activations import (
    elu,
    gelu,
    leaky_relu,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from pullback.functions.losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    focal,
    huber,
    kl_divergence,
    mae,
    mse,
)
from pullback.nn import init
from pullback.nn.linear import MLP, Linear
from pullback.nn.module import Module

__all__ = [
    "MLP",
    "Linear",
    "Module",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "elu",
    "focal",
    "gelu",
    "huber",
    "init",
    "kl_divergence",
    "leaky_relu",
    "mae",
    "mse",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "tanh",
]
