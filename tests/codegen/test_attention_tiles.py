"""Attention of several tokens at once has the bits of attention row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from kernel_cases import HERE, built

from ladder.codegen.kernels.attention import Form, rows_kernel
from ladder.codegen.kernels.attention_tiles import attention

pytestmark = pytest.mark.kernels
PLAIN = Form(1, 6, 2, 11, 37, 24, 20, scale=0.3, past=26)
FORMS = {
    "causal": PLAIN,
    "lengths, two sequences": replace(PLAIN, batch=2, s=17, lengths=True),
    "a mask of two sequences": replace(PLAIN, batch=2, past=None, mask=(2, 1, 11, 37)),
    "a shorter mask for each head": replace(PLAIN, mask=(1, 6, 1, 30)),
    "a float mask": replace(PLAIN, mask=(1, 1, 11, 37), mask_type="float32"),
    "a softcap": replace(PLAIN, softcap=2.0),
    "half of the heads in a second task": replace(PLAIN, heads=10, d=16, dv=64),
    "float16": replace(PLAIN, stored="float16"),
    "float16 without an instruction": replace(PLAIN, stored="float16", widening=False),
    "codes": replace(PLAIN, stored="int8"),
}


@pytest.mark.parametrize("name", FORMS)
def test_tiles_have_the_bits_of_rows(name: str) -> None:
    form = FORMS[name]
    feeds = inputs(form)
    rows, tiles = (computed(kernel(form), feeds) for kernel in (rows_kernel, attention))
    assert np.abs(rows).max() > 0
    assert np.array_equal(rows, tiles)


def inputs(form: Form) -> list[np.ndarray]:
    """All operands; a query that sees no key, and hidden keys whose values are not finite."""
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {
        o.name: 2 * rng.standard_normal(o.sized()) for o in form.operands if o.when
    }
    if "mask" in made:
        shown = made["mask"] > -1
        shown[:, :, 1:][..., -1:, :] = False
        made["mask"] = shown if form.mask_type == "bool" else np.where(shown, made["mask"], -np.inf)
    if "lengths" in made:
        made["lengths"][:] = form.c - 3
        made["values"][..., form.c - 3 :, :] = np.inf
    if form.stored == "int8":
        made |= {name: made[name] * 60 for name in ("keys", "values")}
    return [made[o.name].astype(o.dtype) for o in form.operands if o.when]


def computed(kernel: tvm.tirx.PrimFunc, feeds: list[np.ndarray]) -> np.ndarray:
    tensors = [tvm.runtime.tensor(feed) for feed in feeds]
    built(kernel, HERE[-1].name)(*tensors)
    return np.asarray(tensors[-1].numpy())
