"""A text that an artifact continues, for its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ladder.errors import LadderError
from ladder.runtime.artifact import Artifact
from ladder.runtime.language_model import LanguageModel
from ladder.runtime.session import Session

TOKENS = 48


def sample(folder: Path, prompt: str, verify_key: Path | None = None) -> dict[str, Any]:
    """The prompt and what follows it, always the most likely token."""
    artifact = Artifact.load(folder, verify_key)
    if artifact.language_model is None:
        raise LadderError(f"{folder}: not a language model, so it continues no --prompt")
    return {"prompt": prompt, "text": LanguageModel(Session(artifact)).generate(prompt, TOKENS)}
