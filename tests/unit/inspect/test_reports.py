"""The text of the reports: what a person reads, kept in golden files."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from goldens import without_places
from pullback import nn
from pullback.inspect import Finding, Report, Severity, births, hazards, rule
from pullback.inspect.rules import RULES

W, X = np.eye(3), np.linspace(-1.0, 1.0, 12).reshape(4, 3)


def log_of_0():
    def loss(w, x, y):
        p = pb.softmax(x @ w)
        return -pb.mean(pb.log(pb.sum(p * y, axis=1)))

    x = np.zeros((64, 3), np.float32)
    x[37] = [120.0, 0.0, -40.0]
    y = np.tile(np.float32([0, 1, 0]), (64, 1))
    return births(loss, np.eye(3, dtype=np.float32), x, y)


def diagonal():
    def spread(x):
        d = x[:, None, :] - x[None, :, :]
        return pb.sum(pb.sqrt(pb.sum(d * d, axis=-1)))

    return births(spread, X)


def where_trap():
    def trap(x):
        return pb.sum(pb.where(x > 0, pb.tanh(pb.sqrt(x)), 0.0))

    return births(trap, np.array([1.0, -4.0]))


def healthy():
    return births(pb.sum, X)


def argument():
    return births(lambda w, x: pb.sum(x @ w), np.full((3, 3), np.nan), X)


def cuts():
    def cut(params, x):
        codes = pb.round(pb.stop_gradient(x @ params["encoder"]))
        return pb.sum(codes @ params["decoder"])

    return pb.explain(cut, {"encoder": W, "decoder": W, "spare": W}, X)


def dead():
    def loss(w, x):
        return pb.sum(nn.relu(x @ w - 100.0))

    return pb.explain(loss, W, X, wrt="w")


def path():
    def loss(ws, x):
        for w in ws:
            x = x + nn.sigmoid(x @ w)
        return pb.mean(x * x)

    return pb.explain(loss, [W, W], X, wrt="ws[0]")


def several_hazards():
    def loss(w, x, y):
        h = pb.softmax(x @ w)
        return pb.mean((pb.log(h[:, :1]) - y) ** 2) + nn.cross_entropy(h, pb.argmax(x, axis=1))

    return hazards(loss, W, X, np.arange(4.0))


CASES = [
    log_of_0,
    diagonal,
    where_trap,
    healthy,
    argument,
    cuts,
    dead,
    path,
    several_hazards,
]


@pytest.mark.parametrize("case", CASES, ids=lambda f: f.__name__)
def test_text(case, golden):
    text = str(case())
    assert max(map(len, text.splitlines())) <= 80
    golden(f"reports/{case.__name__}", without_places(text))


@pytest.mark.parametrize("each", RULES, ids=lambda x: x.id)
def test_a_rule_knows_everything_about_itself(each, golden):
    assert rule(each.id) is each
    assert each.title == each.title.lower() or "(" in each.title
    assert each.__doc__
    assert each.fix
    assert each.source
    golden(f"reports/rules/{each.id}", each.explanation())


def test_findings_come_worst_first_and_are_folded():
    def of(identifier, severity, what):
        return rule(identifier).found(what, None, severity=severity)

    found = [
        of("NUM04", Severity.INFO, "a note"),
        of("OBJ01", Severity.WARN, "a warning"),
        *[of("OBJ03", Severity.FAIL, f"error {i}") for i in range(4)],
        of("NUM01", Severity.STOP, "a stop"),
    ]
    report = Report.of("several", found)
    assert [x.severity for x in report.findings][:2] == [Severity.STOP, Severity.FAIL]
    assert report.findings[-1].severity is Severity.INFO
    assert len(report.alarms) == 6
    lines = str(report).splitlines()
    assert lines[1].startswith("STOP NUM01")
    assert sum("fix" in line for line in lines) == 3
    assert "INFO NUM04 a note" in lines


def test_a_finding_without_a_place():
    finding = rule("CUT01").unused("p", None)
    assert isinstance(finding, Finding)
    assert (finding.file, finding.line, finding.module) == (None, None, "")
    assert "p gets no gradient" in str(Report.of("one", [finding]))
    assert Report.of("one", [finding]).to_sarif()["runs"][0]["results"][0]["locations"] == []


def test_html_is_escaped():
    page = Report.of("<script>", [rule("CUT01").unused("<b>", None)])._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page.replace("<b>FAIL CUT01</b>", "").replace("<b>&lt;script&gt;</b>", "")
