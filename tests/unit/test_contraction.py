"""Products of tensors: einsum against NumPy, matmul's rules, the texts of their errors."""

from __future__ import annotations

import numpy as np
import pytest

import pullback as pb
from pullback.errors import DTypeError, ShapeError

EQUATIONS = {
    "->": [()],
    "i->": [(3,)],
    "i->i": [(3,)],
    "i": [(3,)],
    "ij->ji": [(2, 3)],
    "ij": [(2, 3)],
    "ba": [(2, 3)],
    "ii": [(3, 3)],
    "ii->i": [(3, 3)],
    "ii->": [(3, 3)],
    "iij->j": [(3, 3, 2)],
    "iji->ij": [(3, 2, 3)],
    "iii->i": [(2, 2, 2)],
    "ijij->ij": [(2, 3, 2, 3)],
    "ijij": [(2, 3, 2, 3)],
    "ijk->j": [(2, 3, 4)],
    "...": [(2, 3)],
    "i...->...": [(2, 3, 4)],
    "...i->...": [(2, 3)],
    "...ii->...i": [(2, 3, 3)],
    "i...i->...": [(3, 2, 3)],
    "...ij->...ji": [(2, 3, 4)],
    "i,i->": [(3,), (3,)],
    "i,i": [(3,), (3,)],
    "i,j->ij": [(3,), (2,)],
    "i,j": [(3,), (2,)],
    "i,j->": [(3,), (2,)],
    ",->": [(), ()],
    ",ij->ij": [(), (2, 3)],
    "ij,ij->ij": [(2, 3), (2, 3)],
    "ij,ij->i": [(2, 3), (2, 3)],
    "ij,ji->": [(2, 3), (3, 2)],
    "ij,jk->ik": [(2, 3), (3, 4)],
    "ij,jk": [(2, 3), (3, 4)],
    "ij,kj->ki": [(2, 3), (4, 3)],
    "ij,j->i": [(2, 3), (3,)],
    "ijk,jl->": [(2, 3, 4), (3, 5)],
    "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)],
    "bij,bkj->kb": [(2, 3, 4), (2, 5, 4)],
    "bhqd,bhkd->bhqk": [(2, 3, 4, 5), (2, 3, 6, 5)],
    "...ij,...jk->...ik": [(2, 3, 4), (4, 5)],
    "...ij,jk": [(2, 3, 4), (4, 5)],
    "i...,i...->...": [(3, 1, 2), (3, 4, 1)],
    "ij...,jk...->ik...": [(2, 3, 4), (3, 5, 4)],
    "ii,ij->j": [(3, 3), (3, 2)],
    "ii,jj->ij": [(3, 3), (2, 2)],
    "i,i,i->i": [(3,), (3,), (3,)],
    "i,j,k->kji": [(3,), (2,), (4,)],
    "ij,jk,kl->il": [(2, 3), (3, 4), (4, 5)],
    "ij,jk,kl,lm": [(2, 3), (3, 4), (4, 5), (5, 2)],
    "abc,cd,be,a->de": [(2, 3, 4), (4, 5), (3, 2), (2,)],
    "ij,ik,il->jkl": [(2, 3), (2, 4), (2, 5)],
    "ij,jk->ik ": [(2, 1), (3, 4)],
    "i,i,->i": [(1,), (3,), ()],
    "Ab,bA->A": [(2, 3), (3, 2)],
    " i j , j k -> i k ": [(2, 3), (3, 4)],
    "ij,jk->ki": [(0, 3), (3, 4)],
    "ik,kj->ij": [(2, 0), (0, 3)],
}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def operands(shapes):
    return [numbers(*shape, seed=i) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_is_numpys(equation):
    xs = operands(EQUATIONS[equation])
    expected = np.einsum(equation.replace(" ", ""), *xs)
    result = pb.einsum(equation, *xs)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12, atol=1e-12)


