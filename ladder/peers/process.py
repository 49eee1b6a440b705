"""The harness's side of an engine's process: requests, answers, deaths."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from typing import Any

from ladder.runtime.session import THREADS_VARIABLE

PATIENCE = 300.0  # seconds for one answer
GRACE = 5.0  # seconds for a process to end by itself


class EngineDied(Exception):
    """The process ended or does not answer; the message says how."""


class EngineFailed(Exception):
    """The engine answered with an error."""


class EngineProcess:
    """The process of one engine, started with its number of threads."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        self._errors = tempfile.TemporaryFile()
        words = [sys.executable, "-m", "ladder.peers.worker", name, str(threads)]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_environment(threads)},
            text=True,
        )

    def ask(self, do: str, **words: Any) -> dict[str, Any]:
        """Send one request; returns its answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **words}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise EngineDied(self._how()) from None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        if not ready:
            self.end()
            raise EngineDied(f"no answer within {PATIENCE:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise EngineDied(self._how())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise EngineFailed(reply["error"])
        return reply

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> None:
        """End the process; kill it if it does not end by itself."""
        assert self._process.stdin is not None and self._process.stdout is not None
        # a request that a dead process never read is still in the buffer, and closing writes it
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _how(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        what = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"{what}: {said[-1]}" if said else what


def _environment(threads: int) -> dict[str, str]:
    """The environment: threads for every engine's library, and one for NumPy's reference."""
    counted = (THREADS_VARIABLE, "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {**dict.fromkeys(counted, str(threads)), "OPENBLAS_NUM_THREADS": "1"}
