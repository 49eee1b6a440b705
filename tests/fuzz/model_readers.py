"""Readers of models: ONNX files, checkpoints, artifacts."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzz.mutations import mutate_bytes, mutate_json, mutate_message, mutate_text, mutate_value

Arrays = dict[str, np.ndarray]
ARTIFACT = "LADDER_FUZZ_ARTIFACT"  # a compiled language model


class Read(Exception):
    """A model was read: nothing slower is done with it."""


# ONNX.

GRAPHS: dict[str, tuple[str, int]] = {
    "chain": (
        """g (float[2, 32] x) => (float[2, 16] y) {
            h = MatMul(x, w)  a = Add(h, b)  r = Relu(a)  y = Gemm<transB=1>(r, v, c) }""",
        17,
    ),
    "branches": (
        """g (float[2, 32] x, bool on) => (float[2, 24] y) {
            h = MatMul(x, w)
            y = If(on) <then_branch = t () => (float[2, 24] p) { p = Relu(h) },
                        else_branch = e () => (float[2, 24] q) { q = Neg(h) }> }""",
        21,
    ),
    "open": (
        """g (float[M, 32] x, int64[M] i) => (float[M, 24] y) {
            h = MatMul(x, w)  e = Gather<axis=0>(u, i)  y = Add(h, e) }""",
        13,
    ),
    "image": (
        """g (float[1, 4, 8, 8] x) => (float[1, 6, 8, 8] y) {
            k = Conv<pads=[1, 1, 1, 1], kernel_shape=[3, 3]>(x, f)  y = Clip(k) }""",
        11,
    ),
}


def weights() -> Arrays:
    random = np.random.default_rng(0)
    shapes = {"w": (32, 24), "b": (24,), "v": (16, 24), "c": (16,), "u": (10, 24),
              "f": (6, 4, 3, 3)}  # fmt: skip
    return {name: random.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


@cache
def onnx_seeds() -> list[bytes]:
    import onnx
    from small_graphs import graph

    found = []
    for text, opset in GRAPHS.values():
        used = {name: array for name, array in weights().items() if f" {name})" in text
                or f" {name}," in text or f"({name}," in text}  # fmt: skip
        found.append(graph(text, used, opset).SerializeToString())
    external = onnx.load_from_string(found[0])
    for tensor in external.graph.initializer[:2]:
        size = len(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, "data.bin", 0, size, None)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
    return [*found, external.SerializeToString()]


def mutate_onnx(random: Random, content: bytes) -> bytes:
    import onnx

    if random.random() < 0.3:
        return mutate_bytes(random, content)
    model = onnx.ModelProto()
    model.ParseFromString(content)
    mutate_message(random, model)
    try:
        return bytes(model.SerializeToString())
    except Exception:  # text that is not UTF-8, in a field of text
        return mutate_bytes(random, content)


def read_onnx(path: Path) -> None:
    """Load, look for the sites, and read every weight."""
    from ladder.frontend.onnx_file import load_onnx
    from ladder.ir.site import find_sites

    data = path.with_name("data.bin")
    data.write_bytes(bytes(4096))
    try:
        model = load_onnx(path).model
        for site in find_sites(model)[0]:
            assert np.isfinite(site.weight.const_value.numpy()).size  # type: ignore[union-attr]
    finally:
        data.unlink()


# Checkpoints.

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "vocab_size": 32, "intermediate_size": 24, "max_position_embeddings": 64,
    "tie_word_embeddings": True, "eos_token_id": 0, "rms_norm_eps": 1e-6, "hidden_act": "silu",
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}  # fmt: skip


def tensors() -> Arrays:
    """The weights of a model with ``CONFIG``."""
    random, layer = np.random.default_rng(0), "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (32, 16), "model.norm.weight": (16,),
        f"{layer}input_layernorm.weight": (16,), f"{layer}post_attention_layernorm.weight": (16,),
        f"{layer}self_attn.q_proj.weight": (16, 16), f"{layer}self_attn.k_proj.weight": (8, 16),
        f"{layer}self_attn.v_proj.weight": (8, 16), f"{layer}self_attn.o_proj.weight": (16, 16),
        f"{layer}mlp.gate_proj.weight": (24, 16), f"{layer}mlp.up_proj.weight": (24, 16),
        f"{layer}mlp.down_proj.weight": (16, 24),
    }  # fmt: skip
    return {name: random.standard_normal(s).astype(np.float32) for name, s in shapes.items()}


def safetensors_file() -> bytes:
    header: dict[str, Any] = {}
    data = b""
    for name, array in tensors().items():
        end = len(data) + array.nbytes
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [len(data), end],
        }
        data += array.tobytes()
    return with_header(json.dumps(header).encode(), data)


def with_header(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def folder_seeds() -> list[bytes]:
    """A config and a checkpoint in one: the length of the config comes first."""
    return [with_header(json.dumps(CONFIG).encode(), safetensors_file())]


def mutate_folder(random: Random, content: bytes) -> bytes:
    (size,) = struct.unpack("<Q", content[:8])
    config, weights = content[8 : 8 + size], content[8 + size :]
    kind = random.random()
    if kind < 0.4:
        config = mutate_json(random, config)
    elif kind < 0.6:
        weights = mutate_bytes(random, weights)
    else:
        (size,) = struct.unpack("<Q", weights[:8])
        header = json.loads(weights[8 : 8 + size])
        for _ in range(random.randint(1, 3)):
            header = mutate_value(random, header)
        weights = with_header(json.dumps(header).encode(), weights[8 + size :])
    return with_header(config, weights)


def stopping(function: Callable[[Path], object], path: Path) -> None:
    """Read a checkpoint: all its weights are read, and it is not traced."""
    from ladder.frontend import huggingface

    def stop(_model: object, stored: dict[str, Callable[[], np.ndarray]], *_rest: object) -> None:
        for entry in stored.values():
            getattr(entry, "read", entry)()
        raise Read

    before = huggingface.trace_model
    huggingface.trace_model = stop  # type: ignore[assignment]
    try:
        function(path)
    except Read:
        pass
    finally:
        huggingface.trace_model = before


def read_folder(path: Path) -> None:
    from ladder.frontend.huggingface import load_folder

    content, folder = path.read_bytes(), path.with_name("model")
    (size,) = struct.unpack("<Q", content[:8])
    folder.mkdir()
    try:
        (folder / "config.json").write_bytes(content[8 : 8 + size])
        (folder / "model.safetensors").write_bytes(content[8 + size :])
        stopping(load_folder, folder)
    finally:
        shutil.rmtree(folder)


def gguf_seeds() -> list[bytes]:
    import gguf

    path = Path("seed.gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(16)
    writer.add_block_count(1)
    writer.add_feed_forward_length(24)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(32)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
    for name, array in tensors().items():
        writer.add_tensor(names.get_name(name, (".weight",)), array)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    content = path.read_bytes()
    path.unlink()
    return [content]


def read_gguf(path: Path) -> None:
    from ladder.frontend.huggingface import load_gguf

    stopping(load_gguf, path)


# Artifacts.


def manifest_seeds() -> list[bytes]:
    return [(artifact() / "manifest.json").read_bytes()]


def artifact() -> Path:
    return Path(os.environ[ARTIFACT])


def mutate_manifest(random: Random, content: bytes) -> bytes:
    """Often with the checksum that fits: then the fields are all that can be wrong."""
    from ladder.runtime.manifest import manifest_text

    if random.random() < 0.3:
        return mutate_text(random, content)
    row = json.loads(content)
    for _ in range(random.randint(1, 2)):
        row = mutate_value(random, row)
    whole = isinstance(row, dict) and random.random() < 0.7
    return (manifest_text(row) if whole else json.dumps(row)).encode()


def read_artifact(path: Path) -> None:
    """Load it and feed some tokens: every kind of call is made."""
    from ladder.errors import LadderError
    from ladder.runtime import load
    from ladder.runtime.artifact import own_files
    from ladder.runtime.language_model import LanguageModel

    folder = path.with_name("artifact")
    folder.mkdir()
    try:
        for file in artifact().iterdir():
            (folder / file.name).symlink_to(file)
        (folder / "manifest.json").unlink()
        (folder / "manifest.json").write_bytes(path.read_bytes())
        own_files(folder)
        model = load(folder)
        if not isinstance(model, LanguageModel):
            raise LadderError("no language model")
        model.feed([1, 2, 3, 4, 5])
        model.step(6)
    finally:
        shutil.rmtree(folder)


ROWS: list[tuple[Any, ...]] = [
    ("model.onnx", onnx_seeds, mutate_onnx, read_onnx, 2500),
    ("folder", folder_seeds, mutate_folder, read_folder, 600),
    ("model.gguf", gguf_seeds, mutate_bytes, read_gguf, 400),
    ("manifest.json", manifest_seeds, mutate_manifest, read_artifact, 1000),
]
