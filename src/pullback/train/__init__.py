"""Training: the step, the loop around it, checkpoints.

What `pullback train` does besides is in `pullback.train.session` and the files it names.
"""

from pullback.data.loader import DataLoader
from pullback.train.checkpoint import Checkpoints, Saved, load, load_notes, save
from pullback.train.fit import fit
from pullback.train.metrics import Metrics
from pullback.train.precision import LossScale
from pullback.train.result import Best, FitResult, Stopped
from pullback.train.safetensors import load_safetensors, save_safetensors
from pullback.train.state import TrainState
from pullback.train.step import TrainStep, eval_step, train_step
from pullback.train.torch_layout import from_torch, to_torch

__all__ = [
    "Best",
    "Checkpoints",
    "DataLoader",
    "FitResult",
    "LossScale",
    "Metrics",
    "Saved",
    "Stopped",
    "TrainState",
    "TrainStep",
    "eval_step",
    "fit",
    "from_torch",
    "load",
    "load_notes",
    "load_safetensors",
    "save",
    "save_safetensors",
    "to_torch",
    "train_step",
]
