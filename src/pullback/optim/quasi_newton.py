"""L-BFGS: curvature from the last few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pullback._public import public
from pullback.functions.elementwise import minimum, where
from pullback.functions.manipulation import concat
from pullback.functions.reductions import sum
from pullback.ir.array import Array
from pullback.ir.types import TensorType, int64
from pullback.ops.operators import constant, zeros
from pullback.optim.hyperparameters import require_count
from pullback.optim.line_search import Point, strong_wolfe
from pullback.optim.optimizer import Optimizer, optimizer, require_of_params
from pullback.optim.vectors import dot, ravel
from pullback.transforms.control import scan
from pullback.transforms.derivatives import value_and_grad
from pullback.transforms.tree import Tree

Loss = Callable[[Tree], Array]


class LbfgsState(NamedTuple):
    """The last `memory` steps s and changes of the gradient y, as rows, the newest last, and
    1 / (s · y), which is 0 for a row that is not used; the parameters and gradient before.
    """

    step: Array
    steps: Array
    changes: Array
    inverse: Array
    params: Array
    grads: Array


@public
def lbfgs(loss: Loss, memory: int = 10, evaluations: int = 20) -> Optimizer:
    """L-BFGS (Liu & Nocedal 1989) with a line search for the strong Wolfe conditions.

    It looks at the function along a line, so it is given it: `loss(params) → scalar`. For a loss of
    a batch make it where the batch is, inside the step; its state is data like any other. An update
    runs compiled as a whole, the line search as one loop of at most `evaluations` gradients.

    Pairs with s · y ≤ 0 are left out. Raises `ArgumentError` for a loss that takes more than the
    parameters and for sizes that are no positive ints.
    """
    require_of_params(loss, "loss")
    require_count(memory=memory, evaluations=evaluations)

    def init(params: Tree) -> LbfgsState:
        x, _ = ravel(params)
        rows = zeros(TensorType((memory, x.shape[0]), x.dtype))
        none = zeros(TensorType((memory,), x.dtype))
        return LbfgsState(constant(0, int64), rows, rows, none, x * 0, x * 0)

    def update(grads: Tree, state: LbfgsState, params: Tree) -> tuple[Tree, LbfgsState]:
        (x, unravel), (g, _) = ravel(params), ravel(grads)
        state = _remembered(state, x, g)
        newton = _direction(state, g)
        falls = dot(newton, g) < 0
        direction = where(falls, newton, -g)

        def along(length: Array) -> Point:
            value, slope = value_and_grad(loss)(unravel(x + direction * length))
            return Point(length, value, dot(ravel(slope)[0], direction))

        one = dot(g, g) * 0 + 1.0
        steepest = (state.step == 1) | ~falls
        size = sum(where(g < 0, -g, g))
        first = where(steepest, minimum(one, 1.0 / where(size > 0, size, 1.0)), one)
        begin = Point(one * 0, loss(params), dot(g, direction))
        return unravel(direction * strong_wolfe(along, begin, first, evaluations)), state

    return optimizer("lbfgs", init, update)


def _remembered(state: LbfgsState, x: Array, g: Array) -> LbfgsState:
    """The state with the pair of the step that led to x."""
    s, y = x - state.params, g - state.grads
    product = dot(s, y)
    good = (product > dot(y, y) * 1e-12) & (state.step > 0)
    inverse = where(good, 1.0 / where(good, product, 1.0), 0.0)

    def shifted(rows: Array, new: Array) -> Array:
        return where(good, concat([rows[1:], new[None]]), rows)

    return LbfgsState(
        state.step + 1,
        shifted(state.steps, s),
        shifted(state.changes, y),
        shifted(state.inverse, inverse),
        x,
        g,
    )


def _direction(state: LbfgsState, g: Array) -> Array:
    """-H g by the two-loop recursion (Nocedal & Wright, algorithm 7.4)."""
    pairs = (state.steps, state.changes, state.inverse)

    def back(q: Array, pair: tuple[Array, ...]) -> tuple[Array, Array]:
        s, y, inverse = pair
        alpha = dot(s, q) * inverse
        return q - y * alpha, alpha

    def forth(r: Array, pair: tuple[Array, ...]) -> tuple[Array, None]:
        s, y, inverse, alpha = pair
        return r + s * (alpha - dot(y, r) * inverse), None

    q, alphas = scan(back, g, pairs, reverse=True)
    newest = state.changes[-1]
    known = state.inverse[-1] > 0
    scale = state.inverse[-1] * dot(newest, newest)
    r, _ = scan(forth, q / where(known, scale, 1.0), (*pairs, alphas))
    direction: Array = -r
    return direction
