"""The command line: parse, call the compiler, print. Heavy imports wait until they are needed."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from dataclasses import dataclass
from typing import Any

from ladder.errors import LadderError, NothingToQuantize, as_refusal

EXIT_INTERNAL, EXIT_BAD_INPUT, EXIT_NOTHING = 1, 2, 3
OF_PATHS = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)
HINT = "run again with --debug for the traceback"


@dataclass
class MainOptions:
    """The options of the main command that ``main`` reads when a command fails."""

    debug: bool = False


def main() -> None:
    """Entry point. An error is one line on stderr; ``--debug`` prints its traceback first.

    Exit codes: 1 for an error in Ladder, 2 for bad input, 3 for nothing to quantize.
    """
    options = MainOptions()
    try:
        from ladder.cli.app import app

        sys.exit(app(obj=options, standalone_mode=False) or 0)
    except BrokenPipeError:
        # The reader has closed the pipe (| head): exit quietly, also when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "format_message"):  # Typer's own, whichever package has its class
            sys.exit(_report_usage(error))
        sys.exit(_report(as_refusal(_of_a_path(error)), options.debug))


def _report_usage(error: Any) -> int:
    """The same for a command line that cannot be parsed; without arguments, print the help."""
    context = error.ctx
    if not sys.argv[1:] or type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        command = context.command_path if context is not None else "ladder"
        message = " ".join(error.format_message().split()).rstrip(".")
        print(f"ladder: {message}; see '{command} --help'", file=sys.stderr)
    return int(error.exit_code)


def _report(error: Exception, debug: bool) -> int:
    """Print the error and return the exit code."""
    if debug:
        traceback.print_exception(error)
    message = str(error)
    if not isinstance(error, LadderError):
        message = f"internal error: {type(error).__name__}: {message}"
        message += "" if debug else f"; {HINT}"
    print(f"ladder: {' '.join(message.split())}", file=sys.stderr)
    return _exit_code(error)


def _of_a_path(error: Exception) -> Exception:
    """What the system refuses of a path that the user named is bad input."""
    if isinstance(error, OSError) and error.errno in OF_PATHS and error.filename:
        refusal = LadderError(f"{error.filename}: {error.strerror}")
        refusal.__cause__ = error
        return refusal
    return error


def _exit_code(error: Exception) -> int:
    if isinstance(error, NothingToQuantize):
        return EXIT_NOTHING
    return EXIT_BAD_INPUT if isinstance(error, LadderError) else EXIT_INTERNAL
