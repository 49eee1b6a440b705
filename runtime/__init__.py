"""Runs artifacts. Needs NumPy and TVM's runtime; loads no compiler, no torch and no onnx."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ladder.runtime.language_model import LanguageModel
    from ladder.runtime.session import Session


def load(folder: str | Path, verify_key: str | Path | None = None) -> LanguageModel | Session:
    """Load an artifact folder: a ``LanguageModel`` if it is one, else a ``Session``.

    Loading runs the artifact's code. With ``verify_key``, a file with a public key, an artifact
    that was not signed with its private key is refused before.
    """
    from ladder.runtime.artifact import Artifact
    from ladder.runtime.language_model import LanguageModel
    from ladder.runtime.session import Session

    artifact = Artifact.load(Path(folder), None if verify_key is None else Path(verify_key))
    session = Session(artifact)
    return LanguageModel(session) if artifact.language_model else session
