"""Python code in a model's folder is run only if the user asks for it, and nothing is asked."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ladder
from ladder.frontend import huggingface
from ladder.frontend.types import Source
from ladder.planning.model_shapes import shapes_of_model

pytestmark = pytest.mark.models

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
Path(HERE).with_name("ran").touch()
class Config(LlamaConfig):
    model_type = "of_their_own"
class Model(LlamaForCausalLM):
    config_class = Config
"""


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model as one with code of its own; somebody answers yes to every question."""
    found = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    config = json.loads((found / "config.json").read_text())
    own = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    config |= {"model_type": "of_their_own", "auto_map": own}
    (found / "config.json").write_text(json.dumps(config))
    (found / "code.py").write_text(CODE.replace("HERE", repr(str(found / "code.py"))))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    modules = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", modules)
    return found


def test_code_is_refused_without_a_question(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ladder.LadderError, match=r"Python code .* give --trust-remote-code if"):
        ladder.load(folder)
    assert not (folder / "ran").exists()
    assert capsys.readouterr().out == ""


def test_every_command_refuses_it(cli: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("some text")
    out = tmp_path / "out"
    for words in (
        ["compile", folder, "-o", out],
        ["plan", folder, "--bpw", 4, "--calib", text],
        ["eval", folder, "--text", text],
        ["opt", folder, "-p", "clean-up"],
        ["bench", "device", folder, "-o", out],
    ):
        ran = cli(*words)
        assert ran.code == 2 and "--trust-remote-code" in ran.err and ran.out == "", words
    assert not (folder / "ran").exists() and not out.exists()


def test_code_that_is_trusted_runs(
    folder: Path, tiny_folder: Path, cli: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    source = ladder.load(folder, trust_remote_code=True)
    assert (folder / "ran").exists() and capsys.readouterr().out == ""
    assert len(weights(source)) > 10 and weights(source) == weights(ladder.load(tiny_folder))
    assert cli("opt", folder, "-p", "clean-up", "--trust-remote-code").code == 0
    assert shapes_of_model(folder, trust_remote_code=True) == shapes_of_model(tiny_folder)
    with pytest.raises(ladder.LadderError, match="trust-remote-code"):
        ladder.load(folder)  # also where its trace is in the cache


def weights(source: Source) -> set[bytes]:
    values = (value.const_value for value in source.model.graph.initializers.values())
    return {v.numpy().tobytes() for v in values if v is not None and len(v.shape) == 2}


def test_trusted_code_belongs_to_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "_load", lambda checkpoint: checkpoint.digest())
    trusted, refused = (huggingface.load_folder(folder, trust) for trust in (True, False))
    with (folder / "code.py").open("a") as file:
        file.write("# changed\n")
    assert huggingface.load_folder(folder, trust=True) != trusted
    assert huggingface.load_folder(folder) == refused
