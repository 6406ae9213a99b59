"""Every op, every sample: what the conformance suite ranges over."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pullback  # noqa: F401  (defines the ops)
from pullback.ir.op import Op, Sample


def every_op() -> list[type[Op]]:
    """The concrete op classes of the package, by name."""
    found: dict[str, type[Op]] = {}
    pending = [Op]
    while pending:
        op = pending.pop()
        pending += op.__subclasses__()
        if (
            "name" in vars(op)
            and op.__module__.startswith("pullback.")
            and dataclasses.is_dataclass(op)
        ):
            assert found.setdefault(op.name, op) is op, f"two ops are called {op.name}"
    return [found[name] for name in sorted(found)]


def every_sample() -> Iterator[tuple[str, Sample]]:
    for op in every_op():
        for i, sample in enumerate(op.samples()):
            yield f"{op.name}-{i}", sample


def every_rejected() -> Iterator[tuple[str, Sample]]:
    for op in every_op():
        for i, sample in enumerate(op.rejected()):
            yield f"{op.name}-{i}", sample
