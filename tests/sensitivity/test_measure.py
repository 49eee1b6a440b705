"""Measuring from text to fact: resumed, refused, spread over workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_graphs import graph, random

from ladder.calibration.text_windows import calibration
from ladder.errors import LadderError
from ladder.frontend.types import Source
from ladder.ir.facts import Sensitivity
from ladder.pipeline.sources import load_source
from ladder.sensitivity.measure import MeasureOptions, measure, measure_feeds
from ladder.support.progress import listening

TYPES = ["int2:g32", "int4:g32"]
WORDS = "The quick brown fox jumps over the lazy dog; and so it goes on, from line to line.\n"
WINDOWS, TOKENS = 2, 24


@pytest.fixture(scope="module")
def source(tiny_chat_folder: Path) -> Source:
    return load_source(tiny_chat_folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(WORDS * 20)
    return path


def run(source: Source, text: Path, how: MeasureOptions, **options: Any) -> Sensitivity:
    return measure(source, TYPES, text, WINDOWS, TOKENS, "rtn", how, **options)


@pytest.fixture(scope="module")
def alone(source: Source, text: Path) -> Sensitivity:
    """The scores from one process; all other ways must find the same bits."""
    return run(source, text, MeasureOptions(threads=2))


@pytest.mark.models
def test_every_site_has_every_type(alone: Sensitivity, text: Path) -> None:
    assert alone.metric == "kl" and alone.tokens == WINDOWS * TOKENS and alone.text == str(text)
    assert len(alone.scores) == 16
    assert alone.scores["lm_head"] == alone.scores["model.embed_tokens"]
    for types in alone.scores.values():
        assert list(types) == TYPES
        assert 0 < types["int4:g32"]["kl"] < types["int2:g32"]["kl"]


@pytest.mark.models
def test_a_second_run_measures_nothing(
    source: Source, text: Path, alone: Sensitivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ladder.sensitivity.workers.Engine", None)
    assert run(source, text, MeasureOptions()) == alone


@pytest.mark.models
def test_more_types_measure_only_those(source: Source, text: Path, tmp_path: Path) -> None:
    how, seen = MeasureOptions(state=tmp_path / "state"), []
    measure(source, ["int4:g32"], text, 1, 8, "rtn", how)
    with listening(lambda what, done, total: seen.append((done, total))):
        measure(source, ["int4:g32", "int8:row"], text, 1, 8, "rtn", how)
    assert (15, 30) in seen and (30, 30) in seen


@pytest.mark.models
def test_a_killed_run_resumes(
    source: Source, text: Path, alone: Sensitivity, tiny_chat_folder: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state.jsonl"
    code = f"""
import time
from pathlib import Path
from ladder.pipeline.sources import load_source
from ladder.sensitivity.measure import MeasureOptions
from ladder.sensitivity.measure import measure
from ladder.sensitivity import workers
workers.FIRST_UNIT = workers.LARGEST_UNIT = 1
score = workers.Engine.score
workers.Engine.score = lambda self, tasks: (time.sleep(0.1), score(self, tasks))[1]
measure(load_source(Path({str(tiny_chat_folder)!r})), {TYPES}, Path({str(text)!r}),
        {WINDOWS}, {TOKENS}, "rtn", MeasureOptions(state=Path({str(state)!r})))
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    while not state.exists() or state.read_text().count("\n") < 6:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = state.read_text().count("\n") - 1
    assert 5 <= before < 30
    with state.open("a") as file:
        file.write('{"group": "model.la')  # killed in the middle of a line
    seen: list[int] = []
    with listening(lambda what, done, total: seen.append(done) if total == 30 else None):
        assert run(source, text, MeasureOptions(state=state)).scores == alone.scores
    assert seen[0] == before


@pytest.mark.models
def test_processes_find_the_same(
    source: Source, text: Path, alone: Sensitivity, tmp_path: Path
) -> None:
    how = MeasureOptions(workers="2", threads=2, state=tmp_path / "state")
    assert run(source, text, how) == alone


@pytest.fixture
def cluster() -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with distributed.LocalCluster(dashboard_address=None, **options) as found:
        yield found.scheduler_address.replace("tcp://", "dask://")


@pytest.mark.models
def test_a_dask_cluster_finds_the_same(
    source: Source, text: Path, alone: Sensitivity, tmp_path: Path, cluster: str
) -> None:
    how = MeasureOptions(workers=cluster, state=tmp_path / "state")
    assert run(source, text, how) == alone


