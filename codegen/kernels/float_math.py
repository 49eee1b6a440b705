"""Float expressions: exp without a library call, and sums in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm.script import tirx as T

from ladder.codegen.kernels.vector import Expr, const, llvm, plus_product, shuffle, typed, width_of

LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4  # Cody and Waite: n * LN2_HIGH is exact
EXP_TERMS = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    0.5,
)
LOWEST, HIGHEST = -87.0, 88.0
Plus = Callable[[Expr, Expr, Expr, int], Expr]  # (a, b, c, width) -> a + b * c


def free_plus(a: Expr, b: Expr, c: Expr, width: int) -> Expr:
    """a + b * c as LLVM likes; only this form lets it vectorize loops."""
    return a + b * c


def exp(x: Expr, width: int = 1, plus: Plus = plus_product) -> Expr:
    """e^x, relative error below 2e-7 (Cephes' expf polynomial); ``width`` lanes.

    The bits are the same on every processor, except with ``free_plus``.
    """

    def real(value: float) -> Expr:
        return const(T.float32(value), width)

    x = T.max(T.min(x, real(HIGHEST)), real(LOWEST))
    n = llvm("rint", typed("float32", width), x * real(LOG2_E))
    r = plus(plus(x, n, real(-LN2_HIGH), width), n, real(-LN2_LOW), width)
    p = real(EXP_TERMS[0])
    for term in EXP_TERMS[1:]:
        p = plus(real(term), p, r, width)
    value = plus(r, p, r * r, width) + real(1.0)
    bias, shift = const(T.int32(127), width), const(T.int32(23), width)
    power = T.shift_left(T.cast(n, typed("int32", width)) + bias, shift)
    return value * T.reinterpret(power, dtype=typed("float32", width))


def sigmoid(x: Expr, width: int = 1, plus: Plus = plus_product) -> Expr:
    """1 / (1 + e^-x); as ``exp``."""
    one = const(T.float32(1.0), width)
    return one / (one + exp(const(T.float32(0.0), width) - x, width, plus))


def tanh(x: Expr, width: int = 1) -> Expr:
    """1 - 2 / (e^2x + 1); its absolute error is below 2e-7."""
    one, two = const(T.float32(1.0), width), const(T.float32(2.0), width)
    return one - two / (exp(two * x, width) + one)


def sum_lanes(x: Expr, width: int = 16) -> Expr:
    """The sum of all lanes as a tree: halves are added until one number remains."""
    while width > 1:
        width //= 2
        low, high = list(range(width)), list(range(width, 2 * width))
        x = shuffle([x], low) + shuffle([x], high)
    return x


def sums_of(vectors: Sequence[Expr]) -> Expr:
    """The sum of the lanes of each vector, as ``sum_lanes`` adds them; one lane for each vector.

    The number of vectors and of their lanes are powers of two, lanes at least as many.
    """
    found, count = list(vectors), 1  # each vector holds ``count`` sums that are not complete
    while len(found) > 1:
        found = [_halved(found[i : i + 2], count) for i in range(0, len(found), 2)]
        count *= 2
    while width_of(found[0]) > count:
        found = [_halved(found, count)]
    return found[0]


def _halved(vectors: list[Expr], count: int) -> Expr:
    """Each of the ``count`` sums in each vector, with its first half added to its second."""
    size = width_of(vectors[0]) // count
    starts = range(0, len(vectors) * count * size, size)
    low = [start + i for start in starts for i in range(size // 2)]
    return shuffle(vectors, low) + shuffle(vectors, [i + size // 2 for i in low])
