"""The command line without kernels and whole models: what ``make check`` runs of it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import pytest
from conftest import Ran

import ladder
from ladder.cli import about

Cli = Callable[..., Ran]


def test_version(cli: Cli) -> None:
    ran = cli("--version")
    lines = ran.out.splitlines()
    assert ran.code == 0 and not ran.err
    assert lines[0] == f"ladder {ladder.__version__}"
    assert lines[1:] == [
        f"TVM {version('apache-tvm')}",
        f"onnx-ir {version('onnx-ir')}",
        f"Python {platform.python_version()}",
    ]


def test_the_package_has_the_version_of_the_code() -> None:
    assert version("ladder") == ladder.__version__


def test_a_package_that_is_missing_is_no_error(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    """A device that runs artifacts has no onnx-ir."""

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(about, "version", absent)
    assert cli("--version").out.splitlines()[1:3] == ["TVM not installed", "onnx-ir not installed"]
