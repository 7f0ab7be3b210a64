"""Fits the polynomials of `src/gelu.h` and prints that file: `python tools/fit_gelu.py > src/gelu.h` (numpy).

GELU(x) = x (1/2 + g(x)) with g odd: g(x) = x q(y), y = 2x²/c² - 1, |x| cut to c. In powers of y, which stays in
[-1, 1], no coefficient is large and float32 loses nothing. q minimises the largest error of g (least squares with
Lawson's weights). The degrees are the smallest at which the rest is below the rounding of the result.

For instruction sets that look up 16 floats in registers: GELU(x) = max(x, 0) + e(|x|), e in pieces, 1/4 wide, around 0,
1/4 … 3.75, each a + b |x| + c x², fitted at Chebyshev's points. The last goes on, half of what is cut off:
GELU is off by at most 2.7e-4 there, and by 1e-4 between. In float32 the pieces are 4/11 wide, polynomials in
11/4 |x| - piece; the last ends in 0, and goes on so: off by at most 1.4e-7 there, and by 3e-8 between.
"""

from math import erf

import numpy as np

FORMS = {
    "erf": lambda x: 0.5 * np.vectorize(erf)(x / np.sqrt(2)),
    "tanh": lambda x: 0.5 * np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)),
}
DEGREE, PER_UNIT = 5, 2.75  # of the pieces in float32: degree, and how many a unit of x has
DEGREES = {"float": (12, 5.0), "bf16": (6, 4.0)}  # degree in y, cut c; GELU is off by at most 2.4e-6 and 3.1e-4


def fit(g, degree: int, cut: float) -> np.ndarray:
    y = np.cos(np.linspace(0, np.pi, 4001))
    x = np.maximum(np.sqrt((y + 1) / 2) * cut, 1e-4)
    matrix, target, weights = np.polynomial.chebyshev.chebvander(y, degree), g(x) / x, np.ones_like(x)
    for _ in range(60):
        scale = np.sqrt(weights) * x**2  # x² : the error that matters is that of x g(x)
        solution = np.linalg.lstsq(matrix * scale[:, None], target * scale, rcond=None)[0]
        error = np.abs(x**2 * (matrix @ solution - target))
        weights *= error / error.max() + 1e-3
        weights /= weights.sum()
    return np.polynomial.chebyshev.cheb2poly(solution)


def pieces(g) -> np.ndarray:
    """(3, 16): a, b and c of each piece; that around |x| is number 4 |x|."""
    t = np.cos((np.arange(3) + 0.5) * np.pi / 3) / 8
    table = np.zeros((3, 16))
    for step in range(15):
        x = step / 4 + t
        table[:, step] = np.linalg.solve(np.vander(x, 3, increasing=True), x * (g(x) - 0.5))
    cut = 29 / 8  # where the last piece begins
    table[0, 15] = cut * (g(cut) - 0.5) / 2
    table[0, :1] = 0  # but for rounding
    return table


def float_pieces(g) -> np.ndarray:
    """(DEGREE + 1, 16): the coefficients of each piece, lowest degree first."""
    t = np.cos((np.arange(DEGREE + 1) + 0.5) * np.pi / (DEGREE + 1)) / 2
    table = np.zeros((DEGREE + 1, 16))
    for step in range(16):
        at = t - abs(t) if step == 15 else t  # only the first half of the last one is used
        x = (step + at) / PER_UNIT
        y = x * (g(x) - 0.5)
        if step == 15:
            y -= (1 + 2 * at) * 15 / PER_UNIT * (g(15 / PER_UNIT) - 0.5)
        table[:, step] = np.linalg.lstsq(np.vander(at, DEGREE + 1, increasing=True), y, rcond=None)[0]
    table[0, [0, 15]] = 0
    return table


def print_pieces(name: str, comment: str, fitted) -> None:
    print(f"// {comment}\nalignas(64) constexpr float {name}[2][{len(fitted(FORMS['erf']))}][16] = {{")
    for form, g in FORMS.items():
        print(f"    // {form}\n    {{")
        for row in fitted(g):
            numbers = [f"{value:.9g}f" if "." in f"{value:.9g}" or "e" in f"{value:.9g}" else f"{value:.9g}.f"
                       for value in row]
            lines = [", ".join(numbers[i : i + 6]) for i in range(0, 16, 6)]
            print("        {" + ",\n         ".join(lines) + "},")
        print("    },")
    print("};\n")


def main() -> None:
    print("// Written by tools/fit_gelu.py, which says what these numbers are.\n#pragma once\n")
    print("namespace allmlp {\n")
    for name, (degree, cut) in DEGREES.items():
        print(f"constexpr int gelu_{name}_degree = {degree};\nconstexpr float gelu_{name}_cut = {cut}f;")
        print(f"constexpr float gelu_{name}[2][gelu_{name}_degree + 1] = {{")
        for form, g in FORMS.items():
            numbers = [f"{value:.9g}f" for value in fit(g, degree, cut)]
            lines = [", ".join(numbers[i : i + 7]) for i in range(0, len(numbers), 7)]
            print(f"    // {form}\n    {{" + ",\n     ".join(lines) + "},")
        print("};\n")
    print_pieces("gelu_pieces", "[form][a, b, c][piece]", pieces)
    print(f"constexpr int gelu_float_pieces_degree = {DEGREE};\nconstexpr float gelu_float_per_unit = {PER_UNIT}f;")
    print_pieces("gelu_float_pieces", "[form][power of the distance][piece]", float_pieces)
    print("}  // namespace allmlp")


if __name__ == "__main__":
    main()
