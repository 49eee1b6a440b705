"""TVM's script parser without its searches for source files.

For every kernel and every inlined function, TVM asks ``inspect`` for the frames of all callers
with the source files around them, which takes half of the time of building kernels. It uses the
frames, and the source line of one of them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

DEFINITION = 2  # of prim_func's callers, the one whose source line may be a class


def install() -> None:
    """Let TVM look at frames alone; what it finds is the same."""
    from tvm.script.parser.core.parser import ScriptMacro
    from tvm.tirx.script.parser import entry

    ScriptMacro._find_parser_def = _find_parser
    entry.inspect = _Inspect()


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """``frame`` and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _find_parser(macro: Any) -> Any:
    """The parser that is at work: a global of one of the callers."""
    name = macro.parser_object_name
    for frame in _frames(sys._getframe()):
        parser = frame.f_globals.get(name)
        if parser is not None:
            return parser
    raise RuntimeError(f"{name} not available")


class _Inspect:
    """``inspect``, with a ``stack`` that reads one source line."""

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)

    def stack(self, _context: int = 1) -> list[inspect.FrameInfo]:
        return [_info(i, frame) for i, frame in enumerate(_frames(sys._getframe(1)))]


def _info(index: int, frame: FrameType) -> inspect.FrameInfo:
    code = frame.f_code
    context = inspect.getframeinfo(frame).code_context if index == DEFINITION else None
    return inspect.FrameInfo(
        frame, code.co_filename, frame.f_lineno, code.co_name, context, None if not context else 0
    )
