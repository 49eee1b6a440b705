"""What codes mean: small floats bit by bit, code books in digits, the user's own types."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladder.errors import LadderError
from ladder.ir import element as elements
from ladder.ir.dtype import DType
from ladder.ir.element import BUILT_IN, DIGIT_OFFSET, ELEMENTS, code_book, levels, register

SMALL_FLOATS = {
    "fp4_e2m1": (ml_dtypes.float4_e2m1fn, 4),
    "fp6_e2m3": (ml_dtypes.float6_e2m3fn, 6),
    "fp6_e3m2": (ml_dtypes.float6_e3m2fn, 6),
    "fp8_e4m3": (ml_dtypes.float8_e4m3fn, 8),
    "fp8_e5m2": (ml_dtypes.float8_e5m2, 8),
}


@pytest.fixture
def own_types(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Types registered by a test are removed after it."""
    monkeypatch.setattr(elements, "ELEMENTS", dict(ELEMENTS))
    yield


@pytest.mark.parametrize("name", SMALL_FLOATS)
def test_small_floats_are_those_of_ml_dtypes(name: str) -> None:
    kind, bits = SMALL_FLOATS[name]
    element = ELEMENTS[name]
    assert (element.bits, element.low, element.high) == (bits, 0, (1 << bits) - 1)
    for pattern, value in enumerate(element.values):
        want = float(np.uint8(pattern).view(kind))
        assert value == want if np.isfinite(want) else np.isnan(value), f"code {pattern}"


@pytest.mark.parametrize(
    ("name", "largest", "smallest", "unused"),
    [
        ("fp4_e2m1", 6, 0.5, 0),
        ("fp6_e2m3", 7.5, 0.125, 0),
        ("fp6_e3m2", 28, 0.0625, 0),
        ("fp8_e4m3", 448, 2**-9, 2),
        ("fp8_e5m2", 57344, 2**-16, 8),
    ],
)
def test_the_ends_of_small_floats(name: str, largest: float, smallest: float, unused: int) -> None:
    """OCP Microscaling Formats v1.0, tables 1 to 5."""
    values = ELEMENTS[name].values
    sizes = np.abs(values[np.isfinite(values)])
    assert (sizes.max(), sizes[sizes > 0].min()) == (largest, smallest)
    assert np.isnan(values).sum() == unused


@pytest.mark.parametrize("element", BUILT_IN, ids=lambda e: e.name)
def test_codes_and_their_unsigned_form(element: elements.Element) -> None:
    u = np.arange(len(element.values), dtype=np.uint8)
    codes = element.from_unsigned(u)
    np.testing.assert_array_equal(element.to_unsigned(codes), u)
    assert codes.dtype == (np.int8 if element.low < 0 else np.uint8)
    assert (codes.min(), codes.max()) == (element.low, element.high)
    assert len(u) <= 1 << element.bits
    if not element.book:
        np.testing.assert_array_equal(codes, element.values)
        np.testing.assert_array_equal(element.step * u.astype(int) - element.offset, codes)


@pytest.mark.parametrize(
    ("name", "values", "bits", "stored", "onnx"),
    [
        ("int1", [-1, 1], 1, 1, "INT2"),
        ("uint1", [0, 1], 1, 1, "UINT2"),
        ("int2", [-2, -1, 0, 1], 2, 2, "INT2"),
        ("ternary", [-1, 0, 1], 2, 1.6, "INT2"),
        ("ternary2", [-1, 0, 1], 2, 2, "INT2"),
        ("int3", [-4, -3, -2, -1, 0, 1, 2, 3], 3, 3, "INT8"),
        ("uint3", [0, 1, 2, 3, 4, 5, 6, 7], 3, 3, "UINT8"),
    ],
)
def test_integers(name: str, values: list[int], bits: int, stored: float, onnx: str) -> None:
    element = ELEMENTS[name]
    assert element.values.tolist() == values
    assert (element.bits, element.stored_bits, element.onnx.name) == (bits, stored, onnx)
    assert element.signed == (min(values) < 0)


def spelled(book: tuple[float, ...]) -> list[Fraction]:
    """The values that digits and unit stand for, without rounding."""
    form = levels(book)
    unit = Fraction(float(form.unit))
    return [
        unit * sum((int(d) - DIGIT_OFFSET) * 256**i for i, d in enumerate(column))
        for column in form.digits.T
    ]


