"""Checkpoints: weights are read one at a time, and are those that transformers loads."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ladder.frontend.load import load
from ladder.frontend.torch_model import WHOLE
from ladder.frontend.types import Source

pytestmark = pytest.mark.models


def same_weights(source: Source, folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    state = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").state_dict()
    weights = source.model.graph.initializers
    found = [name for name in weights if name in state]
    assert len(found) >= len(state) - 1  # a tied weight is one
    for name in found:
        tensor = weights[name].const_value
        assert tensor is not None and np.array_equal(tensor.numpy(), state[name].numpy()), name


def test_weights_are_read_when_asked_for(tiny_folder: Path) -> None:
    source = load(tiny_folder)
    weights = source.model.graph.initializers
    products = [value.const_value for name, value in weights.items() if "proj" in name]
    assert products and all(isinstance(tensor, ir.LazyTensor) for tensor in products)
    assert WHOLE not in source.notes
    same_weights(source, tiny_folder)


def test_other_names_are_left_to_transformers(tiny_folder: Path, tmp_path: Path) -> None:
    """A checkpoint of the model's inner part alone, as some hubs have it."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_folder, tmp_path / "renamed")
    (file,) = folder.glob("*.safetensors")
    tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    source = load(folder)
    assert WHOLE in source.notes
    same_weights(source, folder)
