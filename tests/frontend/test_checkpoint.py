"""Checkpoints: weights are read one at a time, and are those that transformers loads."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ladder.errors import LadderError
from ladder.frontend.checkpoint import in_gguf
from ladder.frontend.huggingface import WHOLE
from ladder.frontend.load import load
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


def test_a_type_that_gguf_cannot_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found when the weight is read: the file's header is sound."""
    import gguf
    from transformers import LlamaConfig, LlamaForCausalLM

    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(1)
    rows = np.zeros((4, 32 // 32 * 18), np.uint8)
    writer.add_tensor("blk.0.ffn_up.weight", rows, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    small = LlamaConfig(hidden_size=32, intermediate_size=4, num_hidden_layers=1, vocab_size=8,
                        num_attention_heads=1, num_key_value_heads=1)  # fmt: skip
    (read,) = in_gguf(path, LlamaForCausalLM(small)).values()
    assert read().shape == (4, 32)
    monkeypatch.delitem(gguf.quants._type_traits, gguf.GGMLQuantizationType.Q4_0)
    with pytest.raises(
        LadderError, match=r"blk\.0\.ffn_up\.weight has type Q4_0, which gguf cannot"
    ):
        read()
