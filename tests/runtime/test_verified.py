"""What is used of an artifact are the bytes that were hashed, whatever happens to its files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import ladder.runtime
from ladder.errors import LadderError
from ladder.runtime import artifact as artifact_module
from ladder.runtime.artifact import TOKENIZER, WEIGHTS, Artifact
from ladder.runtime.language_model import LanguageModel
from ladder.runtime.session import Session

pytestmark = [pytest.mark.models, pytest.mark.kernels]
PROMPT = [1, 2, 3] * 7


@pytest.fixture
def copy(tiny_artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))


def files(folder: Path) -> list[Path]:
    return [folder / WEIGHTS, folder / TOKENIZER, *folder.glob("*.so")]


def test_files_that_are_replaced_after_they_were_verified(tiny_artifact: Path, copy: Path) -> None:
    wanted = ladder.runtime.load(tiny_artifact)
    verified = Artifact.load(copy)
    for path in files(copy):
        path.with_suffix(".other").write_bytes(b"\x7fELF something else")
        path.with_suffix(".other").replace(path)
    model = LanguageModel(Session(verified))
    assert isinstance(wanted, LanguageModel)
    assert model.encode("abc") == wanted.encode("abc")
    np.testing.assert_array_equal(model.feed(PROMPT), wanted.feed(PROMPT))


def test_a_file_is_opened_once(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So nothing can be put in its place between its hash and its use."""
    found: list[str] = []
    real = os.open

    def counting(path: str | Path, *flags: int, **options: int) -> int:
        found.append(Path(path).name)
        return real(path, *flags, **options)

    monkeypatch.setattr("ladder.runtime.verified.os.open", counting)
    model = ladder.runtime.load(copy)
    assert isinstance(model, LanguageModel)
    model.encode("abc")
    monkeypatch.undo()
    opened = [name for name in found if (copy / name).exists()]
    assert sorted(opened) == sorted(["manifest.json", *(path.name for path in files(copy))])


@pytest.mark.parametrize("name", ["manifest.json", WEIGHTS])
def test_a_pipe_is_not_waited_for(copy: Path, name: str) -> None:
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(LadderError, match=rf"{name}: is no regular file"):
        Artifact.load(copy)


def test_a_manifest_without_end(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact_module, "LONGEST", 100)
    with pytest.raises(LadderError, match="damaged manifest"):
        Artifact.load(copy)
