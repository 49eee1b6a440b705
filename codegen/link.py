"""Links objects to a shared library with the system's C++ compiler if there is one, or ziglang.

Libraries for another processor or system are always linked by ziglang, which needs nothing of them.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tvm.support import cc

from ladder.errors import LadderError
from ladder.hardware.targets import MACHINES, Level

LLD, DARWIN = ("ld.lld",), ("cc", "-target", "aarch64-macos", "-Wl,-undefined,dynamic_lookup")


def link(output: str, objects: Sequence[str], strip: bool = False, **_: object) -> None:
    """Link ``objects`` of this machine into ``output``; the form that ``export_library`` calls.

    ``strip`` removes the names that are not called from outside.
    """
    options = ["-s"] if strip else []
    if cc.get_cc() is None:
        # Only the linker: as a compiler driver, zig would first build its C library for a minute.
        _zig(("cc",) if sys.platform == "darwin" else LLD, output, objects, options)
        return
    try:
        cc.create_shared(output, list(objects), options)
    except RuntimeError as error:
        reason = next((x for x in str(error).splitlines() if "error:" in x), "g++ failed")
        raise LadderError(f"cannot link {output}: {reason}; is there room in /tmp?") from error


def linker_of(level: Level) -> Any:
    """``link``, or a function like it for the processor and the system of ``level``."""
    machine = MACHINES.get(platform.machine(), platform.machine())
    if level.arch == machine and level.system in ("", sys.platform):
        return link
    words = DARWIN if level.system == "darwin" else LLD

    def link_across(output: str, objects: Sequence[str], strip: bool = False, **_: object) -> None:
        _zig(words, output, objects, ["-s"] if strip else [])

    link_across.output_format = link.output_format  # type: ignore[attr-defined]
    return link_across


def _zig(words: Sequence[str], output: str, objects: Sequence[str], options: Sequence[str]) -> None:
    command = [sys.executable, "-m", "ziglang", *words, "-shared", *options, "-o", output]
    done = subprocess.run([*command, *objects], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["ziglang failed"])[-1]
        hint = "is ziglang installed ('pip install ziglang'), is there room on the disk?"
        raise LadderError(f"cannot link {output}: {reason}; {hint}")


link.output_format = "so"  # type: ignore[attr-defined]  # export_library asks for it
