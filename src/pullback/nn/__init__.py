"""Networks: modules that hold arrays, layers, initial weights, the functions layers are made of."""

from pullback.functions.activations import (
    elu,
    gelu,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    mish,
    relu,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from pullback.functions.attention import attention
from pullback.functions.losses import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    focal,
    huber,
    kl_divergence,
    mae,
    mse,
)
from pullback.functions.normalization import batch_norm, group_norm, layer_norm, rms_norm
from pullback.nn import init
from pullback.nn.linear import MLP, Linear
from pullback.nn.module import Module

__all__ = [
    "MLP",
    "Linear",
    "Module",
    "attention",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "elu",
    "focal",
    "gelu",
    "group_norm",
    "hard_tanh",
    "huber",
    "init",
    "kl_divergence",
    "layer_norm",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "mae",
    "mish",
    "mse",
    "relu",
    "rms_norm",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]
