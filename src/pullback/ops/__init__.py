"""Every primitive, one class each; importing this package binds the operators."""

from pullback.ops import contract, layout, operators, pointwise, reduce

operators.bind()

__all__ = ["contract", "layout", "operators", "pointwise", "reduce"]
