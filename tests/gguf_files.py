"""Tiny GGUF files of random weights, whole, split, damaged, or with what few models have."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from transformers.convert_slow_tokenizer import bytes_to_unicode

VOCABULARY, HIDDEN, INNER, HEADS, KV_HEADS, HEAD = 128, 64, 128, 4, 2, 16
PAIRS = HEAD // 2
LLAMA: dict[str, Any] = {
    "block_count": 1,
    "context_length": 256,
    "embedding_length": HIDDEN,
    "feed_forward_length": INNER,
    "vocab_size": VOCABULARY,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 1e4,
    "rope.dimension_count": HEAD,
}
# Gemma 2 of two layers: a window in the first, caps on attention and on the logits.
GEMMA: dict[str, Any] = {
    **{name: value for name, value in LLAMA.items() if name != "rope.dimension_count"},
    "block_count": 2,
    "attention.key_length": HEAD,
    "attention.value_length": HEAD,
    "attention.sliding_window": 8,
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 3.0,
}
GEMMA_NORMS = ("post_attention_norm", "post_ffw_norm")
ROPE_FREQS = {"rope_freqs.weight": np.array([1, 1, 1, 2, 4, 8, 8, 8], np.float32)}
YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 32,
}

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tensors(
    layers: int = 1,
    norms: tuple[str, ...] = (),
    scale: float = 0.25,
    vocabulary: int = VOCABULARY,
) -> dict[str, Any]:
    """The tensors of a decoder with grouped heads, by llama.cpp's names, in torch's shapes."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    def norm() -> np.ndarray:
        return (1 + rng.standard_normal(HIDDEN) * scale).astype(np.float32)

    found = {"token_embd.weight": weight(vocabulary, HIDDEN), "output_norm.weight": norm()}
    for layer in range(layers):
        block = {name: norm() for name in ("attn_norm", "ffn_norm", *norms)} | {
            "attn_q": weight(HEADS * HEAD, HIDDEN),
            "attn_k": weight(KV_HEADS * HEAD, HIDDEN),
            "attn_v": weight(KV_HEADS * HEAD, HIDDEN),
            "attn_output": weight(HIDDEN, HEADS * HEAD),
            "ffn_gate": weight(INNER, HIDDEN),
            "ffn_up": weight(INNER, HIDDEN),
            "ffn_down": weight(HIDDEN, INNER),
        }
        found |= {f"blk.{layer}.{name}.weight": array for name, array in block.items()}
    return found


def llama_tensors() -> dict[str, Any]:
    return {**tensors(), "output.weight": np.roll(tensors()["token_embd.weight"], 1, 0)}


def write(
    path: Path,
    metadata: Mapping[str, Any] = LLAMA,
    arrays: Mapping[str, np.ndarray] | None = None,
    architecture: str = "llama",
    general: Mapping[str, Any] | None = None,
    kinds: Mapping[str, gguf.GGMLQuantizationType] | None = None,
) -> Path:
    """Write a file; ``general`` are keys as they are, ``kinds`` the types of quantized tensors."""
    writer = gguf.GGUFWriter(path, architecture)
    own = {f"{architecture}.{name}": value for name, value in metadata.items()}
    no_text = {"tokenizer.ggml.model": "no_vocab"}
    for key, value in {**no_text, **(general or {}), **own}.items():
        add = {bool: writer.add_bool, str: writer.add_string, float: writer.add_float32}
        add[list] = writer.add_array
        add.get(type(value), writer.add_uint32)(key, value)
    for name, array in (llama_tensors() if arrays is None else arrays).items():
        kind = (kinds or {}).get(name)
        if kind is None:
            writer.add_tensor(name, np.ascontiguousarray(array))
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_gemma(path: Path, **changed: Any) -> Path:
    arrays = tensors(2, GEMMA_NORMS)
    return write(path, {**GEMMA, **changed}, arrays, "gemma2")


def write_split(folder: Path, first: int = 6) -> list[Path]:
    """Two parts, of which only the first has the model's metadata."""
    arrays = llama_tensors()
    parts = dict(list(arrays.items())[:first]), dict(list(arrays.items())[first:])
    paths = []
    for number, part in enumerate(parts):
        said = {"split.no": number, "split.count": 2, "split.tensors.count": len(arrays)}
        path = folder / f"tiny-{number + 1:05d}-of-00002.gguf"
        paths.append(write(path, {} if number else LLAMA, part, general=said))
    return paths


def number_type(path: Path, tensor: str, kind: int) -> Path:
    """Give a tensor another number as its type."""
    data = bytearray(path.read_bytes())
    at = data.index(tensor.encode()) + len(tensor)
    (count,) = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at + 4 + 8 * count, kind)
    path.write_bytes(data)
    return path


def announce(path: Path, count: int) -> Path:
    """Say in the header that there are so many tensors."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, 8, count)
    path.write_bytes(data)
    return path


def write_with_tokenizer(path: Path) -> Path:
    """A model like SmolLM2-Instruct in small: Q4_1, a token for each byte, a chat template."""
    tokens = [*bytes_to_unicode().values(), "th", "<|im_start|>", "<|im_end|>"]
    first = len(tokens) - 2
    general = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * first + [3, 3],
        "tokenizer.ggml.merges": ["t h"],
        "tokenizer.ggml.bos_token_id": first,
        "tokenizer.ggml.eos_token_id": first + 1,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }
    arrays = tensors(vocabulary=len(tokens))
    kinds = {name: gguf.GGMLQuantizationType.Q4_1 for name in arrays if "norm" not in name}
    metadata = {**LLAMA, "context_length": 2048, "vocab_size": len(tokens)}
    return write(path, metadata, arrays, general=general, kinds=kinds)
