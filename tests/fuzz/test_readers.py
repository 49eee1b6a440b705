"""Every reader on thousands of changed inputs: each is read, or refused in one line.

``make fuzz`` runs more of them. A fault prints its reader, seed and case:

    PYTHONPATH=tests:. LADDER_FUZZ_KEEP=faults python -m fuzz.run READER --seed N --cases N
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from sources import ROOT

from fuzz.model_readers import ARTIFACT
from fuzz.mutations import mutate_json
from fuzz.readers import all_readers

pytestmark = pytest.mark.fuzz
READERS = all_readers()
SECONDS = 300


def test_there_are_20_000_cases() -> None:
    assert sum(reader.cases for reader in READERS.values()) >= 20_000


def test_a_case_depends_on_its_numbers_alone() -> None:
    """Also after thousands of others; a change within a change stays in its own case."""
    content = b'{"a": [1, {"b": []}], "c": {}}'
    cases = [[mutate_json(Random(case), content) for case in range(2000)] for _ in range(2)]
    assert cases[0] == cases[1]


@pytest.mark.parametrize("name", [name for name in READERS if name != "manifest.json"])
def test_reader(name: str) -> None:
    run(name, dict(os.environ))


@pytest.mark.models
@pytest.mark.kernels
def test_artifacts(tiny_artifact: Path) -> None:
    run("manifest.json", {**os.environ, ARTIFACT: str(tiny_artifact)})


def run(name: str, environment: dict[str, str]) -> None:
    """A process for each reader: one that crashes or hangs is noticed."""
    command = [sys.executable, "-m", "fuzz.run", name, "--cases", str(READERS[name].cases)]
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    done = subprocess.run(
        command, env={**environment, "PYTHONPATH": paths}, capture_output=True, text=True,
        timeout=SECONDS,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-500:]}"