@pytest.mark.models
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "another"}, "holds scores of another model .*; give another place"),
        ({"text": True}, "holds scores of another calibration text"),
        ({"method": "mse"}, r"holds scores of another rounding \(rtn, not mse\)"),
        ({"tokens": 8}, r"holds scores of (another calibration text|windows of another length)"),
    ],
)
def test_the_state_of_another_measurement_is_refused(
    source: Source, text: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    state, other = tmp_path / "state", tmp_path / "other.txt"
    other.write_text("Something else altogether, and long enough for a window. " * 3)
    how = MeasureOptions(state=state)
    measure(source, ["int4:g32"], text, 1, 16, "rtn", how)
    before = state.read_bytes()
    changed = replace(source, digest=changes.get("digest", source.digest))
    given = other if "text" in changes else text
    size, method = changes.get("tokens", 16), changes.get("method", "rtn")
    with pytest.raises(LadderError, match=message):
        measure(changed, ["int4:g32"], given, 1, size, method, how)
    assert state.read_bytes() == before


@pytest.mark.models
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; give some text"),
        (b" \n ", "empty; give some text"),
        (b"abc\0def" * 50, "a binary file"),
        (b"\xff\xfe\x00" * 50, r"not UTF-8 text \(byte 0\)"),
        (b"too short", "9 tokens are less than one window of 24"),
    ],
)
def test_bad_text_is_refused(source: Source, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(LadderError, match=message):
        run(source, path, MeasureOptions())


@pytest.mark.models
def test_jsonl_is_read_by_its_field(source: Source, tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in ("abcd", "efgh" * 3)))
    (ids,) = calibration(source, path, 1, 18).tokens
    assert "".join(map(chr, ids)) == "abcd\n\n" + "efgh" * 3
    for line, message in (("{", "not JSON"), ('{"body": "x"}', 'no field "text"')):
        path.write_text('{"text": "a"}\n' + line)
        with pytest.raises(LadderError, match=f"text.jsonl:2: {message}"):
            calibration(source, path, 1, 2)


@pytest.mark.models
def test_windows_are_spread_over_the_text(source: Source, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("a" * 10 + "b" * 10 + "c" * 10)
    rows = ["".join(map(chr, ids)) for ids in calibration(source, path, 3, 10).tokens]
    assert rows == ["a" * 10, "b" * 10, "c" * 10]
    path.write_text("".join(f"{word} " * 500 for word in ("one", "two", "six")))
    rows = ["".join(map(chr, ids)) for ids in calibration(source, path, 3, 7).tokens]
    assert rows == ["one one", "two two", "six six"]


@pytest.mark.models
@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ("many", "workers 'many': give a number of processes, or dask://HOST:PORT"),
        ("dask://127.0.0.1:1", "dask://127.0.0.1:1: no Dask scheduler answers there"),
    ],
)
def test_bad_workers_are_refused(
    source: Source, text: Path, tmp_path: Path, workers: str, message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("ladder.sensitivity.workers.CONNECT_SECONDS", 0.5)
    with pytest.raises(LadderError, match=message):
        run(source, text, MeasureOptions(workers=workers, state=tmp_path / "state"))


@pytest.mark.models
def test_other_bad_input_is_refused(source: Source, text: Path, tmp_path: Path) -> None:
    with pytest.raises(LadderError, match="no types to measure"):
        measure(source, [], text)
    with pytest.raises(LadderError, match="unknown type 'int99'"):
        measure(source, ["int99"], text, 1, 8)
    with pytest.raises(LadderError, match="unknown rounding 'ceil'; one of: rtn, mse"):
        measure(source, TYPES, text, 1, 8, "ceil")
    with pytest.raises(LadderError, match="0 windows of 8 tokens"):
        measure(source, TYPES, text, 0, 8)
    strange = tmp_path / "notes.txt"
    strange.write_text("my notes\n")
    with pytest.raises(LadderError, match="not a state file of Ladder"):
        run(source, text, MeasureOptions(state=strange))
    assert strange.read_text() == "my notes\n"


def test_samples_must_fit_the_inputs() -> None:
    proto = graph(
        "g (float[M, 16] x) => (float[M, 8] y) { y = MatMul(x, w) }", {"w": random(16, 8)}
    )
    import onnx_ir as ir

    source = Source(ir.from_proto(proto), "small.onnx", "d")
    with pytest.raises(LadderError, match="the inputs are x, the samples z"):
        measure_feeds(source, ["int4:row"], {"z": np.zeros((1, 2, 16), np.float32)})
    with pytest.raises(LadderError, match="not a language model"):
        measure(source, ["int4:row"])
