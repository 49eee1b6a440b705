"""Python code in a model's folder is never run."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import ladder

pytestmark = pytest.mark.models

CODE = """
from pathlib import Path
from transformers import PretrainedConfig
Path(__file__).with_name("ran").touch()
class Config(PretrainedConfig):
    model_type = "of_their_own"
"""


def test_code_is_refused_without_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"model_type": "of_their_own", "auto_map": {"AutoConfig": "code.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "code.py").write_text(CODE.replace("__file__", repr(str(tmp_path / "code.py"))))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(ladder.LadderError, match=r"cannot load it: .* contains custom code"):
        ladder.load(tmp_path)
    assert not (tmp_path / "ran").exists()
    assert capsys.readouterr().out == ""
