"""Code in a process whose user has no rights on what others own: root may do everything."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

NOBODY = 65534
BECOME = f"""
import os
if os.geteuid() == 0:
    os.setgid({NOBODY})
    os.setuid({NOBODY})
"""


def give(folder: Path) -> None:
    """Let that user have a folder, and get to it."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        temporary = Path(tempfile.gettempdir())
        for parent in folder.parents:
            if parent != temporary and parent.is_relative_to(temporary):
                parent.chmod(parent.stat().st_mode | 0o055)


def run_unprivileged(imports: str, code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run ``code`` after ``imports``: they are done before the rights are given up."""
    command = [sys.executable, "-c", imports + BECOME + code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
