"""``pip install ladder-runtime``: what runs artifacts works with its packages and no others."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import only_runtime
import pytest
from packaging.requirements import Requirement
from sources import ROOT

INSTALLED = "this needs the package {}, which is not installed: pip install {}"


def project(path: Path) -> dict[str, Any]:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return dict(document["project"])


DEVICE, FULL = project(ROOT / "runtime/pyproject.toml"), project(ROOT / "pyproject.toml")


def with_their_own(requirements: list[str], seen: set[str]) -> Iterator[str]:
    """The distributions that installing ``requirements`` installs."""
    for text in requirements:
        wanted = Requirement(text)
        if wanted.name in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        seen.add(wanted.name)
        yield re.sub(r"[-_.]+", "-", wanted.name).lower()
        yield from with_their_own(importlib.metadata.requires(wanted.name) or [], seen)


def modules_of(requirements: list[str]) -> list[str]:
    installed = set(with_their_own(requirements, set()))
    return [
        module
        for module, names in importlib.metadata.packages_distributions().items()
        if any(re.sub(r"[-_.]+", "-", name).lower() in installed for name in names)
    ]


def run(commands: list[list[str]], requirements: list[str]) -> list[tuple[int, str, str]]:
    asked = {"modules": modules_of(requirements), "commands": commands}
    done = subprocess.run(
        [sys.executable, only_runtime.__file__],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


def test_it_needs_what_ladder_needs() -> None:
    """Both distributions have one version, one command, and the same bounds on packages."""
    assert set(DEVICE["dependencies"]) < set(FULL["dependencies"])
    for name in ("requires-python", "scripts", "entry-points", "license", "dynamic"):
        assert DEVICE[name] == FULL[name]


@pytest.mark.kernels
def test_commands_of_a_device(tiny_artifact: Path, tmp_path: Path) -> None:
    works = [
        ["--version"],
        ["--help"],
        ["run", str(tiny_artifact), "--prompt", "abc", "--tokens", "2"],
        ["run", str(tiny_artifact), "--prompt", "abc", "--chat", "--tokens", "2", "--json"],
        ["report", str(tiny_artifact), "-o", str(tmp_path / "page.html")],
        ["bench", str(tiny_artifact), "--tokens", "20"],
        ["targets"],
        ["cache", "show"],
    ]
    compiles = [
        ["compile", str(tiny_artifact), "-o", str(tmp_path / "out")],
        ["quantize", "a.onnx", "b.onnx"],
        ["opt", "a.onnx", "-p", "clean-up"],
        ["types"],
    ]
    verified = ["run", str(tiny_artifact), "--prompt", "a", "--verify-key", "key"]
    ran = run([*works, *compiles, verified], DEVICE["dependencies"])
    for words, (code, out, err) in zip(works, ran, strict=False):
        assert code == 0 and (out or err), (words, err)
    for words, (code, out, err) in zip(compiles, ran[len(works) :], strict=False):
        assert code == 2 and not out and err.count("\n") == 1, (words, err)
        assert re.search(r"needs the package (onnx-ir|onnx|ml_dtypes), which is not", err), words
    assert ran[-1][0] == 2 and "pip install 'ladder[sign]'" in ran[-1][2]


@pytest.mark.parametrize("words", [["--version"], ["run", "artifact", "--prompt", "a"]])
def test_the_wheel_alone(words: list[str]) -> None:
    """Without any package there is one line, and no traceback."""
    ((code, out, err),) = run([words], [])
    assert (code, out) == (2, "") and err == f"ladder: {INSTALLED.format('typer', 'typer')}\n"
