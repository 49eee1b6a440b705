"""The layers of a model as work for tensor cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from small_graphs import graph, random

from ladder.codegen.hardware.workloads import usual_widths
from ladder.errors import LadderError
from ladder.evaluation.tensor_cores import LAYERS, layers_of
from ladder.hardware.tensor_cores import tensor_core
from ladder.ir.site import find_sites
from ladder.pipeline.sources import load_source


@pytest.mark.models
def test_products_are_those_of_layers(tiny_chat_folder: Path) -> None:
    work = layers_of(tiny_chat_folder)
    sites = {site.name: site for site in find_sites(load_source(tiny_chat_folder).model)[0]}
    names = work.name.partition(" of ")[0].split(", ")
    assert len(work.products) == LAYERS
    for name, product in zip(names, work.products, strict=True):
        assert np.array_equal(product.weight, sites[name].array())
        assert product.x.shape[1] == sites[name].k and np.abs(product.x).max() > 0
    core, _ = tensor_core("ltc-m2n8k4-int8")
    for bits in usual_widths(core):
        stream = work.stream(core, bits)
        assert stream.start.sum() == LAYERS and stream.x.shape[1:] == (2, 4)


def test_a_model_of_images_has_no_text(tmp_path: Path) -> None:
    body = "g (float[M, 64] x) => (float[M, 40] y) { y = MatMul(x, w) }"
    onnx.save(graph(body, {"w": random(64, 40)}), tmp_path / "model.onnx")
    with pytest.raises(LadderError, match="not a language model"):
        layers_of(tmp_path / "model.onnx")
