"""The text form of types, their bits per weight, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladder.errors import LadderError
from ladder.ir.dtype import ALIASES, FLOATS, INTEGER_ZERO, NO_ZERO, SCALES, ZEROS, DType
from ladder.ir.element import ELEMENTS, RESERVED

GROUPS = st.one_of(st.just("row"), st.just("tensor"), st.integers(1, 1 << 20))


@st.composite
def dtypes(draw: st.DrawFn) -> DType:
    """Any type: an element, a group, a scale type, and a zero point that fits them."""
    element = draw(st.sampled_from(list(ELEMENTS.values())))
    scale = draw(st.sampled_from(list(SCALES)))
    zeros = ZEROS if SCALES[scale].itemsize >= 2 else (INTEGER_ZERO,)
    zero = NO_ZERO if element.signed else draw(st.sampled_from(zeros))
    return DType(element.name, draw(GROUPS), zero, scale)


@given(dtypes())
def test_text_round_trip(dtype: DType) -> None:
    assert DType.parse(str(dtype)) == dtype


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("group", ["g32", "row", "tensor"])
def test_text_round_trip_of_each(element: str, scale: str, group: str) -> None:
    """The scale type is written where it is not fp32, in one order."""
    zero = "" if ELEMENTS[element].signed else ":zp"
    shown = "" if scale == "fp32" else f":{scale}"
    text = f"{element}:{group}{shown}{zero}"
    assert str(DType.parse(f"{element}{zero}:{scale}:{group}")) == text
    assert str(DType.parse(text)) == text


@pytest.mark.parametrize(
    ("alias", "name", "group", "scale", "stored"),
    [
        ("mxfp4", "fp4_e2m1", 32, "e8m0", 4.25),
        ("mxfp6", "fp6_e2m3", 32, "e8m0", 6.25),
        ("mxfp8", "fp8_e4m3", 32, "e8m0", 8.25),
        ("nvfp4", "fp4_e2m1", 16, "e4m3", 4.5 + 32 / 2**20),  # and one scale for the tensor
        ("bitnet", "ternary", "tensor", "fp32", 1.6 + 32 / 2**20),  # five to a byte
        ("q4_0", "int4", 32, "fp16", 4.5),
        ("q8_0", "int8", 32, "fp16", 8.5),
    ],
)
def test_aliases(alias: str, name: str, group: int | str, scale: str, stored: float) -> None:
    dtype = DType.parse(alias)
    assert (dtype.name, dtype.group, dtype.scale, dtype.zero) == (name, group, scale, "")
    assert str(dtype) == ALIASES[alias] and DType.parse(str(dtype)) == dtype
    assert dtype.bits_per_weight(1024, 1024) == pytest.approx(stored, rel=1e-12)


def test_every_alias_is_tested() -> None:
    marks = test_aliases.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in marks[0].args[1]} == set(ALIASES)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("uint4:g32:zp", "uint8"),
        ("uint4:g32:e4m3:zp", "uint8"),
        ("uint4:g32:zpf", "float32"),
        ("uint1:g32:fp16:zpf", "float16"),
        ("uint8:row:bf16:zpf", "bfloat16"),
    ],
)
def test_zero_points_are_a_byte_or_like_the_scale(text: str, kind: str) -> None:
    assert DType.parse(text).zero_kind == np.dtype(kind)


@given(dtypes())
def test_code_books_have_an_integer_form(dtype: DType) -> None:
    assert (dtype.levels is None) == (not dtype.element.book)


@given(dtypes(), st.integers(1, 300), st.integers(1, 3000))
def test_scales_cover_every_weight_once(dtype: DType, n: int, k: int) -> None:
    rows, groups = dtype.scale_shape(n, k)
    assert rows == (1 if dtype.group == "tensor" else n)
    assert (groups - 1) * dtype.group_size(k) < k <= groups * dtype.group_size(k)


@given(dtypes())
def test_blocks_never_straddle_groups(dtype: DType) -> None:
    assert not isinstance(dtype.group, int) or dtype.group % dtype.block == 0
    assert dtype.block > 0


@pytest.mark.parametrize("text", ["fp32", "fp16"])
def test_floats(text: str) -> None:
    dtype = DType.parse(text)
    assert dtype.is_float and str(dtype) == text
    assert dtype.bits_per_weight(3, 5) == int(text[2:])


def test_parse_takes_parts_in_any_order_and_spaces() -> None:
    assert DType.parse(" uint4:zp:g32 ") == DType.parse("uint4:g32:zp")


@pytest.mark.parametrize(
    ("text", "n", "k", "bits"),
    [
        ("int4:g128", 64, 1024, 4 + 32 / 128),
        ("int2:g64", 64, 1024, 2 + 32 / 64),
        ("uint4:g32:zp", 64, 1024, 4 + (32 + 8) / 32),
        ("int8:row", 64, 1024, 8 + 32 / 1024),
        ("int3:tensor", 8, 16, 3 + 32 / 128),
        ("uint2:tensor:zp", 8, 16, 2 + 40 / 128),
        ("uint4:g32:fp16:zp", 64, 1024, 4 + (16 + 8) / 32),
        ("uint4:g32:fp16:zpf", 64, 1024, 4 + (16 + 16) / 32),
        ("uint1:g64:zpf", 64, 1024, 1 + (32 + 32) / 64),
        ("int1:row:bf16", 64, 1024, 1 + 16 / 1024),
        ("nf4:g64:fp16", 64, 1024, 4 + 16 / 64),
        ("ternary2:g64:e8m0", 64, 1024, 2 + 8 / 64),
        ("int4:g128", 1, 130, (130 * 4 + 2 * 32) / 130),  # the tail has a scale of its own
    ],
)
def test_bits_per_weight(text: str, n: int, k: int, bits: float) -> None:
    assert DType.parse(text).bits_per_weight(n, k) == bits


@pytest.mark.parametrize(
    ("name", "low", "high", "onnx"),
    [
        ("int2", -2, 1, "INT2"),
        ("uint2", 0, 3, "UINT2"),
        ("int3", -4, 3, "INT8"),
        ("int4", -8, 7, "INT4"),
        ("uint5", 0, 31, "UINT8"),
        ("int8", -128, 127, "INT8"),
    ],
)
def test_elements(name: str, low: int, high: int, onnx: str) -> None:
    element = ELEMENTS[name]
    assert (element.low, element.high, element.onnx.name) == (low, high, onnx)
    assert element.offset == -low


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "int9:g32",
            r"^unknown type 'int9:g32': the element must be one of int1, int2, .*, fp32, fp16",
        ),
        ("int0:row", r"unknown type 'int0:row'"),
        ("mxfp4:g32", r"unknown type 'mxfp4:g32'"),  # an alias is whole
        ("", r"unknown type ''"),
        ("fp32:g32", r"^type 'fp32:g32': fp32 takes no group; write fp32"),
        ("int4:", r"unknown type 'int4:': '' is not a group, .*; write for example int4:g128"),
        ("int4:128", r"unknown type 'int4:128': '128' is not a group, .*; write .* int4:g128"),
        ("int4:g1.5", r"'g1.5' is not a group"),
        ("int4:rows", r"'rows' is not a group"),
        ("int4", r"^type 'int4' names no group; write int4:g128 or int4:row"),
        ("int4:g0", r"^type 'int4:g0': the group must be positive; write for example g128"),
        ("int4:g-32", r"^type 'int4:g-32': the group must be positive"),
        ("int4:g32:zp", r"int4 has no zero point; write uint4:\.\.\.:zp"),
        ("uint4:g32", r"uint4 needs a zero point; write uint4:g32:zp"),
        ("uint4:zp", r"^type 'uint4:zp' names no group"),
        ("nf4:g64:zp", r"^type 'nf4:g64:zp': nf4 is a code book and has no zero point"),
        ("ternary:row:zpf", r"^type 'ternary:row:zpf': ternary has no zero point; write ternary:"),
        ("uint1:row", r"^type 'uint1:row': uint1 needs a zero point; write uint1:row:zp"),
        ("int4:g32:fp16:bf16", r"^type 'int4:g32:fp16:bf16' names two scale types; write one"),
        (
            "int4:g32:fp17",
            r"'fp17' is not a group, a scale type \(fp32, .*\) or a zero point",
        ),
        ("uint4:g32:e8m0:zpf", r"^type .*: a float zero point is stored like the scale, and e8m0 "),
        ("uint4:g32:e4m3:zpf", r"e4m3 is too coarse for one; use fp32, fp16 or bf16 scales"),
        ("int4:fp16", r"^type 'int4:fp16' names no group"),
        ("int4:g32:row", r"^type 'int4:g32:row' names two groups; write one of them"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(LadderError, match=message):
        DType.parse(text)


def test_a_users_type_cannot_have_the_name_of_a_part() -> None:
    parts = {*ALIASES, *SCALES, *FLOATS, "row", "tensor", NO_ZERO, *ZEROS}
    assert parts - {NO_ZERO} == RESERVED
