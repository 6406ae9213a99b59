"""Looking inside: what backpropagation computed, whether its rules are right, what went wrong.

`births` names the operation that made a NaN, `Report` is what such questions are answered with, and
`rule("NUM01")` is what is known of one kind of finding.
"""

from pullback.inspect.account import Account, Explanation, explain
from pullback.inspect.birth import Birth, births
from pullback.inspect.doctor import Doctor, watch
from pullback.inspect.findings import Finding, Rule, Severity
from pullback.inspect.hazard import hazards
from pullback.inspect.preflight import preflight
from pullback.inspect.report import Report
from pullback.inspect.rules import RULES, rule

__all__ = [
    "RULES",
    "Account",
    "Birth",
    "Doctor",
    "Explanation",
    "Finding",
    "Report",
    "Rule",
    "Severity",
    "births",
    "explain",
    "hazards",
    "preflight",
    "rule",
    "watch",
]
