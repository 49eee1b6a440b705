"""Outliers in digits: properties of the reference, and the dialect's bodies compared with it."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from dialect_cases import Case, assert_close, run

from ladder.errors import LadderError
from ladder.ir import numerics
from ladder.ir.activation import QUANTIZED, block_of, check, overload
from ladder.ir.dialect import product_overload
from ladder.ir.dtype import DType
from ladder.ir.mux import Mux, mux_activation, mux_sums

CHANNELS = np.array([2, 17, 33, 34, 70])
MODES = ["int8:tensor", "int8:token", "int8:static", "int8", "int6:token", "int5:static", "int4"]
TYPES = ["int8:row", "int4:g32", "uint4:row:zp", "uint2:g20:zp", "ternary:tensor", "int1:row",
         "uint4:g32:zpf", "uint3:tensor:fp16:zp", "int4:g512"]  # fmt: skip


def spiky(case: Case, largest: float = 50) -> numerics.F32:
    """The case's activations with outliers up to ``largest`` times the ordinary ones."""
    x = case.x.copy()
    x[:, CHANNELS] *= np.linspace(largest / 4, largest, len(CHANNELS), dtype=np.float32)
    return x


def mux_of(mode: str, method: str) -> Mux:
    """One that fits a mode."""
    if method == "muxq":
        return Mux("muxq", 2)
    bits = QUANTIZED[mode].bits
    return Mux("digits", min(6, bits - 1), 2 if method == "three" else 1)


def static_of(x: numerics.F32, mode: str, mux: Mux | None = None) -> np.float32 | None:
    """A scale that clips some values."""
    kind = QUANTIZED[mode]
    if kind.granularity != "static":
        return None
    small = np.ones(x.shape[1], np.float32)
    if mux is not None:
        small[CHANNELS] /= mux.reach
    return np.float32(0.7 * np.abs(x * small).max() / kind.levels)


@pytest.mark.parametrize("mode", sorted(QUANTIZED))
def test_every_mode_of_a_plain_product(mode: str) -> None:
    for text in ("int8:row", "uint4:g20:zp"):
        case, kind = Case.of(text), QUANTIZED[mode]
        dtype, static = case.dtype, static_of(case.x, mode)
        block = block_of(dtype, mode, case.x.shape[1])
        q, scale, total = numerics.quantize_activation(
            case.x, block, kind.bits, kind.granularity, static
        )
        operands = [case.x[None]] + ([] if static is None else [np.array([static])])
        got = run("QuantizeActivation", overload(mode, block), operands)
        for a, b in zip(got, (q, scale, total), strict=True):
            np.testing.assert_array_equal(a[0], b)
        assert np.abs(q).max() == kind.levels
        blocks = q.shape[1]
        zeros, scales = case.zeros[:, :blocks], case.block_scale[:, :blocks]
        sums = numerics.dot_sums(q, total, case.unsigned, zeros, block, dtype.element.step)
        wanted = numerics.combine(sums, scales, scale)
        text = product_overload(dtype, block)
        assert_close(run("DotGemm", text, [*got, *case.operands])[0], wanted)
        (table,) = run("TabulateActivation", overload(mode, block), [got[0]])
        form = "int4" if kind.exact_tables_fit_a_byte else "int8"
        assert_close(run("LutGemm", f"{form}:{text}", [table, *got[1:], *case.operands])[0], wanted)


