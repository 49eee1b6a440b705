"""Packed weights have the values of their format's rule, and codes where Ladder has the type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch
from packed_checkpoints import CASES, FP4_BNB, Case, gptq

from ladder.errors import LadderError
from ladder.frontend.checkpoints import Folder, read_model
from ladder.frontend.packed import fp8, mxfp4
from ladder.frontend.packed.formats import stored_tensors
from ladder.frontend.weight_files import RawTensor
from ladder.ir.dtype import DType


def packed_folder(folder: Path, case: Case) -> tuple[Path, dict[str, np.ndarray]]:
    """A model with every projection packed, and the weights that these mean."""
    tensors, wanted = checkpoints.weights(), {}
    for owner in checkpoints.projections():
        n, k = tensors.pop(f"{owner}.weight").shape
        made = case.pack(n, k)
        tensors |= {owner + end: tensor for end, tensor in made.tensors.items()}
        wanted[f"{owner}.weight"] = made.values
    return checkpoints.write(folder, tensors, case.settings), wanted


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_packed_model(case: Case, tmp_path: Path) -> None:
    folder, wanted = packed_folder(tmp_path / "m", case)
    stored = read_model(Folder(folder)).stored
    for name, weight in wanted.items():
        found, codes = stored[name].read(), stored[name].codes
        np.testing.assert_allclose(found, weight, rtol=3e-7, atol=0)
        assert (codes is not None) == bool(case.type)
        if codes is not None:
            assert codes().dtype == DType.parse(case.type)
            assert np.array_equal(codes().values(), found)
    assert stored["lm_head.weight"].codes is None


def raw(**tensors: torch.Tensor) -> dict[str, RawTensor]:
    return {
        name: RawTensor(name, tuple(t.shape), str(t.dtype).removeprefix("torch."), lambda t=t: t)  # type: ignore[misc]
        for name, t in tensors.items()
    }


def test_blocks_with_tails_as_transformers_reads_them() -> None:
    """Its own code needs whole blocks: those of the weight with zeros added."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    weight = torch.randn(256, 384).to(torch.float8_e4m3fn)
    scale = torch.rand(2, 3)
    wanted = Fp8Dequantize(None)._dequantize_one(weight, scale, torch.float32)
    parts = raw(weight=weight, scale=scale)
    assert np.array_equal(fp8.scaled(parts["weight"], parts["scale"], (128, 128)).read(), wanted)
    parts = raw(weight=weight[:200, :300], scale=scale)
    found = fp8.scaled(parts["weight"], parts["scale"], (128, 128)).read()
    assert np.array_equal(found, wanted[:200, :300])


def test_mxfp4_experts_as_transformers_reads_them() -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    blocks = torch.randint(0, 256, (3, 8, 2, 16), dtype=torch.uint8)
    scales = torch.randint(120, 130, (3, 8, 2), dtype=torch.uint8)
    wanted = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    parts = raw(_blocks=blocks, _scales=scales)
    found = mxfp4.experts("", parts, {})
    assert found.shape == tuple(wanted.shape) and np.array_equal(found.read(), wanted)


def test_the_book_of_bitsandbytes_fp4_is_not_that_of_e2m1() -> None:
    assert sorted(np.array(FP4_BNB) * 6)[-2:] != [4.0, 6.0]
    assert len(set(FP4_BNB)) == 15


def settings(**changed: Any) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": 4, "group_size": 32, **changed}


GONE = {"quant_method": "compressed-tensors", "format": "marlin-24"}
SPARSE = {"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (settings(bits=5), "quantization_config.bits = 5 has no rule"),
        (settings(checkpoint_format="marlin"), "quantization_config.checkpoint_format = marlin"),
        (settings(group_size=64), "do not fit quantization_config.group_size and bits"),
        (settings(quant_method="awq", version="gemv"), "quantization_config.version = gemv"),
        (settings(quant_method="quanto"), "quantization_config.quant_method = quanto has no rule"),
        (GONE, "quantization_config.format = marlin-24 has no rule"),
        (SPARSE, "quantization_config.sparsity_config.format = sparse-24-bitmask has no rule"),
    ],
    ids=lambda value: value[20:60] if isinstance(value, str) else "",
)
def test_a_setting_without_a_rule(said: dict[str, Any], message: str) -> None:
    tensors = {f"a{end}": tensor for end, tensor in gptq(4, 32, True)(64, 64).tensors.items()}
    with pytest.raises(LadderError) as refused:
        stored_tensors(raw(**tensors), said)
    assert message in str(refused.value)


def test_a_weight_without_its_scales() -> None:
    tensors = {f"a{end}": t for end, t in gptq(4, 32, True)(64, 64).tensors.items()}
    del tensors["a.qzeros"]
    with pytest.raises(LadderError, match=r"a\.qzeros: missing from the checkpoint"):
        stored_tensors(raw(**tensors), settings())


def test_scales_that_do_not_fit() -> None:
    parts = raw(weight=torch.zeros(64, 64).to(torch.float8_e4m3fn), scale=torch.rand(3, 5))
    with pytest.raises(LadderError, match=r"scale: has shape \[3, 5\], which does not fit"):
        fp8.scaled(parts["weight"], parts["scale"])
