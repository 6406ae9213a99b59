"""Every primitive, one class each; importing this package binds the operators."""

from pullback.ops import contract, control, layout, operators, pointwise, reduce, remat, scan

operators.bind()

__all__ = ["contract", "control", "layout", "operators", "pointwise", "reduce", "remat", "scan"]
