"""Runs commands in a process that sees only some packages, as on a device without a compiler.

Reads from stdin, as JSON, the modules that may be imported and the commands to run. Prints the exit
code and both outputs of each command.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any


class OnlyThese(MetaPathFinder):
    """Hides every package but Python's own, Ladder, and those that are named."""

    def __init__(self, names: set[str]) -> None:
        self.names = names | {"ladder", "__main__"} | sys.stdlib_module_names

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        package = name.partition(".")[0]
        if package not in self.names and not package.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return None


def run(words: list[str]) -> tuple[Any, str, str]:
    from ladder.cli import main

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["ladder", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as exit:
            return exit.code, out.getvalue(), err.getvalue()
    return None, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    sys.meta_path.insert(0, OnlyThese(set(asked["modules"])))
    print(json.dumps([run(words) for words in asked["commands"]]))
