"""``ladder --version``: the versions of Ladder and of the packages its results depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from ladder import __version__


def versions() -> dict[str, str]:
    """Versions by package name; Ladder's own comes first."""
    return {
        "ladder": __version__,
        "TVM": _installed("apache-tvm"),
        "onnx-ir": _installed("onnx-ir"),
        "Python": platform.python_version(),
    }


def print_versions(wanted: bool) -> None:
    """Print one line for each package, then exit."""
    if wanted:
        for name, number in versions().items():
            typer.echo(f"{name} {number}")
        raise typer.Exit


def _installed(package: str) -> str:
    """A package's version; a device that only runs artifacts may lack the compiler's packages."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