@pytest.mark.parametrize(
    ("name", "digits"),
    [("fp4_e2m1", 1), ("fp6_e2m3", 1), ("fp6_e3m2", 2), ("fp8_e4m3", 3)],
)
def test_small_floats_are_exact_in_few_digits(name: str, digits: int) -> None:
    book = ELEMENTS[name].book
    form = levels(book)
    assert form.error == 0 and form.digits.shape == (digits, len(book))
    for value, exact in zip(book, spelled(book), strict=True):
        assert np.isnan(value) or Fraction(value) == exact


def test_nf4_is_close_in_two_digits() -> None:
    book = ELEMENTS["nf4"].book
    form = levels(book)
    assert len(form.digits) == 2 and 0 < form.error < 1e-5
    np.testing.assert_allclose(np.array(spelled(book), float), book, rtol=0, atol=2e-5)
    assert spelled(book)[7] == 0


def test_unused_codes_count_as_nothing() -> None:
    """Unused codes become 0, so that no kernel reads a NaN."""
    assert spelled((1.0, float("nan"), -2.0))[1] == 0


@given(
    st.lists(st.integers(-127, 127).filter(bool), min_size=2, max_size=256),
    st.integers(-20, 20),
)
def test_integer_books_are_exact_in_one_digit(integers: list[int], power: int) -> None:
    book = tuple(float(i) * 2.0**power for i in integers)
    assert levels(book).error == 0 and len(levels(book).digits) == 1
    assert spelled(book) == [Fraction(v) for v in book]


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=64), st.floats(1e-3, 1e3))
def test_the_error_of_a_book_is_reported(values: list[float], size: float) -> None:
    book = tuple([*values, size])
    form, wide = levels(book), np.array(book)
    miss = np.array(spelled(book), float) - wide
    expected = np.sqrt(np.square(miss).mean() / np.square(wide).mean())
    assert form.error == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert form.error < 1e-5 or len(form.digits) == elements.MOST_DIGITS


@pytest.mark.usefixtures("own_types")
def test_a_type_of_ones_own() -> None:
    register(code_book("thirds", [-1, -1 / 3, 1 / 3, 1]))
    dtype = DType("thirds", 32)
    assert "thirds" in elements.user_elements()
    assert elements.ELEMENTS["thirds"].bits == 2 and str(dtype) == "thirds:g32"
    register(code_book("thirds", [-1, -1 / 3, 1 / 3, 1]))  # the same definition again is allowed
    register(code_book("thirds", [-3, -1, 1, 3]))  # a user's type may change
    assert elements.ELEMENTS["thirds"].book == (-3, -1, 1, 3)


@pytest.mark.parametrize("count", [2, 3, 16, 17, 256])
def test_the_bits_of_a_code_book(count: int) -> None:
    assert code_book("own", range(count)).bits == np.ceil(np.log2(count))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("int4", [1, 2], r"^type 'int4' is built in; choose another name"),
        ("nf4", [1, 2], r"^type 'nf4' is built in"),
        ("mxfp4", [1, 2], r"^type 'mxfp4' is built in"),
        ("fp32", [1, 2], r"^type 'fp32' is built in"),
        (
            "Mine",
            [1, 2],
            r"^type name 'Mine': use lower-case letters, digits and _, a letter first",
        ),
        ("4mine", [1, 2], r"^type name '4mine': use lower-case letters"),
        ("my:type", [1, 2], r"^type name 'my:type': use lower-case letters"),
        ("own", [1], r"^type 'own': a code book has 2 to 256 values, not 1"),
        ("own", range(257), r"^type 'own': a code book has 2 to 256 values, not 257"),
        ("own", [1, float("inf")], r"^type 'own': its code book has values that are not finite"),
        ("own", [float("nan")] * 2, r"^type 'own': its code book has values that are not finite"),
        ("own", [0, 0], r"^type 'own': its code book has nothing but zeros"),
        ("own", [0, float("nan")], r"^type 'own': its code book has nothing but zeros"),
    ],
)
@pytest.mark.usefixtures("own_types")
def test_refusals(name: str, values: list[float], message: str) -> None:
    with pytest.raises(LadderError, match=message):
        register(code_book(name, values))
