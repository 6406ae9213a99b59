"""`pullback explain`: every rule has its text."""

from __future__ import annotations

import pytest

click = pytest.importorskip("click")
testing = pytest.importorskip("click.testing")

from pullback.cli.commands import root  # noqa: E402
from pullback.inspect.rules import RULES  # noqa: E402


def run(*arguments):
    return testing.CliRunner().invoke(root, ["explain", *arguments])


@pytest.mark.parametrize("rule", RULES, ids=lambda x: x.id)
def test_every_rule_is_explained(rule):
    shown = run(rule.id.lower())
    assert shown.exit_code == 0
    assert shown.output.startswith(f"{rule.id}  {rule.title}")
    assert "Fix" in shown.output
    assert "Source" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 100


def test_the_rules_are_listed():
    assert [line.split()[0] for line in run().output.splitlines()] == [x.id for x in RULES]


def test_an_unknown_id():
    shown = run("NUM1")
    assert shown.exit_code == 2
    assert "did you mean NUM01" in shown.output
