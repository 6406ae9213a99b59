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
from pullback.nn.containers import ResidualBlock, Sequential
from pullback.nn.convolution import Conv1d, Conv2d, ConvTranspose2d
from pullback.nn.dropout import Dropout
from pullback.nn.embedding import Embedding, rotary
from pullback.nn.freezing import freeze, trainable, unfreeze
from pullback.nn.linear import MLP, Linear
from pullback.nn.module import Module
from pullback.nn.normalization import BatchNorm, BatchNormState, GroupNorm, LayerNorm, RMSNorm
from pullback.nn.pooling import AvgPool2d, MaxPool2d
from pullback.nn.recurrent import GRU, LSTM, RNN, LSTMState
from pullback.nn.transformer import KeyValueCache, MultiHeadAttention, TransformerBlock

__all__ = [
    "AvgPool2d",
    "BatchNorm",
    "BatchNormState",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Embedding",
    "GRU",
    "GroupNorm",
    "KeyValueCache",
    "LSTM",
    "LSTMState",
    "LayerNorm",
    "Linear",
    "MLP",
    "MaxPool2d",
    "Module",
    "MultiHeadAttention",
    "RMSNorm",
    "RNN",
    "ResidualBlock",
    "Sequential",
    "TransformerBlock",
    "attention",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "elu",
    "focal",
    "freeze",
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
    "rotary",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
    "trainable",
    "unfreeze",
]
