"""The codes of GGUF's block types mean exactly what gguf decodes."""

from __future__ import annotations

from pathlib import Path

import gguf
import gguf_files
import numpy as np
import pytest

from ladder.errors import LadderError
from ladder.frontend.checkpoints import Gguf, read_model
from ladder.frontend.gguf.blocks import BLOCKS, codes_of
from ladder.frontend.gguf.header import TensorInfo

ROWS, COLUMNS = 6, 512
FLOATS = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
          "TQ1_0": (52,), "TQ2_0": (64,), "Q4_1": (0, 2), "Q5_1": (0, 2), "MXFP4": (),
          "NVFP4": ()}  # fmt: skip  # where a block has float16 numbers; others: at 0
ATTENTION = "blk.0.attn_q.weight"


def blocks(kind: str, seed: int = 0) -> np.ndarray:
    """Random bytes of whole blocks; the floats in them are finite, and scales are not one."""
    rng = np.random.default_rng(seed)
    size, count = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    raw = rng.integers(0, 256, (ROWS * COLUMNS // size, count), dtype=np.uint8)
    for at in FLOATS.get(kind, (0,)):
        numbers = rng.standard_normal(len(raw)).astype(np.float16)
        raw[:, at : at + 2] = numbers.view(np.uint8).reshape(-1, 2)
    if kind == "MXFP4":
        raw[:, 0] = rng.integers(0, 250, len(raw))
    if kind == "NVFP4":
        raw[:, :4] = rng.integers(0, 0x7F, (len(raw), 4))
    if kind == "TQ2_0":  # digits 0, 1, 2
        raw[:, :64] = rng.choice(np.array([0x00, 0x15, 0x24, 0x99, 0x86], np.uint8), (len(raw), 64))
    return raw


def tensor(kind: str, raw: np.ndarray, folder: Path) -> TensorInfo:
    raw.tofile(folder / kind)
    return TensorInfo("w", (ROWS, COLUMNS), kind, folder / kind, 0, raw.size)


@pytest.mark.parametrize("kind", BLOCKS)
def test_codes_have_the_values_that_gguf_decodes(kind: str, tmp_path: Path) -> None:
    raw = blocks(kind)
    wanted = gguf.dequantize(raw.reshape(ROWS, -1), gguf.GGMLQuantizationType[kind])
    found = codes_of(tensor(kind, raw, tmp_path))
    assert str(found.dtype) == BLOCKS[kind].type
    assert np.array_equal(found.values(), wanted)


def test_a_block_with_a_minimum_and_no_scale_is_constant(tmp_path: Path) -> None:
    raw = blocks("Q4_1")
    raw[:, :2] = 0
    values = codes_of(tensor("Q4_1", raw, tmp_path)).values().reshape(-1, 32)
    assert (values == values[:, :1]).all() and np.unique(values).size > 1


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q6_K"])
def test_scales_that_are_not_finite_are_refused(kind: str, tmp_path: Path) -> None:
    raw = blocks(kind)
    at = FLOATS.get(kind, (0,))[0]
    raw[3, at : at + 2] = np.array([np.inf], np.float16).view(np.uint8)
    with pytest.raises(LadderError, match="w has scales that are not finite; the file is damaged"):
        codes_of(tensor(kind, raw, tmp_path))


def test_a_fourth_ternary_digit_is_refused(tmp_path: Path) -> None:
    raw = blocks("TQ2_0")
    raw[0, 5] = 0xFF
    with pytest.raises(LadderError, match="w has codes that TQ2_0 has not; the file is damaged"):
        codes_of(tensor("TQ2_0", raw, tmp_path))


def test_rows_that_the_model_moves_are_moved(tmp_path: Path) -> None:
    """llama.cpp stores the rows of q and k in another order."""
    kinds = {ATTENTION: gguf.GGMLQuantizationType.Q4_1}
    stored = read_model(Gguf.at(gguf_files.write(tmp_path / "m.gguf", kinds=kinds))).stored
    query = next(t for name, t in stored.items() if name.endswith("q_proj.weight"))
    assert query.codes is not None
    assert np.array_equal(query.codes().values(), query.read())
    assert all(t.codes is None for name, t in stored.items() if "q_proj" not in name)
