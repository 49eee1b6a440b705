"""What a frontend returns, and which frontend reads what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from ladder.errors import LadderError

STATE_PREFIX = "state."
NEXT_SUFFIX = ".next"
TOKENS, CONTEXT = "tokens", "context"


@dataclass
class Source:
    """A model in the IR, with what a language model needs beside its graph.

    A causal language model has inputs ``input_ids`` [1, tokens], ``position`` [1] (where the
    tokens start) and named states, and outputs ``logits`` and each state's ``NAME.next``.
    """

    model: ir.Model
    origin: str
    digest: str
    tokenizer: str | None = None
    eos: tuple[int, ...] = ()
    chat_template: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def is_language_model(self) -> bool:
        names = {v.name for v in self.model.graph.inputs}
        return {"input_ids", "position"} <= names

    @property
    def vocabulary(self) -> int:
        """Size of a language model's vocabulary: the logits' last axis."""
        shape = self.model.graph.outputs[0].shape
        assert shape is not None and isinstance(shape[-1], int)
        return shape[-1]


def load(path: str | Path) -> Source:
    """Read a model file or folder by what it holds; anything unreadable is a ``LadderError``."""
    where = Path(path)
    if not where.exists():
        raise LadderError(
            f"{where}: no such file or folder; give an ONNX or GGUF file, or a folder"
        )
    if where.is_dir():
        return _load_folder(where)
    if where.suffix == ".gguf":
        from ladder.frontend.huggingface import load_gguf

        return load_gguf(where)
    if where.suffix == ".onnx":
        from ladder.frontend.onnx_file import load_onnx

        return load_onnx(where)
    raise LadderError(f"{where}: unknown kind of file; give .onnx, .gguf or a Hugging Face folder")


def _load_folder(folder: Path) -> Source:
    if (folder / "config.json").exists():
        from ladder.frontend.huggingface import load_folder

        return load_folder(folder)
    found = sorted([*folder.glob("*.gguf"), *folder.glob("*.onnx")])
    if len(found) == 1:
        return load(found[0])
    held = "no" if not found else "more than one"
    raise LadderError(f"{folder}: holds no config.json and {held} .gguf or .onnx; name the file")


def state_pairs(model: ir.Model) -> dict[str, str]:
    """State input name -> output name, by the naming convention."""
    outputs = {v.name for v in model.graph.outputs}
    pairs = {}
    for value in model.graph.inputs:
        name = value.name or ""
        if name.startswith(STATE_PREFIX) and name + NEXT_SUFFIX in outputs:
            pairs[name] = name + NEXT_SUFFIX
    return pairs
