"""Where a model comes from: a Hugging Face folder, or a GGUF file, of one or several parts."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ladder.errors import LadderError, one_line
from ladder.frontend.gguf import weights as gguf_weights
from ladder.frontend.gguf.config import amend
from ladder.frontend.gguf.files import read_files
from ladder.frontend.gguf.header import Header
from ladder.frontend.gguf.rope import divide_frequencies
from ladder.frontend.onnx_file import file_digest
from ladder.frontend.packed.formats import stored_tensors
from ladder.frontend.packed.stored import Stored
from ladder.frontend.torch_model import Opened, check_decoder, open_model
from ladder.frontend.weight_files import raw_tensors, weight_files

LOCAL: dict[str, Any] = {"local_files_only": True}
TRUST = "trust_remote_code"  # Python code in a folder is run or refused, never asked about
OLD_GPTQ = "quantize_config.json"  # of AutoGPTQ, where config.json says nothing


class Checkpoint(Protocol):
    """A model with its weights, as transformers and we read it."""

    @property
    def origin(self) -> str: ...

    def digest(self) -> str: ...

    def open(self) -> Opened: ...

    def tokenizer(self) -> Any: ...


@dataclass(frozen=True)
class Folder:
    """config.json, weights, tokenizer.json; Python code, which runs if it is trusted."""

    path: Path
    trust: bool = False

    @property
    def origin(self) -> str:
        return str(self.path)

    def digest(self) -> str:
        code = sorted(self.path.glob("*.py")) if self.trust else []
        return file_digest(self.path / "config.json", *weight_files(self.path), *code)

    def open(self) -> Opened:
        from transformers import AutoConfig, GenerationConfig

        config = AutoConfig.from_pretrained(self.path, **self._options)
        check_decoder(config)
        raw = raw_tensors(self.path)
        check_layers(getattr(config.get_text_config(), "num_hidden_layers", 0), len(raw))
        settings = self._quantization(config)
        opened = open_model(config, lambda _: stored_tensors(raw, settings), self.trust)
        with contextlib.suppress(OSError):  # it has none
            opened.model.generation_config = GenerationConfig.from_pretrained(
                self.path, local_files_only=True
            )
        return opened

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.path, **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        return {**LOCAL, TRUST: self.trust}

    def _quantization(self, config: Any) -> dict[str, Any] | None:
        for holder in (config, config.get_text_config()):
            for name in ("quantization_config", "compression_config"):
                found = getattr(holder, name, None)
                if found is not None:
                    return dict(found if isinstance(found, dict) else found.to_dict())
        old = self.path / OLD_GPTQ
        return {"quant_method": "gptq", **json.loads(old.read_text())} if old.exists() else None


@dataclass(frozen=True)
class Gguf:
    """A GGUF file, or any part of a split one."""

    path: Path
    header: Header

    @staticmethod
    def at(path: Path) -> Gguf:
        return Gguf(path, read_files(path))

    @property
    def origin(self) -> str:
        return str(self.path)

    def digest(self) -> str:
        paths = {self.header.path, *(tensor.path for tensor in self.header.tensors.values())}
        return file_digest(*sorted(paths))

    def open(self) -> Opened:
        from transformers import AutoConfig

        for key, value in self.header.metadata.items():
            if key.endswith(".block_count"):
                check_layers(value, len(self.header.tensors))
        config = AutoConfig.from_pretrained(self.header.path.parent, **self._options)
        check_decoder(config)
        amend(config, self.header)
        opened = open_model(config, self._stored)
        divide_frequencies(opened.model, self.header)
        return opened

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.header.path.parent, **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        return {**LOCAL, TRUST: False, "gguf_file": self.header.path.name}

    def _stored(self, module: Any) -> Stored:
        return gguf_weights.stored_tensors(self.header, module)


def check_layers(layers: Any, tensors: int) -> None:
    """Refuse more layers than there are tensors, before transformers builds them."""
    if isinstance(layers, int) and layers > tensors:
        raise LadderError(
            f"it says that it has {layers} layers, and holds {tensors} tensors; fetch it again"
        )


def read_model(checkpoint: Checkpoint) -> Opened:
    """Open a checkpoint; errors name it, and one of transformers becomes one line."""
    try:
        return checkpoint.open()
    except LadderError as error:
        if checkpoint.origin in str(error):
            raise
        raise LadderError(f"{checkpoint.origin}: {error}") from error
    except Exception as error:
        raise LadderError(f"{checkpoint.origin}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return (
            "its folder holds Python code of the model, which is not run; read the code, and give "
            "--trust-remote-code if you trust it"
        )
    return f"transformers cannot load it: {one_line(error)}"
