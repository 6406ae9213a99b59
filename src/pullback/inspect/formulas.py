"""Print a piece of a graph as one formula.

The derivative rules are Python that records nodes; whatever they recorded is printed here, so the
formula shown is the rule itself. Each op prints its own application (`Op.formula`); this module
adds what lies between applications: parentheses, and the school algebra that a reader expects
(numbers multiplied out, equal terms collected, factors of a product in one row).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from pullback.ir.array import Array
from pullback.ir.families import Linear, Multilinear, Scale
from pullback.ir.graph import Node
from pullback.ir.op import Op
from pullback.ops import layout, pointwise
from pullback.ops.reduce import Sum
from pullback.ops.remat import Barrier

LONGEST = 120
"""Characters after which an inner formula is written as `…`."""

SUM, PRODUCT, APPLICATION, PREFIX, ATOM = range(5)
"""How tightly a text holds together: x + y, x ⊙ y, W x, √x, and what needs no parentheses."""


@dataclass(frozen=True, slots=True)
class Factor:
    """A text that stands in a product, the names it mentions, and whether it is one number."""

    text: str
    uses: tuple[str, ...] = ()
    scalar: bool = False
    inner: tuple[Term, ...] = ()
    """The terms, where the text is their sum."""


@dataclass(frozen=True, slots=True)
class Term:
    """number · factors / divisors."""

    number: float
    factors: tuple[Factor, ...] = ()
    divisors: tuple[Factor, ...] = ()

    @property
    def key(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Equal for like terms."""
        return _texts(self.factors), _texts(self.divisors)

    def times(self, other: Term) -> Term:
        """The product; what stands above and below the line cancels."""
        factors = [*self.factors, *other.factors]
        divisors = []
        for f in (*self.divisors, *other.divisors):
            texts = [each.text for each in factors]
            if f.text in texts:
                del factors[texts.index(f.text)]
            else:
                divisors.append(f)
        return Term(self.number * other.number, tuple(factors), tuple(divisors))


@dataclass(frozen=True, slots=True)
class Formula:
    """A sum of terms; without terms it is 0."""

    terms: tuple[Term, ...]

    @property
    def uses(self) -> tuple[str, ...]:
        """The names that the formula mentions, in order of appearance."""
        factors = [f for term in self.terms for f in (*term.factors, *term.divisors)]
        return tuple(dict.fromkeys(name for f in factors for name in f.uses))

    @property
    def number(self) -> float | None:
        """Its value when it mentions nothing."""
        if not self.terms:
            return 0.0
        first = self.terms[0]
        plain = len(self.terms) == 1 and not first.factors and not first.divisors
        return first.number if plain else None

    def scaled(self, number: float) -> Formula:
        return Formula(tuple(replace(t, number=t.number * number) for t in self.terms if number))

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        parts = [_print_term(self.terms[0], alone=len(self.terms) == 1)]
        for term in self.terms[1:]:
            sign = "−" if term.number < 0 else "+"
            parts.append(f"{sign} {_print_term(replace(term, number=abs(term.number)))}")
        return " ".join(parts)


def symbol(name: str, *, scalar: bool) -> Formula:
    return Formula((Term(1.0, (Factor(name, (name,), scalar),)),))


def total(parts: Iterable[Formula]) -> Formula:
    """The sum, like terms collected."""
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], Term] = {}
    for term in (t for part in parts for t in part.terms):
        known = found.get(term.key)
        found[term.key] = replace(known, number=known.number + term.number) if known else term
    return Formula(tuple(t for t in found.values() if t.number != 0))


# ---- from nodes -----------------------------------------------------------------------------


