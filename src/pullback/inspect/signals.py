"""The signal-propagation plot: second moments layer by layer, predicted and measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pullback._public import public
from pullback._settings import override
from pullback.compile.driver import uncompiled
from pullback.inspect.flow import distinct
from pullback.inspect.moments import Moments, Signal
from pullback.inspect.paths import require_parameters
from pullback.inspect.probe import Probe
from pullback.inspect.seeing.figures import Dots, Figure, Series
from pullback.inspect.seeing.views import View


@dataclass(frozen=True, repr=False)
class SignalPlot(View):
    """E[z²] of each layer, and E[(∂L/∂z)²], in forward order."""

    signals: tuple[Signal, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        names = distinct([x.layer.name for x in self.signals])
        forward = (
            Series("theory", "o", tuple(x.forward_predicted for x in self.signals), joined=True),
            Series("probe", "x", tuple(x.forward for x in self.signals)),
        )
        backward = (
            Series("theory", "o", tuple(x.backward_predicted for x in self.signals), joined=True),
            Series("probe", "x", tuple(x.backward for x in self.signals)),
        )
        return (
            Dots("forward: what each layer gives", names, forward, "E[z^2]"),
            Dots("backward: the gradient there", names, backward, "E[(dL/dz)^2]"),
        )


@public
def signal_propagation(loss_fn: Callable[..., Any], model: Any, *batch: Any) -> SignalPlot:
    """The second moments of all layers, forward and backward, by theory and by one real batch.

    Theory is mean field (Poole et al. 2016, Schoenholz et al. 2017): exact for infinite width, and
    for finite the mean over networks: one network of depth d and width n strays from it by a factor
    of about exp(±√(c·d/n)), with c = 5 for relu (Hanin 2018), much less for tanh and sigmoid.
    """
    f = uncompiled(loss_fn)
    require_parameters(model)
    with override(check=0):
        return SignalPlot(tuple(Moments(Probe(f, (model, *batch))).signals()))
