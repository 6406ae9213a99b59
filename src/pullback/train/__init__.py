"""Training runs and what they leave behind. Plots and reports are in `pullback.train.report`."""

from pullback.data.loader import DataLoader
from pullback.train.run import Run

__all__ = ["DataLoader", "Run"]
