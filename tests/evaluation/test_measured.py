"""Results next to a manifest: kept, read back, and left out where they are about another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ladder.errors import LadderError
from ladder.evaluation.measured import BENCH, EVAL, SAMPLE, keep, measured
from ladder.runtime.artifact import MANIFEST, MEASURED

SCORE = {"perplexity": 12.5, "tokens": 7, "text": "a.txt", "kl_mean": 0.1, "notes": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / MANIFEST).write_text("{}")
    return tmp_path


def test_results_are_kept_with_machine_and_date(folder: Path) -> None:
    assert measured(folder) == {}
    assert keep(folder, EVAL, SCORE) == f"the result is kept in {folder / MEASURED}" + (
        " for 'ladder report'"
    )
    keep(folder, SAMPLE, {"prompt": "a", "text": "b"})
    found = measured(folder)
    assert set(found) == {EVAL, SAMPLE} and SCORE.items() <= found[EVAL].items()
    assert {"machine", "threads", "date"} <= set(found[SAMPLE])
    keep(folder, EVAL, {**SCORE, "perplexity": 3.0})
    assert measured(folder)[EVAL]["perplexity"] == 3.0 and measured(folder)[SAMPLE]["text"] == "b"


def test_results_of_another_artifact_do_not_count(folder: Path) -> None:
    keep(folder, EVAL, SCORE)
    (folder / MANIFEST).write_text('{"format": 2}')
    assert measured(folder) == {}
    keep(folder, SAMPLE, {"prompt": "a", "text": "b"})
    assert set(measured(folder)) == {SAMPLE}


def test_a_place_that_cannot_be_written_is_reported(folder: Path) -> None:
    (folder / MEASURED).mkdir()
    said = keep(folder, EVAL, SCORE)
    assert said.startswith("the result is not kept for 'ladder report': ") and MEASURED in said


TIMED = {"decode_tokens_per_s": 1.0, "prefill_tokens_per_s": 2.0, "threads": 1}
BROKEN: list[tuple[str, dict[str, Any] | str, str]] = [
    ("no JSON", "{", "remove it and measure again"),
    ("no object", "[]", "is not an object"),
    ("another format", {"format": 9}, "format 9, this version of Ladder reads 1"),
    ("no number", {EVAL: {**SCORE, "perplexity": "low"}}, "'perplexity' is 'low', not float"),
    ("no KL", {EVAL: {**SCORE, "kl_mean": [1]}}, r"'kl_mean' is \[1\], not float"),
    ("no text", {SAMPLE: {"prompt": "a"}}, "'text' is missing"),
    ("no time", {BENCH: {**TIMED, "breakdown": {"lut": None}}}, "'lut' is None, not float"),
    ("a list", {BENCH: []}, "is not an object"),
]


@pytest.mark.parametrize(
    ("change", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_changed_files_are_refused(
    folder: Path, change: dict[str, Any] | str, message: str
) -> None:
    keep(folder, EVAL, SCORE)
    path = folder / MEASURED
    kept = json.loads(path.read_text())
    path.write_text(change if isinstance(change, str) else json.dumps({**kept, **change}))
    with pytest.raises(LadderError, match=message) as caught:
        measured(folder)
    assert str(caught.value).startswith(f"{path}: ")
    keep(folder, EVAL, SCORE)
    assert set(measured(folder)) == {EVAL}
