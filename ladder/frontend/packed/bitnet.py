"""BitNet: four ternary codes in a byte, and one scale for the tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ladder.errors import LadderError
from ladder.frontend.packed.stored import StoredTensor, array, need, of_codes, raw_bytes, setting
from ladder.frontend.weight_files import RawTensor
from ladder.ir.codes import Codes
from ladder.ir.dtype import DType


def read(owner: str, parts: Mapping[str, RawTensor], settings: Mapping[str, Any]) -> StoredTensor:
    """``weight`` uint8 [N/4, K]: row n of part i is bits 2i, 2i+1 of row n, plus one.

    ``bitlinear`` divides its products by ``weight_scale``, ``autobitlinear`` multiplies.
    """
    divides = setting(settings, "linear_class", ("bitlinear", "autobitlinear")) == "bitlinear"
    setting(settings, "quantization_mode", ("offline",))
    setting(settings, "use_rms_norm", (False,))
    weight, scale = need(parts, ".weight", owner), need(parts, ".weight_scale", owner)
    if weight.dtype != "uint8":
        raise LadderError(f"{owner}.weight: stored as {weight.dtype}, not packed into uint8")
    rows, k = weight.shape

    def codes() -> Codes:
        factor = array(scale).reshape(1, 1).astype(np.float32)
        packed = raw_bytes(weight)
        parts_of_n = [(packed >> shift & 3).astype(np.int8) - 1 for shift in (0, 2, 4, 6)]
        found = np.concatenate(parts_of_n)
        return Codes(DType.parse("ternary:tensor"), found, 1 / factor if divides else factor)

    return of_codes((4 * rows, k), codes)
