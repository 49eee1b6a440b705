"""The command line: parses, calls the driver, prints. Heavy imports wait until they are needed."""

from __future__ import annotations

import os
import sys

from ladder.errors import LadderError, NothingToQuantize

EXIT_BAD_INPUT, EXIT_NOTHING = 2, 3


def main() -> None:
    """Entry point: bad input is one line on stderr and exit code 2 (3: nothing to quantize)."""
    from ladder.cli.app import app

    try:
        app()
    except NothingToQuantize as error:
        _fail(error, EXIT_NOTHING)
    except LadderError as error:
        _fail(error, EXIT_BAD_INPUT)
    except BrokenPipeError:
        # The reader has enough (| head): leave quietly, also when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _fail(error: LadderError, code: int) -> None:
    print(f"ladder: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(code)
