"""The whole idea of backpropagation in one file: python examples/tiny_engine.py

A program is a list of nodes. An op knows its value and how to hand a cotangent to its inputs.
The backward pass walks the list in reverse, sends each node's cotangent through its op's rule, and
adds where paths merge. The rules are written with the same ops, so a gradient can be differentiated
again. Needs NumPy only; the real engine is this plus types, lines, batching and forward mode.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# ---- values and the list of nodes -----------------------------------------------------------


@dataclass(eq=False)
class Value:
    data: np.ndarray

    def __add__(self, other):
        return add(self, other)

    def __mul__(self, other):
        return multiply(self, other)

    def __matmul__(self, other):
        return matmul(self, other)

    def __sub__(self, other):
        return add(self, multiply(wrap(other), wrap(-1.0)))

    __radd__, __rmul__ = __add__, __mul__


@dataclass(eq=False)
class Node:
    rule: object  # (cotangent, output, *inputs) → one cotangent an input
    inputs: tuple
    output: Value


tapes: list[list[Node]] = []  # the gradients being computed right now, innermost last


def wrap(x) -> Value:
    return x if isinstance(x, Value) else Value(np.asarray(x, float))


def op(forward, rule):
    """A forward meaning and a backward rule; applying them appends a node to every open tape."""

    def apply(*inputs):
        inputs = tuple(wrap(x) for x in inputs)
        output = Value(np.asarray(forward(*(x.data for x in inputs))))
        for tape in tapes:
            tape.append(Node(rule, inputs, output))
        return output

    return apply


# ---- ops: one line of meaning, one line of rule ---------------------------------------------

fresh = op(lambda x: x, lambda bar, out, x: (bar,))
add = op(np.add, lambda bar, out, x, y: (unbroadcast(bar, x), unbroadcast(bar, y)))
multiply = op(
    np.multiply, lambda bar, out, x, y: (unbroadcast(bar * y, x), unbroadcast(bar * x, y))
)
matmul = op(np.matmul, lambda bar, out, x, y: (bar @ transpose(y), transpose(x) @ bar))
transpose = op(np.transpose, lambda bar, out, x: (transpose(bar),))
tanh = op(np.tanh, lambda bar, out, x: (bar * (wrap(1.0) - out * out),))
total = op(np.sum, lambda bar, out, x: (bar * Value(np.ones(x.data.shape)),))


def unbroadcast(bar: Value, x: Value) -> Value:
    """Sum a cotangent over the axes along which `x` was broadcast."""
    shape, lead = x.data.shape, bar.data.ndim - x.data.ndim
    if bar.data.shape == shape:
        return bar
    axes = tuple(i for i in range(bar.data.ndim) if i < lead or shape[i - lead] == 1)
    return op(
        lambda b: b.sum(axes, keepdims=True).reshape(shape),
        lambda bar2, out, b: (bar2 * Value(np.ones(b.data.shape)),),
    )(bar)


# ---- the backward pass ----------------------------------------------------------------------


def gradient(f):
    """The function that returns ∂f/∂x for each argument x."""

    def df(*args):
        args = tuple(fresh(x) for x in args)  # known to outer tapes, so gradients nest
        tapes.append([])
        loss = f(*args)
        nodes = tapes.pop()

        cotangents = {loss: wrap(np.ones_like(loss.data))}
        for node in reversed(nodes):
            bar = cotangents.get(node.output)
            if bar is not None:
                for x, contribution in zip(
                    node.inputs, node.rule(bar, node.output, *node.inputs), strict=True
                ):
                    cotangents[x] = (
                        cotangents[x] + contribution if x in cotangents else contribution
                    )
        return tuple(cotangents.get(x, wrap(np.zeros_like(x.data))) for x in args)

    return df


# ---- use: exclusive or, learnt by a small network -------------------------------------------


def network(w1, b1, w2, b2, x):
    return tanh(wrap(x) @ w1 + b1) @ w2 + b2


def main() -> None:
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
    y = np.array([[0], [1], [1], [0]], float)
    random = np.random.default_rng(0)
    parameters = [random.normal(size=(2, 8)), np.zeros(8), random.normal(size=(8, 1)), np.zeros(1)]

    def loss(*p):
        error = network(*p, x) - y
        return total(error * error) * 0.25

    for step in range(501):
        slopes = gradient(loss)(*parameters)
        if step % 100 == 0:
            print(f"step {step:3d}  loss {loss(*parameters).data:.1e}")
        parameters = [p - 0.1 * g.data for p, g in zip(parameters, slopes, strict=True)]
    print("predictions", network(*parameters, x).data.ravel().round(3))

    cube = lambda z: z * z * z  # noqa: E731
    second = gradient(lambda z: gradient(cube)(z)[0])(2.0)[0]
    print("d²/dz² z³ at 2 =", float(second.data))


if __name__ == "__main__":
    main()
