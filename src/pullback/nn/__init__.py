"""Networks: modules that hold arrays, layers, and how their weights begin."""

from pullback.nn import init
from pullback.nn.linear import MLP, Linear, relu
from pullback.nn.module import Module

__all__ = ["MLP", "Linear", "Module", "init", "relu"]