def random_equation(rng):
    """An equation over a few letters, with repeats, sums, sometimes an ellipsis; its operands."""
    sizes = dict(zip("abcdef", rng.integers(1, 4, 6).tolist(), strict=True))
    hidden = tuple(rng.integers(1, 3, rng.integers(0, 3)).tolist()) if rng.random() < 0.3 else None
    terms, shapes = [], []
    for _ in range(rng.integers(1, 5)):
        letters = rng.choice(list(sizes), rng.integers(0, 4)).tolist()
        shape = [sizes[c] for c in letters]
        if hidden is not None and rng.random() < 0.7:
            place = int(rng.integers(0, len(letters) + 1))
            letters.insert(place, "...")
            shape[place:place] = hidden
        terms.append("".join(letters))
        shapes.append(tuple(shape))
    used = sorted(set("".join(terms)) - {"."})
    result = rng.permutation(used)[: rng.integers(0, len(used) + 1)].tolist()
    if any("..." in term for term in terms):
        result.insert(int(rng.integers(0, len(result) + 1)), "...")
    arrow = "->" + "".join(result) if rng.random() < 0.8 else ""
    return ",".join(terms) + arrow, shapes


@pytest.mark.parametrize("seed", range(150))
def test_random_equations(seed):
    equation, shapes = random_equation(np.random.default_rng(seed))
    xs = operands(shapes)
    expected = np.einsum(equation, *xs)
    np.testing.assert_allclose(pb.einsum(equation, *xs).numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("equation", ["iji,jk,...k->...i", "ij,jk,kl->il", "ii->i", "i,j"])
def test_einsum_gradients(equation):
    shapes = {3: [(2, 3, 2), (3, 4), (2, 4)], 2: [(3,), (2,)], 1: [(3, 3)]}[equation.count(",") + 1]
    if "kl" in equation:
        shapes = [(2, 3), (3, 4), (4, 2)]
    xs = operands(shapes)

    def loss(*xs):
        out = pb.einsum(equation, *xs)
        return pb.sum(out * out)

    gradients = pb.grad(loss, argnums=tuple(range(len(xs))))(*xs)
    for i, gradient in enumerate(gradients):
        direction = numbers(*xs[i].shape, seed=9)
        up, down = (
            float(loss(*xs[:i], xs[i] + h * direction, *xs[i + 1 :])) for h in (1e-5, -1e-5)
        )
        slope = (up - down) / 2e-5
        np.testing.assert_allclose((gradient.numpy() * direction).sum(), slope, rtol=1e-6)


def test_einsum_takes_the_cheap_order():
    """(vector · matrix) · matrix, never matrix · matrix: the FLOPs of the graph say so."""
    v, m = numbers(30), numbers(30, 30)
    graph = pb.trace(lambda v, a, b: pb.einsum("i,ij,jk->k", v, a, b), v, m, m)
    flops = sum(
        n.op.flops([x.type for x in n.inputs], [y.type for y in n.outputs]) for n in graph.nodes
    )
    assert flops == 2 * 2 * 30 * 30


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (6, 3, 4)),
        ((1, 2, 3), (5, 3, 4)),
        ((5, 2, 3), (3,)),
        ((3,), (5, 3, 2)),
        ((2, 0), (0, 3)),
    ],
)
def test_matmul_is_numpys(left, right):
    x, y = numbers(*left), numbers(*right, seed=1)
    for result in (pb.matmul(x, y), pb.linalg.matmul(x, y)):
        np.testing.assert_allclose(result.numpy(), x @ y, rtol=1e-12)

    def through(x, y):
        return pb.sum((x @ y) * (x @ y))

    bars = pb.grad(through, argnums=(0, 1))(x, y)
    assert [bar.shape for bar in bars] == [left, right]


def test_products_by_other_names():
    x, y, z = numbers(2, 3, 4), numbers(4, 3, 5, seed=1), numbers(2, 3, 4, seed=2)
    pairs = [
        (pb.tensordot(x, y, axes=1), np.tensordot(x, y, 1)),
        (pb.tensordot(x, y, axes=((1, 2), (1, 0))), np.tensordot(x, y, ((1, 2), (1, 0)))),
        (pb.tensordot(x, y, axes=((-1,), (0,))), np.tensordot(x, y, 1)),
        (pb.tensordot(x, y, axes=0), np.tensordot(x, y, 0)),
        (pb.vecdot(x, z), np.vecdot(x, z)),
        (pb.vecdot(x, z, axis=-2), np.vecdot(x, z, axis=-2)),
        (pb.vecdot(x, z[0]), np.vecdot(x, z[0])),
        (pb.outer(x[0, 0], y[:, 0, 0]), np.outer(x[0, 0], y[:, 0, 0])),
        (pb.dot(x, y[:, :, 0]), np.dot(x, y[:, :, 0])),
        (pb.dot(x, 2.0), x * 2.0),
        (pb.dot(x[0, 0], z[0, 0]), np.dot(x[0, 0], z[0, 0])),
        (pb.matrix_transpose(x), x.swapaxes(-1, -2)),
    ]
    for result, expected in pairs:
        assert result.shape == expected.shape
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12)


