"""Elements: the numbers that low-bit codes mean, and their exact form as integers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from ladder.errors import LadderError
from ladder.ir.scale import SCALE_TYPES
from ladder.ir.storage import Storage, storage_of

if TYPE_CHECKING:
    import onnx_ir as ir

DIGIT_OFFSET = 128  # added to digits, which are signed bytes, when they are stored
MOST_DIGITS = 3
CLOSE_ENOUGH = 1e-5  # relative error (root mean square) of a code book written in digits
LARGEST_BOOK = 256


@dataclass(frozen=True)
class Element:
    """An element: its name, the width of a code in bits, and what the codes mean.

    The codes of an integer element are its values: ``low, low + step, ..., high``. A code book has
    codes 0, 1, ..., the indices of the entries of ``book``; NaN marks a code that is never used.
    """

    name: str
    bits: int
    low: int
    high: int
    step: int = 1
    book: tuple[float, ...] = ()

    @property
    def signed(self) -> bool:
        """Whether there are negative values without a zero point."""
        return self.low < 0 or bool(self.book)

    @property
    def offset(self) -> int:
        """The offset in ``value = step * u - offset``."""
        return -self.low

    @property
    def stored_bits(self) -> float:
        """Bits that one code takes in an artifact."""
        return 8 / self.storage.per_byte if self.storage.per_byte else self.bits

    @property
    def storage(self) -> Storage:
        """The layout of its codes in an artifact."""
        return storage_of(self.name)

    @property
    def onnx(self) -> ir.DataType:
        """The ONNX type of a code in the IR: a packed type if ONNX has one, else a byte."""
        sign = "INT" if self.low < 0 else "UINT"
        width = max(self.bits, 2)
        import onnx_ir as ir

        return ir.DataType[f"{sign}{width if width in (2, 4) else 8}"]

    @property
    def values(self) -> np.ndarray:
        """The values of the unsigned codes, float32."""
        numbers = self.book or range(self.low, self.high + 1, self.step)
        return np.array(numbers, np.float32)

    def to_unsigned(self, codes: np.ndarray) -> np.ndarray:
        """Codes as stored in the IR -> u = 0, 1, 2, ... as uint8."""
        u: np.ndarray = ((codes.astype(np.int16) - self.low) // self.step).astype(np.uint8)
        return u

    def from_unsigned(self, u: np.ndarray) -> np.ndarray:
        """Undo ``to_unsigned``: int8 or uint8 codes."""
        byte = np.int8 if self.low < 0 else np.uint8
        codes: np.ndarray = (u.astype(np.int16) * self.step + self.low).astype(byte)
        return codes


@dataclass(frozen=True, eq=False)
class Levels:
    """A code book in integers: value = unit * sum_d 256^d (digits[d, u] - 128).

    ``digits`` is uint8 [D, codes]. ``error`` is the relative error (root mean square) of these
    values. It is 0 for fp4 and fp6, which are integers times a power of two; nf4 needs two digits
    to come close.
    """

    digits: np.ndarray
    unit: np.float32
    error: float


@cache
def levels(book: tuple[float, ...]) -> Levels:
    """The shortest integer form of a code book (the paper's convert, lossless where possible).

    It is exact if some number of digits allows that; else it has the fewest digits with an error
    below 1e-5.
    """
    values = np.nan_to_num(np.array(book, np.float64), nan=0.0)
    power = float(np.sqrt(np.square(values).mean())) or 1.0
    found: tuple[np.ndarray, float, float] | None = None
    for digits in range(1, MOST_DIGITS + 1):
        integers, unit = _closest(values, digits)
        error = float(np.sqrt(np.square(integers * unit - values).mean())) / power
        found = (_digits(integers, digits), unit, error)
        if error <= CLOSE_ENOUGH:
            break
    assert found is not None
    return Levels(found[0], np.float32(found[1]), found[2])


def _closest(values: np.ndarray, digits: int) -> tuple[np.ndarray, float]:
    """Integers of ``digits`` signed bytes and the unit that brings them closest to ``values``."""
    largest = float(np.abs(values).max()) or 1.0
    reach = sum(127 * 256**d for d in range(digits))
    power = 2.0 ** np.floor(np.log2(reach / largest))
    exact = np.rint(values * power)
    if (exact == values * power).all() or (digits > 1 and len(values) > 64):
        whole = exact.astype(np.int64)
        common = int(np.gcd.reduce(whole))
        common &= -common  # the largest power of two that divides all
        return whole // common, common / power
    scales = np.linspace(reach / largest / 2, reach / largest, 4096)
    errors = [np.square(np.rint(values * s) / s - values).sum() for s in scales]
    best = float(scales[int(np.argmin(errors))])
    return np.rint(values * best).astype(np.int64), 1 / best


def _digits(integers: np.ndarray, digits: int) -> np.ndarray:
    """The digits, lowest first, with 128 added: uint8 [D, codes]."""
    rows, rest = [], integers
    for _ in range(digits):
        low = (rest + DIGIT_OFFSET) % 256 - DIGIT_OFFSET
        rows.append(low + DIGIT_OFFSET)
        rest = (rest - low) // 256
    return np.stack(rows).astype(np.uint8)


def _integer(bits: int, signed: bool) -> Element:
    if bits == 1 and signed:
        return Element("int1", 1, -1, 1, step=2)
    low = -(1 << (bits - 1)) if signed else 0
    return Element(f"{'' if signed else 'u'}int{bits}", bits, low, low + (1 << bits) - 1)


def code_book(name: str, values: Iterable[float]) -> Element:
    """An element with the code book ``values`` (2 to 256 of them; NaN for an unused code)."""
    book = tuple(float(v) for v in values)
    if not 2 <= len(book) <= LARGEST_BOOK:
        raise LadderError(f"type '{name}': a code book has 2 to 256 values, not {len(book)}")
    if np.isinf(book).any() or np.isnan(book).all():
        raise LadderError(f"type '{name}': its code book has values that are not finite")
    if not np.any(np.nan_to_num(book)):
        raise LadderError(f"type '{name}': its code book has nothing but zeros")
    return Element(name, (len(book) - 1).bit_length(), 0, len(book) - 1, book=book)


def _small_float(name: str, kind: type, bits: int) -> Element:
    """The values of all bit patterns, from ml_dtypes; those that are not finite are unused."""
    patterns = np.arange(1 << bits, dtype=np.uint8).view(kind).astype(np.float32)
    return code_book(name, np.where(np.isfinite(patterns), patterns, np.nan))


# Dettmers et al., QLoRA (NeurIPS'23), appendix E: quantiles of a normal distribution.
NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)

# Of llama.cpp's IQ4_NL and IQ4_XS.
IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)

BUILT_IN = (
    *(_integer(bits, True) for bits in range(1, 9)),
    *(_integer(bits, False) for bits in range(1, 9)),
    Element("ternary", 2, -1, 1),
    Element("ternary2", 2, -1, 1),
    code_book("nf4", NF4),
    code_book("iq4_nl", IQ4_NL),
    _small_float("fp4_e2m1", ml_dtypes.float4_e2m1fn, 4),
    _small_float("fp6_e2m3", ml_dtypes.float6_e2m3fn, 6),
    _small_float("fp6_e3m2", ml_dtypes.float6_e3m2fn, 6),
    _small_float("fp8_e4m3", ml_dtypes.float8_e4m3fn, 8),
    _small_float("fp8_e5m2", ml_dtypes.float8_e5m2, 8),
)
ELEMENTS = {element.name: element for element in BUILT_IN}
# Other names that occur in the text of types (``ladder.ir.dtype``).
RESERVED = frozenset(
    [*SCALE_TYPES, *"row tensor zp zpf min mxfp4 mxfp6 mxfp8 nvfp4 bitnet q4_0 q8_0".split()]
)


def register(element: Element) -> Element:
    """Register a user's type by its name; registering the same definition twice is allowed."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", element.name):
        raise LadderError(
            f"type name '{element.name}': use lower-case letters, digits and _, a letter first"
        )
    if element.name in RESERVED:
        raise LadderError(f"type '{element.name}' is built in; choose another name")
    known = ELEMENTS.get(element.name)
    if known is not None and known != element and element.name in {e.name for e in BUILT_IN}:
        raise LadderError(f"type '{element.name}' is built in; choose another name")
    ELEMENTS[element.name] = element
    return element


def user_elements() -> dict[str, Element]:
    """The types that were registered, by name."""
    built_in = {element.name for element in BUILT_IN}
    return {name: e for name, e in ELEMENTS.items() if name not in built_in}


def user_books() -> dict[str, tuple[float, ...]]:
    """The code books of the registered types, in order, for keys of the cache."""
    return {name: element.book for name, element in sorted(user_elements().items())}
