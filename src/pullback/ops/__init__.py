"""Every primitive, one class each; importing this package binds the operators."""

from pullback.ops import contract, create, index, layout, operators, pointwise, reduce

operators.bind()

__all__ = ["contract", "create", "index", "layout", "operators", "pointwise", "reduce"]
