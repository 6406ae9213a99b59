"""The fixture `healthy` of pytest: a model, its loss and a batch pass preflight, or a test fails.

`pytest_plugins = ["pullback_pytest"]` in `conftest.py` asks for it. It is no entry point, by which
pytest would rewrite the assertions of the whole library in every test run of whoever installed it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pullback import preflight
from pullback.inspect import Report


@pytest.fixture
def healthy() -> Callable[..., Report]:
    """`healthy(model, loss_fn, batch, **options)` fails the test with what `pb.preflight` finds.

    Errors and warnings fail, with the report as the message. The options are those of
    `pb.preflight`; `intended=("SIG01",)` says what is meant. Returns the report.
    """

    def check(model: Any, loss_fn: Callable[..., Any], batch: Any, **options: Any) -> Report:
        report: Report = preflight(model, loss_fn, batch, **options)
        if report.alarms:
            pytest.fail(str(report), pytrace=False)
        return report

    return check