class Printer:
    """Formulas of arrays in terms of named arrays."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.makers = {x: node for node in nodes for x in node.outputs}

    def formula(self, x: Array, names: Mapping[Array, str]) -> Formula:
        """`x` in terms of `names`; an array that has a name is that name."""
        if x in names:
            return symbol(names[x], scalar=x.shape == ())
        node = self.makers.get(x)
        if node is None:
            return _unmade(x)
        if isinstance(node.op, Barrier):
            return self.formula(node.inputs[_place(x, node)], names)
        operands = [self.formula(each, names) for each in node.inputs]
        result = _algebra(node, operands)
        if result is None:
            result = applied(node.op, operands, scalar=x.shape == ())
        if len(node.outputs) > 1:
            index = _subscript(_place(x, node))
            result = _atom(f"{_enclosed(str(result), ATOM)}{index}", result.uses, x.shape == ())
        return result if len(str(result)) <= LONGEST else _shortened(node.op, result, x.shape == ())

    def reads(self, x: Array, names: Mapping[Array, str]) -> tuple[str, ...]:
        """The names that the computation of `x` reads, also those that the algebra cancels."""
        found: dict[str, None] = {}
        pending, seen = [x], {x}
        while pending:
            each = pending.pop()
            node = self.makers.get(each)
            if each in names:
                found[names[each]] = None
            elif node is not None:
                fresh = [y for y in node.inputs if y not in seen]
                seen.update(fresh)
                pending += fresh
        return tuple(found)


def applied(op: Op, operands: Sequence[Formula], *, scalar: bool) -> Formula:
    """`op` on its operands as the op itself prints it; numbers are taken out of what is linear."""
    number = 1.0
    if isinstance(op, Multilinear | Linear):
        linear = len(operands) if isinstance(op, Multilinear) else 1
        unit = [_unit(x) for x in operands[:linear]]
        number = float(np.prod([n for n, _ in unit]))
        operands = [*[x for _, x in unit], *operands[linear:]]
    uses = tuple(dict.fromkeys(name for x in operands for name in x.uses))
    return _atom(_apply(op, [str(x) for x in operands]), uses, scalar).scaled(number)


def _algebra(node: Node, operands: list[Formula]) -> Formula | None:
    """The school algebra; None where the op prints itself."""
    match node.op, operands:
        case pointwise.Constant(value=value), _ if not isinstance(value, bool):
            return Formula((Term(float(value)),) if value else ())
        case pointwise.Add(), [x, y]:
            return total((x, y))
        case pointwise.Subtract(), [x, y]:
            return total((x, y.scaled(-1.0)))
        case pointwise.Negative(), [x]:
            return x.scaled(-1.0)
        case ((pointwise.Multiply() | Scale()), [x, y]):
            return _product(x, y, node)
        case pointwise.Divide(), [x, y]:
            return _quotient(x, y, node)
        case pointwise.Square(), [x]:
            return _power(x, 2, node)
        case pointwise.Power(exponent=n), [x] if n != 0 and abs(n) < 10:
            return _power(x, n, node)
        case pointwise.Less(), [x, y] if x.number is not None:
            return _atom(f"[{y} > {x}]", y.uses, scalar=node.outputs[0].shape == ())
        case pointwise.LessEqual(), [x, y] if x.number is not None:
            return _atom(f"[{y} ≥ {x}]", y.uses, scalar=node.outputs[0].shape == ())
        case Sum(axes=axes), [x] if axes and len(axes) == node.inputs[0].ndim:
            return applied(Sum(()), [x], scalar=True)
        case pointwise.Select(), [mask, x, y] if y.number == 0.0:
            return _product(x, mask, node)
        case ((layout.Broadcast() | layout.Reshape() | pointwise.Cast()), [x]) if _is_silent(
            node, x
        ):
            return x
    return None


def _is_silent(node: Node, x: Formula) -> bool:
    """Whether the reader does not miss a change of shape: of numbers, and of axes of size 1."""
    source, result = node.inputs[0], node.outputs[0]
    if isinstance(node.op, pointwise.Cast):
        return x.number is not None
    if isinstance(node.op, layout.Broadcast):
        return x.number is not None or source.size == 1
    squeezed = [tuple(n for n in each.shape if n != 1) for each in (source, result)]
    return x.number is not None or squeezed[0] == squeezed[1]


def _product(x: Formula, y: Formula, node: Node) -> Formula:
    for number, other in ((x.number, y), (y.number, x)):
        if number is not None:
            return (
                _held(other, node).scaled(number)
                if number not in (1.0, -1.0)
                else other.scaled(number)
            )
    shapes = [each.shape == () for each in node.inputs[-2:]]
    left, right = (_single(each, s) for each, s in zip((x, y), shapes, strict=True))
    return Formula((left.times(right),))


def _quotient(x: Formula, y: Formula, node: Node) -> Formula:
    if y.number:
        return _held(x, node).scaled(1.0 / y.number) if x.number is None else x.scaled(1 / y.number)
    numerator = _single(x, node.inputs[0].shape == ())
    divisor = _single(y, node.inputs[1].shape == ())
    if not numerator.number or not divisor.number:
        return Formula(())
    inverse = Term(1.0 / divisor.number, divisor.divisors, divisor.factors)
    return Formula((numerator.times(inverse),))


def _power(x: Formula, exponent: int, node: Node) -> Formula:
    if x.number is not None:
        value = float(np.power(np.float64(x.number), float(exponent)))
        return Formula((Term(value),) if value else ())
    base = _single(x, node.outputs[0].shape == ())
    if exponent < 0:
        base = Term(1.0 / base.number, base.divisors, base.factors)
    result = base
    for _ in range(abs(exponent) - 1):
        result = result.times(base)
    return Formula((result,))


def _held(x: Formula, node: Node) -> Formula:
    """A sum as one factor, so that a number before it is not multiplied out: 2 (x − y)."""
    return Formula((_single(x, node.outputs[0].shape == ()),)) if len(x.terms) > 1 else x


def _single(x: Formula, scalar: bool) -> Term:
    if len(x.terms) == 1:
        return x.terms[0]
    return Term(1.0, (Factor(str(x), x.uses, scalar, x.terms),)) if x.terms else Term(0.0)


def _place(x: Array, node: Node) -> int:
    return [y is x for y in node.outputs].index(True)


def _unit(x: Formula) -> tuple[float, Formula]:
    if len(x.terms) != 1 or x.number is not None:
        return 1.0, x
    return x.terms[0].number, Formula((replace(x.terms[0], number=1.0),))


def _atom(text: str, uses: tuple[str, ...], scalar: bool) -> Formula:
    return Formula((Term(1.0, (Factor(text, uses, scalar),)),))


def _shortened(op: Op, x: Formula, scalar: bool) -> Formula:
    return _atom(f"{op.name}(…)", x.uses, scalar)


def _unmade(x: Array) -> Formula:
    if x.size == 1 and x.has_numbers:
        return Formula((Term(float(x.numpy().reshape(()))),))
    return _atom(f"const{list(x.shape)}", (), x.shape == ())


# ---- text -----------------------------------------------------------------------------------


def _texts(factors: tuple[Factor, ...]) -> tuple[str, ...]:
    return tuple(sorted(f.text for f in factors))


def _print_term(term: Term, *, alone: bool = False) -> str:
    if alone and term.number < 0:
        term = _turned(term)
    if alone and term.number == 1.0 and len(term.factors) == 1 and not term.divisors:
        return term.factors[0].text
    sign, number = ("−" if term.number < 0 else ""), abs(term.number)
    product = ""
    powers = _powers(term.factors)
    least = PRODUCT if len(powers) == 1 and not term.divisors else APPLICATION
    for i, (f, exponent) in enumerate(powers):
        if i:
            product += " · " if f.scalar or powers[i - 1][0].scalar else " ⊙ "
        if exponent > 1:
            product += f"{_enclosed(f.text, ATOM)}{_superscript(exponent)}"
        else:
            product += _enclosed(f.text, least)
    if not product:
        product = _print_number(number)
    elif number != 1.0:
        product = f"{_print_number(number)} {product}"
    for f, exponent in _powers(term.divisors):
        power = _superscript(exponent) if exponent > 1 else ""
        product += f" / {_enclosed(f.text, ATOM if power else APPLICATION)}{power}"
    return sign + product


def _turned(term: Term) -> Term:
    """−(a − b) as b − a."""
    inner = term.factors[0].inner if len(term.factors) == 1 else ()
    if len(inner) != 2 or not inner[0].number > 0 > inner[1].number:
        return term
    turned = Formula((inner[1], inner[0])).scaled(-1.0)
    return replace(term, number=-term.number, factors=(replace(term.factors[0], text=str(turned)),))


def _powers(factors: tuple[Factor, ...]) -> list[tuple[Factor, int]]:
    counts: dict[str, tuple[Factor, int]] = {}
    for f in factors:
        counts[f.text] = (f, counts.get(f.text, (f, 0))[1] + 1)
    return list(counts.values())


def _superscript(exponent: int) -> str:
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(exponent))


def _print_number(number: float) -> str:
    if number == 0.5:
        return "½"
    short = f"{number:.4g}"
    if float(short) == number:
        return short
    exact = Fraction(number).limit_denominator(999)
    if abs(float(exact) - number) <= 1e-7 * abs(number):
        return f"{exact.numerator}/{exact.denominator}"
    return short


def _subscript(index: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(index))


def _enclosed(text: str, least: int) -> str:
    return text if binding(text) >= least else f"({text})"


def binding(text: str) -> int:
    """How tightly the text holds together, read off its operators outside brackets."""
    flat = _outside(text)
    if flat.startswith("Σ"):
        return SUM if " + " in flat or " − " in flat else PRODUCT
    if " + " in flat or " − " in flat or flat.startswith(("−", "-")):
        return SUM
    if any(sign in flat for sign in (" ⊙ ", " · ", " / ")):
        return PRODUCT
    if " " in flat or "·" in flat:
        return APPLICATION
    return PREFIX if flat.startswith(("√", "½")) else ATOM


def _outside(text: str) -> str:
    """The text without what stands between brackets or bars."""
    kept, depth, bars = [], 0, False
    for character in text:
        if character == "|" and depth == 0:
            bars = not bars
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and not bars:
            kept.append(character)
    return "".join(kept)


def _apply(op: Op, operands: list[str]) -> str:
    """`op.formula`, with parentheses around operands that hold together too loosely for it."""
    marks = [chr(0xE000 + i) for i in range(len(operands))]
    pattern = op.formula(*marks)
    level, open_text = binding(pattern), _outside(pattern)
    for i, (mark, operand) in enumerate(zip(marks, operands, strict=True)):
        place = open_text.find(mark)
        text = operand
        if place >= 0:
            before, after = open_text[:place][-1:], open_text[place + 1 :][:1]
            tight = before.strip() or after.strip()
            text = _enclosed(operand, ATOM if tight else level + (1 if i or level > PRODUCT else 0))
        pattern = pattern.replace(mark, text)
    return pattern
