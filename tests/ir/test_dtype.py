"""The text form of types, what they cost, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ladder.errors import LadderError
from ladder.ir.dtype import ELEMENTS, DType

GROUPS = st.one_of(st.just("row"), st.just("tensor"), st.integers(1, 1 << 20))


@st.composite
def dtypes(draw: st.DrawFn) -> DType:
    element = draw(st.sampled_from(list(ELEMENTS.values())))
    return DType(element.name, draw(GROUPS), not element.signed)


@given(dtypes())
def test_text_round_trip(dtype: DType) -> None:
    assert DType.parse(str(dtype)) == dtype


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
        ("int9:g32", r"^unknown type 'int9:g32': the element is one of int2, int3, .*, fp32, fp16"),
        ("int1:row", r"unknown type 'int1:row'"),
        ("", r"unknown type ''"),
        ("fp32:g32", r"^type 'fp32:g32': fp32 takes no group; write fp32"),
        ("int4:", r"unknown type 'int4:': '' is not a group; write for example int4:g128"),
        ("int4:128", r"unknown type 'int4:128': '128' is not a group; write .* int4:g128"),
        ("int4:g1.5", r"'g1.5' is not a group"),
        ("int4:rows", r"'rows' is not a group"),
        ("int4", r"^type 'int4' names no group; write int4:g128 or int4:row"),
        ("int4:g0", r"^type 'int4:g0': the group must be positive; write for example g128"),
        ("int4:g-32", r"^type 'int4:g-32': the group must be positive"),
        ("int4:g32:zp", r"int4 has no zero point; write uint4:\.\.\.:zp"),
        ("uint4:g32", r"uint4 needs a zero point; write uint4:g32:zp"),
        ("uint4:zp", r"^type 'uint4:zp' names no group"),
        ("int4:g32:row", r"^type 'int4:g32:row' names two groups; write one of them"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(LadderError, match=message):
        DType.parse(text)
