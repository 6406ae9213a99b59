"""Which cases of a long table run always, and which only with `pytest --thorough`."""

from __future__ import annotations

import pytest


def sampled(cases, every, first=lambda _: False):
    """Of the cases every nth runs always, and those that `first` names; the rest when asked."""
    return [
        pytest.param(case, marks=() if i % every == 0 or first(case) else pytest.mark.thorough)
        for i, case in enumerate(cases)
    ]
