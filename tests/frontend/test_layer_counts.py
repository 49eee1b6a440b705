"""Numbers of layers that no checkpoint has are refused before anything is built."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
from fuzz.model_readers import CONFIG, safetensors_file

import ladder
from ladder.errors import LadderError

pytestmark = pytest.mark.models
LAYERS = (1 << 31) - 1


def test_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": LAYERS}))
    (tmp_path / "model.safetensors").write_bytes(safetensors_file())
    with pytest.raises(LadderError, match=rf"has {LAYERS} layers, and holds 11 tensors"):
        ladder.load(tmp_path)


def test_in_a_gguf_file(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_block_count(LAYERS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(LadderError, match=rf"has {LAYERS} layers, and holds 0 tensors"):
        ladder.load(tmp_path / "model.gguf")
