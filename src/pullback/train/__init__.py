"""Training runs and what they leave behind. Plots and reports are in `pullback.train.report`."""

from pullback.data.loader import DataLoader
from pullback.train.checkpoint import Checkpoints, Saved, load, load_notes, save
from pullback.train.fit import fit
from pullback.train.metrics import Metrics
from pullback.train.precision import LossScale
from pullback.train.result import Best, FitResult, Stopped
from pullback.train.run import Run
from pullback.train.safetensors import load_safetensors
from pullback.train.state import TrainState
from pullback.train.step import TrainStep, eval_step, train_step
from pullback.train.torch_layout import from_torch

__all__ = [
    "Best",
    "Checkpoints",
    "DataLoader",
    "FitResult",
    "LossScale",
    "Metrics",
    "Run",
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
    "train_step",
]
