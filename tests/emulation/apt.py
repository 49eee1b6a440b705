"""Programs that tests need, from packages of Debian or Ubuntu, without installing any.

apt runs on its own state (no root, no foreign architecture added to the system): it downloads
packages with their dependencies, and ``dpkg-deb`` unpacks them into the user's cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import fetch

from ladder.support.files import new_folder

HOME = fetch.CACHE / "emulation"


class Missing(AssertionError):
    """Something that a test needs is missing and cannot be fetched; the message says what."""


def tool(*names: str, package: str) -> Path:
    """The first of ``names`` on the PATH, else from ``package``."""
    for name in names:
        found = shutil.which(name)
        if found:
            return Path(found)
    folder = unpacked([package])
    for name in names:
        path = folder / "usr" / "bin" / name
        if path.exists():
            return path
    raise Missing(f"package {package} has none of {', '.join(names)}: install one on the PATH")


def unpacked(packages: Sequence[str], arch: str = "", installed: Path | None = None) -> Path:
    """A folder with ``packages`` and their dependencies, unpacked once.

    ``arch`` is Debian's name of an architecture; empty: this machine's. With ``installed``, the
    file in which dpkg lists this system's packages, dependencies that it has are left out.
    """
    listed = installed.read_text(errors="replace") if installed and installed.exists() else ""
    key = hashlib.sha256(" ".join([arch, *packages, listed]).encode()).hexdigest()[:12]
    place = HOME / f"{arch or 'native'}-{packages[0]}-{key}"
    with locked(place.name):
        if not place.exists():
            with new_folder(place) as folder:
                _unpack(packages, arch, listed, folder)
    return place


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time; the others wait."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unpack(packages: Sequence[str], arch: str, installed: str, folder: Path) -> None:
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Missing(
                f"tests need the packages {' '.join(packages)} ({arch or 'native'}), and there"
                f" is no {program} to fetch them: unpack them into {folder.parent} by hand"
            )
    with tempfile.TemporaryDirectory(prefix="ladder-apt-") as state:
        files = _download(packages, arch, installed, Path(state))
        for file in files:
            run(["dpkg-deb", "-x", str(file), str(folder)], f"cannot unpack {file.name}")


def _download(packages: Sequence[str], arch: str, installed: str, state: Path) -> list[Path]:
    for name in ("state/lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True)
    (state / "status").write_text(installed)  # empty: every dependency is fetched
    options = {
        "Dir::State": state / "state",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
        "APT::Install-Recommends": 0,
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": 1,
        **({"APT::Architecture": arch, "APT::Architectures::": arch} if arch else {}),
    }
    apt = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items())]
    what = f"apt cannot fetch {' '.join(packages)} ({arch or 'native'})"
    run([*apt, "update"], what)
    run([*apt, "install", "-y", "--download-only", *packages], what)
    return sorted((state / "cache" / "archives").glob("*.deb"))


def run(command: Sequence[str], what: str, **environment: str) -> str:
    """A command's output; raises ``Missing`` with its last line if it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    if done.returncode:
        lines = [*done.stdout.strip().splitlines(), *done.stderr.strip().splitlines()]
        raise Missing(f"{what}: {lines[-1] if lines else done.returncode}; is there a network?")
    return done.stdout