def test_element_types():
    half = pb.einsum("i,i->", np.ones(4096, np.float16), np.ones(4096, np.float16))
    assert (half.dtype, half.item()) == (np.float16, 4096.0)
    assert pb.einsum("ij,ij->ij", np.ones((1, 1), np.int32), np.ones((1, 1), np.float64)).dtype == (
        np.float64
    )
    assert pb.einsum(",i->i", 2.0, np.ones(3, np.float16)).dtype == np.float16
    assert (np.ones((2, 2), np.int32) @ pb.einsum("ii->i", np.eye(2, dtype=np.int32))).dtype == (
        np.int32
    )
    with pytest.raises(DTypeError, match="einsum does not take bool"):
        pb.einsum("i->", np.ones(3, bool))


@pytest.mark.parametrize(
    ("equation", "shapes", "text"),
    [
        ("ij,jk", [(2, 3)], "speaks of 2 operands, 1 were given"),
        ("ij", [(2,)], "'ij' names 2 axes of an operand of rank 1"),
        ("ij,jk", [(2, 3), (4, 5)], "axis 'j' has the sizes 3 and 4"),
        ("ii", [(2, 3)], "no diagonal of axes of 2 and 3"),
        ("i->j", [(2,)], "no operand has the axis 'j'"),
        ("i->ii", [(2,)], "names an axis of the result twice"),
        ("...i->i", [(2, 3)], "drops the axes that '...' stands for"),
        ("i.j", [(2, 3)], "is no equation"),
        ("i->j->k", [(2,)], "is no equation"),
        ("i1", [(2,)], "is no equation"),
        ("...i,...i", [(2, 3), (4, 3)], "the axes '...' have the sizes 2 and 4"),
    ],
)
def test_wrong_equations(equation, shapes, text):
    with pytest.raises(ShapeError, match=r"einsum at .*test_contraction.py") as caught:
        pb.einsum(equation, *operands(shapes))
    assert text in str(caught.value)


def test_errors_name_the_product_and_the_operands():
    def forward(x, w):
        hidden = w * 2.0
        return pb.sum(x @ hidden)

    with pytest.raises(ShapeError) as caught:
        pb.grad(forward, (0, 1))(np.ones((4, 3), np.float32), np.ones((2, 5), np.float32))
    head, left, right = str(caught.value).splitlines()
    assert head.startswith("matmul at ")
    assert head.endswith("in forward: inner sizes differ: float32[4,3] @ float32[2,5]")
    assert left.split() == ["left", "float32[4,3]", "argument", "`x`"]
    assert right.split()[:3] == ["right", "float32[2,5]", "from"]


@pytest.mark.parametrize(
    ("x", "w", "hint"),
    [
        ((4, 3), (5, 3), "x @ w.T ?"),
        ((3, 4), (3, 5), "x.T @ w ?"),
        ((4, 3), (5, 4), "w @ x ?"),
        ((2, 4, 3), (2, 5, 3), "x @ w.mT ?"),
    ],
)
def test_the_hint_is_in_the_users_words(x, w, hint):
    x, w = np.ones(x), np.ones(w)
    with pytest.raises(ShapeError) as caught:
        pb.matmul(x, w)
    assert str(caught.value).endswith(f"did you mean  {hint}")


def test_other_errors_speak_plainly():
    with pytest.raises(ShapeError, match="multiply by it with"):
        pb.matmul(np.ones(3), 2.0)
    with pytest.raises(ShapeError, match="do not broadcast"):
        pb.matmul(np.ones((2, 3, 3)), np.ones((4, 3, 3)))
    with pytest.raises(ShapeError, match="two vectors"):
        pb.outer(np.ones((2, 2)), np.ones(2))
    with pytest.raises(ShapeError, match="differ in size"):
        pb.tensordot(np.ones((2, 3)), np.ones((2, 3)), axes=1)
    with pytest.raises(ShapeError, match="axes is a number or two lists"):
        pb.tensordot(np.ones((2, 3)), np.ones((2, 3)), axes=((1,), ()))
    with pytest.raises(ShapeError, match="3 and 4 elements"):
        pb.vecdot(np.ones(3), np.ones(4))
