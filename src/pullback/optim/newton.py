"""Newton's method without a Hessian, and natural gradients without a Fisher matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pullback._public import public
from pullback.functions.elementwise import minimum, sqrt, where
from pullback.ir.array import Array
from pullback.optim.hyperparameters import (
    number,
    require_count,
    require_positive,
    require_weights,
)
from pullback.optim.line_search import Point, strong_wolfe
from pullback.optim.optimizer import Optimizer, optimizer, require_of_params
from pullback.optim.vectors import conjugate_gradients, dot, ravel
from pullback.transforms.derivatives import ggnvp, hvp, value_and_grad
from pullback.transforms.tree import Tree


@public
def newton_cg(
    loss: Callable[[Tree], Array],
    steps: int = 50,
    damping: float | Array = 0.0,
    evaluations: int = 20,
) -> Optimizer:
    """Newton's method with conjugate gradients on Hessian-vector products, and a line search.

    (H + damping · I) d = -g is solved in at most `steps` products, to the relative residual
    min(0.01, √|g|), which makes convergence superlinear (Nocedal & Wright, § 7.1); negative
    curvature ends the solve. `loss(params) → scalar`, as for `lbfgs`; there is no state.

    Raises `ArgumentError` for a loss that takes more than the parameters, sizes that are no
    positive ints and a negative damping.
    """
    require_of_params(loss, "loss")
    require_count(steps=steps, evaluations=evaluations)
    require_weights(damping=damping)

    def update(grads: Tree, state: None, params: Tree) -> tuple[Tree, None]:
        (x, unravel), (g, _) = ravel(params), ravel(grads)
        extra = number(damping)

        def curvature(v: Array) -> Array:
            moved: Array = ravel(hvp(loss, (params,), (unravel(v),)))[0] + v * extra
            return moved

        def along(length: Array) -> Point:
            value, slope = value_and_grad(loss)(unravel(x + direction * length))
            return Point(length, value, dot(ravel(slope)[0], direction))

        rtol = minimum(sqrt(sqrt(dot(g, g))), 0.01)
        solved = conjugate_gradients(curvature, -g, steps, rtol)
        direction = where(dot(solved, g) < 0, solved, -g)
        zero = dot(g, g) * 0
        begin = Point(zero, loss(params), dot(g, direction))
        return unravel(direction * strong_wolfe(along, begin, zero + 1.0, evaluations)), None

    return optimizer("newton_cg", lambda params: None, update)


@public
def natural_gradient(
    f: Callable[[Tree], Tree],
    loss: Callable[[Tree], Array],
    lr: float | Array = 1.0,
    damping: float | Array = 1e-3,
    steps: int = 50,
) -> Optimizer:
    """The natural gradient (Amari 1998):  x ← x - lr (G + damping · I)⁻¹ g.

    The objective is `loss(f(params))`, `f` a model and `loss` a function of its outputs; G is their
    Gauss-Newton matrix, which is Fisher's where the loss is the negative log-likelihood of outputs
    that are natural parameters, as logits are. Solved by conjugate gradients on `pb.ggnvp`.

    Raises `ArgumentError` unless `f` takes the parameters alone, lr > 0, damping > 0 and `steps` is
    a positive int.
    """
    require_of_params(f, "f")
    require_positive(lr=lr, damping=damping)
    require_count(steps=steps)

    def update(grads: Tree, state: None, params: Tree) -> tuple[Tree, None]:
        g, unravel = ravel(grads)
        extra: Any = number(damping)

        def metric(v: Array) -> Array:
            moved: Array = ravel(ggnvp(f, loss, (params,), (unravel(v),)))[0] + v * extra
            return moved

        solved = conjugate_gradients(metric, g, steps, 1e-6)
        return unravel(solved * -number(lr)), None

    return optimizer("natural_gradient", lambda params: None, update)
