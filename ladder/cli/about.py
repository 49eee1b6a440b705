"""``ladder --version``: Ladder's version, and those of what its results depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from ladder import __version__


def versions() -> dict[str, str]:
    """Versions by name; Ladder's own comes first."""
    return {
        "ladder": __version__,
        "TVM": _installed("apache-tvm"),
        "onnx-ir": _installed("onnx-ir"),
        "Python": platform.python_version(),
    }


def print_versions(wanted: bool) -> None:
    """One line each; then the command ends."""
    if wanted:
        for name, number in versions().items():
            typer.echo(f"{name} {number}")
        raise typer.Exit


def _installed(package: str) -> str:
    """A device that only runs artifacts may lack what the compiler needs."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
