"""Writes an artifact folder: weights, tokenizer, manifest."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ladder.frontend.types import Source
from ladder.hardware.targets import Level
from ladder.options.requests import CompileOptions
from ladder.options.schema import plain_options
from ladder.pipeline.report import CompileReport
from ladder.runtime.artifact import MANIFEST, TOKENIZER, WEIGHTS, file_hash
from ladder.runtime.manifest import ALIGNMENT, FORMAT, manifest_text
from ladder.support.files import full_disk_is_plain


def write_artifact(
    folder: Path,
    source: Source,
    options: CompileOptions,
    levels: tuple[Level, ...],
    weights: Any,
    functions: list[dict[str, Any]],
    report: CompileReport,
    types: dict[str, tuple[float, ...]],
) -> None:
    with full_disk_is_plain(folder):
        tensors = _write_weights(folder / WEIGHTS, weights.arrays)
        if source.tokenizer is not None:
            (folder / TOKENIZER).write_text(source.tokenizer)
        files = {f.name: file_hash(f) for f in sorted(folder.iterdir())}
        report.size_bytes = sum(f.stat().st_size for f in folder.iterdir())
        manifest = {
            "format": FORMAT,
            "versions": {name: version(name) for name in ("ladder", "apache-tvm", "onnx-ir")},
            "origin": {"path": source.origin, "digest": source.digest},
            "options": plain_options(options),
            "types": types,
            "levels": [level.name for level in levels],
            "files": files,
            "functions": functions,
            "tensors": tensors,
            "language_model": _language_model(source, options),
            "report": report.to_json(),
        }
        (folder / MANIFEST).write_text(manifest_text(manifest))


def _write_weights(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    with path.open("wb") as file:
        for name, array in arrays.items():
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            rows[name] = {
                "dtype": str(array.dtype),
                "shape": list(array.shape),
                "offset": file.tell(),
            }
            file.write(np.ascontiguousarray(array).data)
    return rows


def _language_model(source: Source, options: CompileOptions) -> dict[str, Any] | None:
    if not source.is_language_model:
        return None
    return {
        "context": options.context,
        "chunk": options.chunk,
        "vocabulary": source.vocabulary,
        "eos": list(source.eos),
        "states": [state.to_json() for state in source.states],
        "chat_template": source.chat_template,
        "special_tokens": source.special_tokens,
        "sampling": source.sampling,
    }
