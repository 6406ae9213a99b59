"""The fixture `healthy` of pytest: a model, its loss and a batch pass preflight, or a test fails.

It is a module of its own, so that pytest, which loads the plugins of every installed package, does
not import pullback for tests that have nothing to do with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pullback.inspect import Report


@pytest.fixture
def healthy() -> Callable[..., Report]:
    """`healthy(model, loss_fn, batch, **options)` fails the test with what `pb.preflight` finds.

    Errors and warnings fail, with the report as the message. The options are those of
    `pb.preflight`; `intended=("SIG01",)` says what is meant. Returns the report.
    """
    from pullback import preflight  # noqa: PLC0415  (nothing is imported before a test asks)

    def check(model: Any, loss_fn: Callable[..., Any], batch: Any, **options: Any) -> Report:
        report: Report = preflight(model, loss_fn, batch, **options)
        if report.alarms:
            pytest.fail(str(report), pytrace=False)
        return report

    return check
