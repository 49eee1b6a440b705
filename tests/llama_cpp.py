"""The logits of llama.cpp for tiny GGUF files, which tests compare with (golden/llama_cpp.npz).

    npm install @node-llama-cpp/linux-x64
    python tests/llama_cpp.py node_modules/@node-llama-cpp/linux-x64/bins/linux-x64

writes them anew. Structures are larger than the real ones, since only offsets matter that are read.
"""

from __future__ import annotations

import ctypes as c
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_files
import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "llama_cpp.npz"
TOKENS = np.random.default_rng(1).integers(0, gguf_files.VOCABULARY, 40)
MINUS = 0xFFFFFFFF  # -1 of an enumeration
# What the parameters of a context begin with, as 32-bit integers: their order is checked by it.
CONTEXT, THREADS, CHOICES, FLASH, KEY_TYPE = 0, (7, 8), range(10, 14), 13, 26


def _with(**changed: Any) -> Callable[[Path], Path]:
    names = {f"rope.scaling.{name}": value for name, value in changed.items()}
    return lambda path: gguf_files.write(path, {**gguf_files.LLAMA, **names})


def _factors(path: Path) -> Path:
    arrays = {**gguf_files.llama_tensors(), **gguf_files.ROPE_FREQS}
    return gguf_files.write(path, arrays=arrays)


CASES: dict[str, Callable[[Path], Path]] = {
    "llama": gguf_files.write,
    "llama, rope_freqs": _factors,
    "llama, linear": _with(type="linear", factor=4.0),
    "llama, yarn": _with(type="yarn", factor=4.0, original_context_length=32),
    "gemma 2": gguf_files.write_gemma,
}


class Blob(c.Structure):
    _fields_ = (("bytes", c.c_uint8 * 512),)


class Batch(c.Structure):
    _fields_ = (
        ("count", c.c_int32),
        *((name, c.c_void_p) for name in ("tokens", "embd", "pos", "n_seq", "seq", "logits")),
    )


FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_model_default_params": (Blob, []),
    "llama_context_default_params": (Blob, []),
    "llama_model_load_from_file": (c.c_void_p, [c.c_char_p, Blob]),
    "llama_init_from_model": (c.c_void_p, [c.c_void_p, Blob]),
    "llama_batch_get_one": (Batch, [c.c_void_p, c.c_int32]),
    "llama_decode": (c.c_int32, [c.c_void_p, Batch]),
    "llama_get_logits_ith": (c.POINTER(c.c_float), [c.c_void_p, c.c_int32]),
}


def _library(folder: Path) -> Any:
    def load(stem: str) -> Any:
        (path,) = (p for p in folder.glob(f"{stem}*.so") if p.name[len(stem)] == ".")
        return c.CDLL(str(path), mode=c.RTLD_GLOBAL)

    load("libggml-base")
    ggml = load("libggml")
    ggml.ggml_backend_load_all_from_path.argtypes = [c.c_char_p]
    ggml.ggml_backend_load_all_from_path(str(folder).encode())
    llama = load("libllama")
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(llama, name)
        function.restype, function.argtypes = result, arguments
    llama.llama_backend_init()
    return llama


def _parameters(llama: Any) -> Blob:
    """One thread, attention in plain operators, keys and values in float32."""
    found: Blob = llama.llama_context_default_params()
    numbers = (c.c_uint32 * 128).from_buffer(found)
    assert all(numbers[i] == MINUS for i in CHOICES) and numbers[KEY_TYPE] == 1, list(numbers[:40])
    numbers[CONTEXT] = 256
    for place in THREADS:
        numbers[place] = 1
    numbers[FLASH] = numbers[KEY_TYPE] = numbers[KEY_TYPE + 1] = 0
    return found


def logits(llama: Any, path: Path) -> np.ndarray:
    """[tokens, vocabulary], token by token."""
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    context = llama.llama_init_from_model(model, _parameters(llama))
    rows = []
    for token in TOKENS:
        batch = llama.llama_batch_get_one((c.c_int32 * 1)(int(token)), 1)
        assert llama.llama_decode(context, batch) == 0
        found = llama.llama_get_logits_ith(context, -1)
        rows.append(np.ctypeslib.as_array(found, (gguf_files.VOCABULARY,)).copy())
    return np.stack(rows)


def main(folder: Path) -> None:
    llama = _library(folder)
    with tempfile.TemporaryDirectory() as aside:
        found = {name: logits(llama, make(Path(aside) / "m.gguf")) for name, make in CASES.items()}
    np.savez_compressed(GOLDEN, allow_pickle=False, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
