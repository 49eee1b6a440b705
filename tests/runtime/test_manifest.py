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
from ladder.runtime.manifest import manifest_text

pytestmark = [pytest.mark.models, pytest.mark.kernels]
Manifest = dict[str, Any]


@pytest.fixture
def copy(tiny_artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_artifact, tmp_path / "artifact"))


def change(folder: Path, edit: Callable[[Manifest], None]) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(manifest_text(manifest))


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
TENSOR = ("tensors", "model.embed_tokens.planes")
INPUT = ("functions", 0, "inputs", 0)
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
    (put("object", *STATE, "dtype"), "state 'state.0.key': unknown type 'object'; the types are"),
    (put("object", *TENSOR, "dtype"), "tensor 'model.embed_tokens.planes': unknown type 'object'"),
    (put([-1, 4], *TENSOR, "shape"), "tensor 'model.embed_tokens.planes': the shape is [-1, 4],"),
    (put("0", *TENSOR, "offset"), "'offset' is '0', not int"),
    (put(64, *TENSOR, "offset"), "tensor 'model.embed_tokens.planes' is at byte 64, but"),
    (put([1], *TENSOR, "shape"), "tensor 'model.embed_tokens.row_scale' is at byte "),
    (put("float8", *INPUT, 1), "input 'input_ids': unknown type 'float8'; the types are bool,"),
    (put([1 << 60], *INPUT, 2), "input 'input_ids': the shape is [1152921504606846976], which no"),
    (put("position", *INPUT, 0), "'position' is the name of an input of 'decode' twice"),
    (put("decode", "functions", 1, "name"), "'decode' is the name of a function twice"),
    (put("w", "functions", 0, "weights", 0), "function 'decode' takes 'w', which is no tensor"),
    (put("0" * 63, "files", "weights.bin"), "the hash of file 'weights.bin' is '000"),
    (put("0" * 64, "files", "../weights.bin"), "'files' names '../weights.bin', which is not the"),
    (put(0, "language_model", "vocabulary"), "'vocabulary' is 0, not a positive number"),
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


def test_tensors_that_changed_places(copy: Path) -> None:
    """Both fit the file: only the checksum tells."""
    row = json.loads((copy / MANIFEST).read_text())
    one, other = (f"model.layers.{i}.mlp.down_proj.planes" for i in (0, 1))
    row["tensors"][one], row["tensors"][other] = row["tensors"][other], row["tensors"][one]
    (copy / MANIFEST).write_text(json.dumps(row))
    with pytest.raises(LadderError, match=r"changed since it was written \(its checksum differs"):
        ladder.runtime.load(copy)


FUNCTIONS = [
    (put("ids", "functions", 1, "inputs", 0, 0), r"'prefill' must take 'input_ids', .* \[1, 16\]"),
    (put([2], "functions", 0, "inputs", 1, 2), r"'decode' must take 'position', integers \[1\]"),
    (put("float64", "functions", 0, "inputs", 1, 1), "'decode' must take 'position', integers"),
    (put("prefix", "functions", 1, "name"), "no function 'prefill'; it has: decode, prefix"),
    (put([], "functions", 0, "outputs"), "function 'decode' returned 5 outputs, not 0"),
    (put([], "functions", 0, "weights"), "the library does not fit the manifest"),
    (put(90, "language_model", "vocabulary"), "for 1 tokens of 90; compile"),
]


@pytest.mark.parametrize(("edit", "message"), FUNCTIONS)
def test_functions_that_are_not_in_the_library(
    copy: Path, edit: Callable[[Manifest], None], message: str
) -> None:
    change(copy, edit)
    with pytest.raises(LadderError, match=message) as caught:
        generated(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"[" * 100_000, b"{}"])
def test_what_is_no_manifest(copy: Path, content: bytes) -> None:
    (copy / MANIFEST).write_bytes(content)
    with pytest.raises(LadderError, match=r"manifest\.json: .*; compile the model again"):
        ladder.runtime.load(copy)
