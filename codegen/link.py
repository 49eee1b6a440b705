"""Objects to a shared library: the system's C++ compiler if there is one, else ziglang's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tvm.support import cc

from ladder.errors import LadderError


def link(output: str, objects: Sequence[str], strip: bool = False, **_: object) -> None:
    """Link ``objects`` into ``output``; has the form that TVM's ``export_library`` calls.

    ``strip`` leaves out the names that nobody outside calls by.
    """
    options = ["-s"] if strip else []
    if cc.get_cc() is not None:
        try:
            cc.create_shared(output, list(objects), options)
        except RuntimeError as error:
            reason = next((x for x in str(error).splitlines() if "error:" in x), "g++ failed")
            raise LadderError(f"cannot link {output}: {reason}; is there room in /tmp?") from error
        return
    # Linking alone: as a compiler driver zig builds its C library first, a minute the first time.
    linker = ["cc"] if sys.platform == "darwin" else ["ld.lld"]
    command = [
        sys.executable,
        "-m",
        "ziglang",
        *linker,
        "-shared",
        *options,
        "-o",
        output,
        *objects,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["ziglang failed"])[-1]
        raise LadderError(f"cannot link {output}: {reason}; install g++ or 'pip install ziglang'")


link.output_format = "so"  # type: ignore[attr-defined]  # export_library asks for it
