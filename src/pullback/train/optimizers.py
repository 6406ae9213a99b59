"""The section `optimizer` of a run: an optimiser of `pb.optim` with its numbers, and a schedule."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pullback.errors import ArgumentError
from pullback.ops.operators import lift
from pullback.optim import (
    Optimizer,
    adafactor,
    adagrad,
    adam,
    adamw,
    cosine,
    lbfgs,
    lion,
    natural_gradient,
    newton_cg,
    rmsprop,
    sgd,
    warmup_cosine,
)
from pullback.train.config import one_of, require_known
from pullback.transforms.tree import map_leaves

OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    each.__name__: each for each in (adam, adamw, sgd, rmsprop, adagrad, lion, adafactor)
}
OF_THE_LOSS = (lbfgs, newton_cg, natural_gradient)
"""Those that are given the loss itself, of all data: they make no step from a batch alone."""
SCHEDULES = ("constant", "cosine")
_OWN = ("name", "schedule", "warmup", "end_lr", "decay_only_matrices")


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimiser by name, its numbers, and how its rate changes: the keys of the section.

    `cosine` rises in `warmup` steps (below 1: in this share of the run) from 0 to `lr` and falls
    to `end_lr` at the last step.
    `decay_only_matrices` leaves biases and the weights of norms without decay.
    """

    name: str = "adam"
    lr: float = 1e-3
    schedule: str = "constant"
    warmup: float = 0
    end_lr: float = 0.0
    decay_only_matrices: bool = False
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """What else the function of `pb.optim` takes: momentum, b1, weight_decay, …"""

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> OptimizerChoice:
        """The choice of a section; `ArgumentError` for a key that this optimiser has not."""
        if any(table.get("name") == each.__name__ for each in OF_THE_LOSS):
            raise ArgumentError(
                f"optimizer {table['name']} looks at one loss again and again, and a run has "
                "another batch in each step",
                hint=f"from Python, pb.optim.{table['name']} is given the loss of all data; here "
                f"there is {', '.join(OPTIMIZERS)}",
            )
        name = one_of("optimizer.name", table.get("name", cls.name), tuple(OPTIMIZERS))
        taken = [key for key in inspect.signature(OPTIMIZERS[name]).parameters if key != "mask"]
        require_known(table, (*_OWN, *taken), f"optimizer {name}")
        own = {key: table[key] for key in (*_OWN, "lr") if key in table}
        for key in ("lr", "end_lr", "warmup"):
            if key in own and (isinstance(own[key], bool) or not isinstance(own[key], float | int)):
                raise ArgumentError(f"optimizer.{key} is a number, not {own[key]!r:.60}")
        flag = own.get("decay_only_matrices", False)
        if not isinstance(flag, bool):
            raise ArgumentError(f"optimizer.decay_only_matrices is true or false, not {flag!r:.60}")
        numbers = {key: x for key, x in table.items() if key not in own}
        for key, value in numbers.items():
            default = inspect.signature(OPTIMIZERS[name]).parameters[key].default
            if isinstance(default, bool) != isinstance(value, bool):
                what = "true or false" if isinstance(default, bool) else "a number"
                raise ArgumentError(f"optimizer.{key} is {what}, not {value!r:.60}")
        choice = cls(**own, numbers=numbers)
        choice._check()
        return choice

    def _check(self) -> None:
        one_of("optimizer.schedule", self.schedule, SCHEDULES)
        if not (self.warmup >= 0 and (self.warmup < 1 or self.warmup == int(self.warmup))):
            raise ArgumentError(
                f"optimizer.warmup is a number of steps, or a share below 1, not {self.warmup}"
            )
        if self.schedule == "constant" and (self.warmup or self.end_lr):
            key = "warmup" if self.warmup else "end_lr"
            raise ArgumentError(
                f"optimizer.{key} belongs to a schedule, and this one is constant",
                hint='schedule = "cosine"',
            )
        if self.decay_only_matrices and "mask" not in self._parameters():
            raise ArgumentError(f"optimizer {self.name} decays every weight alike")
        self._made(self.lr)  # which refuses senseless numbers

    def build(self, steps: int) -> Optimizer:
        """The optimiser of a run of so many steps."""
        if self.schedule == "constant":
            return self._made(self.lr)
        rising = int(self.warmup if self.warmup >= 1 else self.warmup * steps)
        if not rising:
            return self._made(cosine(self.lr, steps, self.end_lr))
        if rising >= steps:
            raise ArgumentError(
                f"optimizer.warmup = {self.warmup} is not shorter than the run, {steps} steps"
            )
        return self._made(warmup_cosine(self.lr, rising, steps, end=self.end_lr))

    def _made(self, lr: Any) -> Optimizer:
        mask: Any = {"mask": _matrices} if self.decay_only_matrices else {}
        return OPTIMIZERS[self.name](lr=lr, **self.numbers, **mask)

    def _parameters(self) -> Mapping[str, Any]:
        return inspect.signature(OPTIMIZERS[self.name]).parameters

    def plain(self) -> dict[str, Any]:
        """The section."""
        own = {key: getattr(self, key) for key in ("name", "lr", *_OWN[1:])}
        return {key: x for key, x in own.items() if x or key == "lr"} | dict(self.numbers)


def _matrices(params: Any) -> Any:
    return map_leaves(lambda x: lift(x).ndim >= 2, params)
