"""Runs one case after another within limits, and watches which files they leave."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

SECONDS, MEMORY = 10.0, 1 << 30
FOLDERS = {"HOME": "home", "TMPDIR": "tmp", "LADDER_CACHE": "cache", "WORK": "work"}


class Hang(BaseException):
    """A case has taken longer than ``SECONDS``."""


@dataclass
class Faults:
    """What was found: the place of a fault -> the number of its first case, and its traceback."""

    found: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, case: int, error: BaseException) -> None:
        """Cases that fail in one place count once."""
        frames = traceback.extract_tb(error.__traceback__)
        last = next((f for f in reversed(frames) if "/ladder/" in f.filename), frames[-1])
        place = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno} ({last.name})"
        lines = [f"  {Path(f.filename).name}:{f.lineno}: {f.line}" for f in frames[-6:]]
        self.found.setdefault(place, (case, "\n".join([*lines, f"  {error!s:.400}"])))


@contextmanager
def sandbox() -> Iterator[Path]:
    """A folder for everything that a process may write; its environment points there."""
    with tempfile.TemporaryDirectory(prefix="ladder-fuzz-") as name:
        root = Path(name)
        for variable, folder in FOLDERS.items():
            (root / folder).mkdir()
            os.environ[variable] = str(root / folder)
        (root / "canary").write_text("stays")
        tempfile.tempdir = None
        os.chdir(root / "work")
        yield root
        os.chdir("/")


def limit_memory() -> None:
    """Refuse more than ``MEMORY`` bytes above what the process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


@contextmanager
def limited() -> Iterator[None]:
    """Interrupt the block after ``SECONDS``."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise Hang(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def tree(root: Path) -> dict[str, int]:
    """Every path below ``root``, with the size of files."""
    found: dict[str, int] = {}
    stack = [str(root)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                folder = entry.is_dir(follow_symlinks=False)
                found[entry.path] = 0 if folder else entry.stat(follow_symlinks=False).st_size
                if folder:
                    stack.append(entry.path)
    return found


def attempt(run: Callable[[], object], allowed: type[Exception], faults: Faults, case: int) -> str:
    """Run a case: its result, or an ``allowed`` error of one line, is all that may come of it."""
    try:
        with limited():
            run()
        said = "read"
    except allowed as error:
        said = "refused"
        if "\n" in str(error) or not str(error):
            faults.add(case, AssertionError(f"not one line: {error!r}"[:500]).with_traceback(
                error.__traceback__))  # fmt: skip
    except (Exception, Hang) as error:
        faults.add(case, error)
        said = "failed"
    return said


def check_tree(root: Path, before: dict[str, int], faults: Faults, case: int) -> None:
    """Nothing below ``root`` may be new or changed."""
    try:
        left = sorted(set(tree(root).items()) ^ set(before.items()))
        assert not left, f"new or changed: {left[:5]}"
    except AssertionError as error:
        faults.add(case, error)
