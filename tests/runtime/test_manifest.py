"""Manifests: earlier formats still run, later ones are refused, invalid fields are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ladder.runtime
from ladder.errors import LadderError
from ladder.runtime.artifact import MANIFEST, read_manifest
from ladder.runtime.language_model import LanguageModel

pytestmark = [pytest.mark.models, pytest.mark.kernels]
Manifest = dict[str, Any]


@pytest.fixture
def copy(tiny_artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))


def change(folder: Path, edit: Callable[[Manifest], None]) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


def to_format_1(manifest: Manifest) -> None:
    """The manifest as it was written: states by name, and options under another name."""
    manifest["format"] = 1
    manifest["wish"] = manifest.pop("options")
    manifest["report"]["left_alone"] = manifest["report"].pop("skipped")
    facts = manifest["language_model"]
    facts["states"] = [state["name"] for state in facts["states"]]


def generated(folder: Path) -> list[int]:
    model = ladder.runtime.load(folder)
    assert isinstance(model, LanguageModel)
    return list(model.stream([1, 2, 3] * 7, 40))


def test_format_1_runs_to_the_same_tokens(tiny_artifact: Path, copy: Path) -> None:
    change(copy, to_format_1)
    assert "options" not in json.loads((copy / MANIFEST).read_text())
    assert read_manifest(copy) == read_manifest(tiny_artifact)
    assert generated(copy) == generated(tiny_artifact)


def test_the_states_and_options_of_an_artifact(tiny_artifact: Path) -> None:
    manifest = json.loads((tiny_artifact / MANIFEST).read_text())
    assert manifest["format"] == 2 and manifest["options"]["type"] == "int4:g32"
    assert manifest["language_model"]["states"][0] == {
        "name": "state.0.key",
        "shape": [1, 2, "context", 16],
        "dtype": "float16",
        "kind": "rows",
        "axis": 2,
        "reset": None,
        "spare": 0,
    }


def dropped(*path: str | int) -> Callable[[Manifest], None]:
    def edit(manifest: Manifest) -> None:
        place: Any = manifest
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return edit


def put(value: object, *path: str | int) -> Callable[[Manifest], None]:
    def edit(manifest: Manifest) -> None:
        place: Any = manifest
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return edit


STATE = ("language_model", "states", 0)
CASES = [
    (put(3, "format"), "artifact format 3, this Ladder reads formats 1 to 2"),
    (put(0, "format"), "artifact format 0, this Ladder reads formats 1 to 2"),
    (dropped("format"), "'format' is missing"),
    (dropped("report"), "'report' is missing"),
    (dropped("levels"), "'levels' is missing"),
    (dropped("language_model"), "'language_model' is missing"),
    (dropped("functions", 0, "weights"), "'weights' is missing"),
    (
        put(["x", "float32"], "functions", 0, "inputs", 0),
        "an entry of 'inputs' is ['x', 'float32'],",
    ),
    (put("96", "language_model", "context"), "'context' is '96', not int"),
    (put([1, "b"], "language_model", "eos"), "an entry of 'eos' is 'b', not int"),
    (put([], "tensors"), "'tensors' is [], not dict"),
    (put("ring", *STATE, "kind"), "state 'state.0.key': unknown kind 'ring'; the kinds are"),
    (put(1, *STATE, "rolls"), "state 'state.0.key': unknown field 'rolls'; the fields are"),
    (dropped(*STATE, "dtype"), "state 'state.0.key': 'dtype' is missing"),
]


@pytest.mark.parametrize(("edit", "message"), CASES)
def test_refusals(copy: Path, edit: Callable[[Manifest], None], message: str) -> None:
    change(copy, edit)
    with pytest.raises(LadderError) as caught:
        ladder.runtime.load(copy)
    said = str(caught.value)
    assert said.startswith(f"{copy / MANIFEST}: {message}") and "\n" not in said
    assert said.endswith("; compile the model again with this version")


def test_a_format_1_state_that_is_not_an_input(copy: Path) -> None:
    change(copy, to_format_1)
    change(copy, put("state.9.key", *STATE))
    with pytest.raises(
        LadderError, match=r"state 'state\.9\.key' is not an input; compile the model"
    ):
        ladder.runtime.load(copy)
