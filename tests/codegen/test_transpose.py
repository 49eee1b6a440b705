"""Transposes of matrices have a kernel of their own; others stay with TVM."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from compiled import run_compiled
from kernel_cases import HERE
from small_graphs import graph, random

from ladder.hardware.targets import Level

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize("level", HERE[:2] + HERE[-1:], ids=lambda level: level.name)
@pytest.mark.parametrize(
    ("shape", "axes", "kernel"),
    [
        ((1, 33, 50), (0, 2, 1), "transpose_33x50"),
        ((48, 1, 16), (2, 1, 0), "transpose_48x16"),
        ((1, 15, 64), (0, 2, 1), ""),
        ((2, 16, 32), (0, 2, 1), ""),
        ((1, 40, 32), (1, 0, 2), ""),
    ],
)
def test_transposed(
    level: Level, shape: tuple[int, ...], axes: tuple[int, ...], kernel: str
) -> None:
    x = random(*shape)
    made = x.transpose(axes)
    types = f"(float{[*shape]} x) => (float{[*made.shape]} y)"
    text = f"g {types} {{ y = Transpose <perm = {[*axes]}> (x) }}"
    found = run_compiled(ir.from_proto(graph(text, {})), level, {"x": x})
    assert np.array_equal(found.outputs[0], made)
    assert {name for name in found.kernels if "x" in name} == ({kernel} if kernel else set())
