"""Looking inside: what backpropagation computed, whether its rules are right, what went wrong.

`births` names the operation that made a NaN, `Report` is what such questions are answered with, and
`rule("NUM01")` is what is known of one kind of finding. `path_shares`, `layer_jacobians`,
`signal_propagation` and `gradient_map` show what flows; `gradient_estimators` what it would cost
without backpropagation.
"""

from pullback.inspect.account import Account, Explanation, explain
from pullback.inspect.birth import Birth, births
from pullback.inspect.doctor import Doctor, watch
from pullback.inspect.findings import Finding, Rule, Severity
from pullback.inspect.hazard import hazards
from pullback.inspect.jacobians import LayerJacobian, LayerJacobians, layer_jacobians
from pullback.inspect.paths import (
    PathLengths,
    PathShares,
    TermCosines,
    gradient_by_length,
    path_shares,
    term_cosines,
)
from pullback.inspect.preflight import preflight
from pullback.inspect.report import Report
from pullback.inspect.rules import RULES, rule
from pullback.inspect.seeing.trainings import (
    GradientHistograms,
    GradientMap,
    UpdateBand,
    gradient_histograms,
    gradient_map,
    update_band,
)
from pullback.inspect.seeing.views import View, page_of
from pullback.inspect.signals import SignalPlot, signal_propagation
from pullback.inspect.zero_order import (
    Comparison,
    Estimate,
    evolution_strategy,
    finite_differences,
    gradient_estimators,
)

__all__ = [
    "Account",
    "Birth",
    "Comparison",
    "Doctor",
    "Estimate",
    "Explanation",
    "Finding",
    "GradientHistograms",
    "GradientMap",
    "LayerJacobian",
    "LayerJacobians",
    "PathLengths",
    "PathShares",
    "RULES",
    "Report",
    "Rule",
    "Severity",
    "SignalPlot",
    "TermCosines",
    "UpdateBand",
    "View",
    "births",
    "evolution_strategy",
    "explain",
    "finite_differences",
    "gradient_by_length",
    "gradient_estimators",
    "gradient_histograms",
    "gradient_map",
    "hazards",
    "layer_jacobians",
    "page_of",
    "path_shares",
    "preflight",
    "rule",
    "signal_propagation",
    "term_cosines",
    "update_band",
    "watch",
]