@pytest.mark.parametrize("method", ["digits", "three", "muxq"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", TYPES)
def test_muxed_products(text: str, mode: str, method: str) -> None:
    case, kind, mux = Case.of(text), QUANTIZED[mode], mux_of(mode, method)
    dtype, x, k = case.dtype, spiky(case), case.x.shape[1]
    block, static = block_of(dtype, mode, k), static_of(x, mode, mux)
    parts = mux_activation(x, CHANNELS, mux, block, kind.bits, kind.granularity, static)
    operands = [x[None], CHANNELS] + ([] if static is None else [np.array([static])])
    got = run("MuxActivation", f"{mode}:{mux}:k{block}", operands)
    for a, b in zip(got, parts, strict=True):
        np.testing.assert_array_equal(a[0], b)
    body, aux, scale, total = parts
    blocks = body.shape[1]
    zeros, scales = case.zeros[:, :blocks], case.block_scale[:, :blocks]
    sums = mux_sums(
        body, aux, total, CHANNELS, mux, case.unsigned, zeros, block, dtype.element.step
    )
    wanted = numerics.combine(sums, scales, scale)
    overload = f"{mux}:{product_overload(dtype, block)}"
    assert_close(run("MuxGemm", overload, [*got, CHANNELS, *case.operands])[0], wanted)


def test_digits_by_hand() -> None:
    """Scale 1: 1000 is 8 * 128 - 24; the reach of 127 * 128 is not needed."""
    x = np.array([[127, 1000, -3, -1000]], np.float32)
    body, aux, scale, total = mux_activation(x, np.array([1, 3]), Mux("digits", 7), 4)
    assert body.tolist() == [[[127, -24, -3, 24]]] and aux.tolist() == [[[8, -8]]]
    assert scale.tolist() == [[1]] and total.tolist() == [[124]]


def test_three_digits_by_hand() -> None:
    """Base 16: 1000 = 4 * 256 - 2 * 16 + 8; ties go to even."""
    x = np.array([[7, 1000]], np.float32)
    body, aux, _, total = mux_activation(x, np.array([1]), Mux("digits", 4, 2), 2, bits=4)
    assert body[0, 0, :2].tolist() == [7, 8] and aux.tolist() == [[[-2], [4]]]
    assert total.tolist() == [[1007]]


def test_muxq_by_hand() -> None:
    """The paper: body = aux = x / 4, joined by 3; its step for outliers is 4 times as large."""
    x = np.array([[127, 400, 2]], np.float32)
    body, aux, scale, total = mux_activation(x, np.array([1]), Mux("muxq", 2), 3)
    assert body[0, 0, :3].tolist() == [127, 100, 2] and aux.tolist() == [[[100]]]
    assert scale.tolist() == [[1]] and total.tolist() == [[529]]


@pytest.mark.parametrize("largest", [1.0, 60.0, 1e4])
@pytest.mark.parametrize("mode", ["int8:tensor", "int6:token"])
def test_digits_are_exact_in_the_step_of_one_scale(mode: str, largest: float) -> None:
    """body + f aux is round(x / scale): no outlier is ever clipped, however large."""
    case, kind = Case.of("int8:row"), QUANTIZED[mode]
    for mux in (Mux("digits", 5), Mux("digits", 3, 2)):
        x = spiky(case, largest)
        body, aux, scale, total = mux_activation(
            x, CHANNELS, mux, x.shape[1], kind.bits, kind.granularity
        )
        whole = body[:, 0, : x.shape[1]].astype(np.int64)
        for d in range(mux.digits):
            whole[:, CHANNELS] += aux[:, d].astype(np.int64) * mux.factor ** (d + 1)
        np.testing.assert_array_equal(whole.sum(1), total[:, 0])
        assert np.abs(whole * scale.astype(np.float64) - x).max() <= scale.max() * 0.501
        assert max(np.abs(body).max(), np.abs(aux).max()) <= kind.levels


def test_two_digits_beat_the_paper_which_beats_nothing() -> None:
    """papers.md 3.4: the error of the output by method, at the same cost."""
    rng = np.random.default_rng(zlib.crc32(b"mux"))
    x = rng.standard_normal((64, 256)).astype(np.float32)
    x[:, [3, 90, 200]] *= 60
    w = rng.integers(0, 256, (48, 256)).astype(np.uint8)
    exact = x.astype(np.float64) @ (w.T.astype(np.float64) - 128)
    zero, channels = np.full((48, 1), 128, np.int32), np.array([3, 90, 200])
    errors = []
    for mux in (None, Mux("muxq", 2), Mux("digits", 6)):
        if mux is None:
            q, scale, total = numerics.quantize_activation(x, 256, 8, "tensor")
            sums = numerics.dot_sums(q, total, w, zero, 256)
        else:
            parts = mux_activation(x, channels, mux, 256, 8, "tensor")
            scale = parts[2]
            sums = mux_sums(parts[0], parts[1], parts[3], channels, mux, w, zero, 256)
        y = numerics.combine(sums, np.ones((48, 1), np.float32), scale)
        errors.append(np.linalg.norm(y - exact) / np.linalg.norm(exact))
    assert errors[0] > 2.5 * errors[1] and errors[1] > 8 * errors[2]


def test_what_cannot_be_muxed_says_why() -> None:
    row = DType.parse("int8:row")
    assert Mux("digits", 7).refuse("int8:tensor", row, 4096, 41) is None
    cases = [
        (Mux("digits", 8), "int8:tensor", "int8:row", 41, "low digit"),
        (Mux("digits", 7, 2), "int8:tensor", "int8:row", 41, "overflow"),
        (Mux("digits", 7, 3), "int8:tensor", "int8:row", 4, "2\\^24"),
        (Mux("digits", 4), "int8:tensor", "nf4:g64", 4, "book"),
        (Mux("digits", 4), "int8:tensor", "ternary:g64", 4, "ternary:row"),
        (Mux("digits", 4), "table8", "int4:g64", 4, "no integer codes"),
    ]
    for mux, mode, text, outliers, words in cases:
        reason = mux.refuse(mode, DType.parse(text), 4096, outliers)
        assert reason is not None and words.replace("\\", "") in reason


@pytest.mark.parametrize("text", ["digits", "muxq2x2", "digits0", "shift3", ""])
def test_a_mistyped_mux_is_refused(text: str) -> None:
    with pytest.raises(LadderError, match="write for example digits7"):
        Mux.parse(text)


def test_modes_are_written_short() -> None:
    assert [check(m) for m in ("int8:block", "int4:token", "int6", "int8:static")] == [
        "int8", "int4", "int6", "int8:static",
    ]  # fmt: skip
    for wrong in ("int8:row", "int3", "table8:token", "fp32:tensor", ""):
        with pytest.raises(LadderError, match="unknown activation mode"):
            check(wrong)
