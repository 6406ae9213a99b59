"""Where `backend/coefficients.py` comes from: minimax polynomials by the Remez exchange.

`python tests/unit/backend/remez.py > src/pullback/backend/coefficients.py` writes it anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mpmath
import numpy as np
from mpmath import mpf

mpmath.mp.dps = 50


@dataclass(frozen=True)
class Target:
    """`function` on [low, high], approximated so that weight·error is smallest."""

    name: str
    text: str
    function: Callable[[mpf], mpf]
    low: mpf
    high: mpf
    degrees: tuple[int, int]  # for float32, for float64
    weight: Callable[[mpf], mpf]


# ---- what is approximated -------------------------------------------------------------------


def _series(first: int, term: Callable[[int], mpf]) -> Callable[[mpf], mpf]:
    """Σ term(k)·z^(k−first) for k ≥ first: free of the cancellation in the closed form."""

    def total(z: mpf) -> mpf:
        return mpmath.fsum(term(k) * z ** (k - first) for k in range(first, first + 120))

    return total


def _sign(k: int) -> int:
    return -1 if k % 2 else 1


def _erfcx(t: mpf) -> mpf:
    a = ERFC_CENTRE * (1 + t) / (1 - t)
    return (1 + 2 * a) * mpmath.exp(a * a) * mpmath.erfc(a)


ERFC_CENTRE = 4
ERFC_FROM, ERFC_TO = mpf("0.75"), {0: mpf("10.1"), 1: mpf("27.3")}


def _arcsine(k: int) -> mpf:
    return mpmath.binomial(2 * k, k) / (mpf(4) ** k * (2 * k + 1))


def targets() -> Iterator[Target]:
    ln2 = mpmath.log(2)
    square = lambda z: z
    edge = ln2 / 2 * mpf("1.01")
    yield Target(
        "EXP",
        "(eʳ − 1 − r)/r² for |r| ≤ ½ log 2",
        _series(2, lambda k: 1 / mpmath.factorial(k)),
        -edge,
        edge,
        (4, 9),
        lambda r: r * r * mpmath.exp(-r),
    )
    yield Target(
        "EXP2",
        "(2ʳ − 1 − r log 2)/r² for |r| ≤ ½",
        _series(2, lambda k: ln2**k / mpmath.factorial(k)),
        mpf("-0.505"),
        mpf("0.505"),
        (4, 9),
        lambda r: r * r * mpf(2) ** -r,
    )
    middle = (3 - 2 * mpmath.sqrt(2)) ** 2 * mpf("1.001")  # s² at m = √2
    yield Target(
        "LOG",
        "(log((1+s)/(1−s)) − 2s)/s³ in s² for |s| ≤ 3 − √8",
        _series(1, lambda k: mpf(2) / (2 * k + 1)),
        mpf(0),
        middle,
        (2, 6),
        square,
    )
    yield Target(
        "LOG_TAIL",
        "(artanh(s)/s − 1 − s²/3)/s⁴ in s² for |s| ≤ 3 − √8",
        _series(2, lambda k: mpf(1) / (2 * k + 1)),
        mpf(0),
        middle,
        (2, 8),
        lambda z: z * z,
    )
    quarter = (mpmath.pi / 4) ** 2 * mpf("1.01")
    yield Target(
        "SIN",
        "(sin(r) − r)/r³ in r² for |r| ≤ π/4",
        _series(1, lambda k: _sign(k) / mpmath.factorial(2 * k + 1)),
        mpf(0),
        quarter,
        (3, 6),
        square,
    )
    yield Target(
        "COS",
        "(cos(r) − 1 + r²/2)/r⁴ in r² for |r| ≤ π/4",
        _series(2, lambda k: _sign(k) / mpmath.factorial(2 * k)),
        mpf(0),
        quarter,
        (2, 5),
        lambda z: z * z,
    )
    yield Target(
        "ASIN",
        "(asin(x) − x)/x³ in x² for |x| ≤ ½",
        _series(1, _arcsine),
        mpf(0),
        mpf("0.25"),
        (5, 12),
        square,
    )
    yield Target(
        "ATAN",
        "(atan(q) − q)/q³ in q² for |q| ≤ tan(π/8)",
        _series(1, lambda k: mpf(_sign(k)) / (2 * k + 1)),
        mpf(0),
        (mpmath.sqrt(2) - 1) ** 2 * mpf("1.001"),
        (4, 10),
        square,
    )
    yield Target(
        "SINH",
        "(sinh(x) − x)/x³ in x² for |x| ≤ 1",
        _series(1, lambda k: 1 / mpmath.factorial(2 * k + 1)),
        mpf(0),
        mpf(1),
        (3, 7),
        square,
    )
    yield Target(
        "ERF",
        "erf(x)/x − 1 in x² for |x| ≤ 1",
        _series(0, _erf_term),
        mpf(0),
        mpf(1),
        (6, 13),
        lambda z: mpf(1),
    )
    yield Target(
        "ERFCX",
        f"(1 + 2a)·exp(a²)·erfc(a) in t = (a − 4)/(a + 4) for a ≥ {ERFC_FROM}",
        _erfcx,
        (ERFC_FROM - ERFC_CENTRE) / (ERFC_FROM + ERFC_CENTRE),
        mpf(0),
        (9, 21),
        lambda t: mpf(1),
    )
    yield Target(
        "ERFC_LOG2",
        "log₂ erfc(a) for 1 ≤ a ≤ 4, 6",
        lambda a: mpmath.log(mpmath.erfc(a)) / ln2,
        mpf(1),
        mpf(0),
        (6, 18),
        lambda a: mpmath.erfc(a) * ln2,
    )
    yield Target(
        "CBRT",
        "∛x for √⅛ ≤ x ≤ √8, a first guess",
        mpmath.cbrt,
        mpf("0.353"),
        mpf("2.83"),
        (4, 5),
        lambda x: 1 / mpmath.cbrt(x),
    )


def _erf_term(k: int) -> mpf:
    term = _sign(k) * 2 / mpmath.sqrt(mpmath.pi) / (mpmath.factorial(k) * (2 * k + 1))
    return term - 1 if k == 0 else term


def domain(target: Target, precision: int) -> tuple[mpf, mpf]:
    if target.name == "ERFC_LOG2":
        return target.low, mpf((4, 6)[precision])
    if target.name != "ERFCX":
        return target.low, target.high
    top = ERFC_TO[precision]
    return target.low, (top - ERFC_CENTRE) / (top + ERFC_CENTRE)


# ---- the exchange ---------------------------------------------------------------------------


def remez(target: Target, precision: int) -> tuple[list[mpf], mpf]:
    """The coefficients, lowest first, and the largest weighted error."""
    degree = target.degrees[precision]
    low, high = domain(target, precision)
    centre, half = (low + high) / 2, (high - low) / 2
    grid = [centre - half * mpmath.cos(mpmath.pi * i / 1200) for i in range(1201)]
    values = [target.function(x) for x in grid]
    # no equation can hold where the weight is 0
    weights = [max(target.weight(x), mpf(10) ** -30) for x in grid]
    chosen = [round(1200 * (i + 0.5) / (degree + 2)) for i in range(degree + 2)]
    for _ in range(12):
        system = mpmath.matrix(degree + 2, degree + 2)
        right = mpmath.matrix(degree + 2, 1)
        for row, at in enumerate(chosen):
            for k in range(degree + 1):
                system[row, k] = grid[at] ** k
            system[row, degree + 1] = _sign(row) / weights[at]
            right[row] = values[at]
        solution = mpmath.lu_solve(system, right)
        coefficients = [solution[k] for k in range(degree + 1)]
        errors = [
            w * (value - value_at(x, coefficients))
            for x, value, w in zip(grid, values, weights, strict=True)
        ]
        largest = max(map(abs, errors))
        if largest <= abs(solution[degree + 1]) * mpf("1.001"):
            break
        chosen = _alternation(errors, degree + 2)
    return coefficients, largest


def value_at(x: mpf, coefficients: list[mpf]) -> mpf:
    """c₀ + c₁x + c₂x² + …"""
    return mpmath.fsum(c * x**k for k, c in enumerate(coefficients))


def _alternation(errors: list[mpf], count: int) -> list[int]:
    """The largest error of each run of one sign; of these, `count` neighbours with the largest."""
    peaks: list[int] = []
    for i, error in enumerate(errors):
        if peaks and (error < 0) == (errors[peaks[-1]] < 0):
            if abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > count:
        del peaks[0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1]
    assert len(peaks) == count, "the error does not alternate often enough"
    return peaks


# ---- the file -------------------------------------------------------------------------------


def rounded(value: mpf, precision: int) -> float:
    return float(value) if precision else float(np.float32(mpmath.nstr(value, 30)))


def main() -> None:
    print('"""Polynomials for `vecmath`, lowest coefficient first: (float32, float64).\n')
    print(
        "Minimax, by the Remez exchange in tests/unit/backend/remez.py; tests measure each against"
    )
    print('its function.\n"""\n')
    print("Coefficients = tuple[tuple[float, ...], tuple[float, ...]]\n")
    for target in targets():
        if len(sys.argv) > 1 and target.name not in sys.argv[1:]:
            continue
        print(f"{target.name}: Coefficients = (")
        for precision in (0, 1):
            coefficients, error = remez(target, precision)
            print(f"    (  # error {mpmath.nstr(error, 2)}")
            for c in coefficients:
                print(f"        {rounded(c, precision)!r},")
            print("    ),")
        print(f')\n"""{target.text}"""\n')


if __name__ == "__main__":
    main()
