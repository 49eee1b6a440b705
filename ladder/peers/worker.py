"""One engine's process: reads one request per line, and answers with one line.

It computes only during a request, because other engines are timed in between.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any

from ladder.peers import engine_class
from ladder.peers.engine import Engine, Kind, Steps, Weight, relative_errors

# With few tokens the weights' bytes matter, so all copies are used in turn; with more tokens, as
# many as a warm-up of this length reaches.
FEW_TOKENS, WARM_SECONDS = 16, 1.0

Reply = dict[str, Any]


class Server:
    """Weights by the number that the harness gave them, and the next step of each M."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._held: dict[int, Steps] = {}
        self._warm: dict[tuple[int, int], int] = {}
        self._next: dict[tuple[int, int], int] = {}

    def hello(self) -> Reply:
        try:
            version = self.engine.version()
        except ImportError as error:
            return {"missing": str(error), "package": self.engine.package}
        return {"version": version, "isa": self.engine.isa(), "notes": self.engine.notes()}

    def kinds(self, n: int, k: int) -> Reply:
        return {"kinds": [vars(kind) for kind in self.engine.kinds(n, k)]}

    def prepare(
        self, id: int, kind: dict[str, str], n: int, k: int, tokens: list[int], rotate: float
    ) -> Reply:
        """Make weights and products of a kind and warm up; returns what the harness must know."""
        made = self.engine.weight(Kind(**kind), n, k, tokens, rotate)
        reply: Reply = {"schemes": [made.scheme(m) for m in tokens], "work": made.work}
        if isinstance(made, Weight):
            errors = relative_errors(made, tokens, k)
            reply |= {"stored_bytes": made.stored_bytes, "errors": [errors[m] for m in tokens]}
        self._held[id] = made
        for m in tokens:
            seconds = WARM_SECONDS if m > FEW_TOKENS else float("inf")
            self._warm[id, m] = _steps_within(made, m, seconds)
        reply["products"] = [self._warm[id, m] * made.per_step for m in tokens]
        return reply

    def turn(self, id: int, m: int, seconds: float) -> Reply:
        """Mean seconds of a product over at least ``seconds``; one step before is not counted."""
        made, count, steps = self._held[id], 0, self._warm[id, m]
        at = self._next.get((id, m), 0)
        made.run(m, at % steps)
        start = time.perf_counter()
        while count == 0 or time.perf_counter() - start < seconds:
            count += 1
            made.run(m, (at + count) % steps)
        spent = time.perf_counter() - start
        self._next[id, m] = at + count + 1
        return {"seconds": spent / count / made.per_step}

    def drop(self) -> Reply:
        """Free all weights."""
        self._held.clear()
        self._warm.clear()
        self._next.clear()
        gc.collect()
        return {}


def _steps_within(made: Steps, m: int, seconds: float) -> int:
    """How many steps, run in order from the first, fit in ``seconds``: at least one."""
    start = time.perf_counter()
    for step in range(made.steps):
        made.run(m, step)
        if time.perf_counter() - start > seconds:
            return step + 1
    return made.steps


def main() -> None:
    """``python -m ladder.peers.worker ENGINE THREADS``: requests on stdin, answers on stdout."""
    name, threads = sys.argv[1], int(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what engines print is not an answer
    server = Server(engine_class(name)(threads))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(server, request.pop("do"))(**request)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
