"""The levels that a machine runs, and the permissions that they need."""

from __future__ import annotations

import subprocess
import sys

from ladder.hardware.targets import LEVELS, cpu_flags

# Linux refuses matrix tiles to a process whose signal stack is too small for them.
SMALL_SIGNAL_STACK = """
import ctypes

class Stack(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

room = ctypes.create_string_buffer(8192)
stack = Stack(ctypes.cast(room, ctypes.c_void_p), 0, len(room))
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0
"""
SHOW = """
from ladder.hardware.targets import LEVELS, native_level, runs_here
print(runs_here(LEVELS["x86-64-amx"]), runs_here(LEVELS["x86-64-amx"]), native_level().name)
"""


def run(code: str) -> tuple[list[str], list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split(), done.stderr.splitlines()


def test_refused_tiles_are_reported_once_and_the_next_level_is_used() -> None:
    (first, second, native), log = run(SMALL_SIGNAL_STACK + SHOW)
    assert (first, second) == ("False", "False")
    assert native != "x86-64-amx"
    if LEVELS["x86-64-amx"].flags <= cpu_flags():
        assert len(log) == 1 and "AMX" in log[0] and "arch_prctl" in log[0]
        assert native == "x86-64-vnni"
    else:
        assert log == []


def test_tiles_are_taken_where_the_cpu_has_them() -> None:
    (first, second, _), log = run(SHOW)
    has_tiles = LEVELS["x86-64-amx"].flags <= cpu_flags()
    assert first == second
    assert first == str(has_tiles) or len(log) == 1
