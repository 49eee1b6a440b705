"""Runs passes in order: checks what each needs, verifies after each, calls observers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import onnx_ir as ir

from ladder.errors import LadderError
from ladder.ir import facts
from ladder.ir.dump import dump_text
from ladder.ir.names import make_unique, named
from ladder.ir.verify import verify
from ladder.passes.infra.base import Pass, PassError


class Observer(Protocol):
    """Called before and after each pass. Dumping, timing and progress are observers."""

    def before(self, number: int, p: Pass, model: ir.Model) -> None: ...

    def after(self, number: int, p: Pass, model: ir.Model, seconds: float) -> None: ...


def run_passes(
    model: ir.Model, passes: Iterable[Pass], observers: Sequence[Observer] = ()
) -> ir.Model:
    """Run ``passes`` over ``model`` in place and return it."""
    ran: list[str] = []
    for number, p in enumerate(passes, 1):
        _check_needs(p, model, ran)
        for observer in observers:
            observer.before(number, p, model)
        start = time.perf_counter()
        _run_one(number, p, model, ran)
        seconds = time.perf_counter() - start
        ran.append(p.pass_name())
        for observer in observers:
            observer.after(number, p, model, seconds)
    return model


def _check_needs(p: Pass, model: ir.Model, ran: list[str]) -> None:
    for fact in p.needs:
        if facts.get(model, fact) is None:
            raise PassError(
                f"pass {p.pass_name()} needs {fact.__name__}; ran: {', '.join(ran) or 'nothing'}"
            )


def _run_one(number: int, p: Pass, model: ir.Model, ran: list[str]) -> None:
    where = f"pass {p.pass_name()} (number {number}, after {ran[-1] if ran else 'nothing'})"
    before = set(named(model))
    try:
        p.run(model)
    except LadderError as error:
        raise type(error)(f"{where}: {error}") from error
    make_unique(model, before)
    problem = verify(model)
    if problem is not None:
        raise PassError(f"{where} produced an invalid model: {problem}")
    for fact in p.gives:
        if facts.get(model, fact) is None:
            raise PassError(f"{where} did not add its fact {fact.__name__}")


class DumpObserver:
    """Writes the IR before the first pass and after each: ``00-input.txt, 01-clean-up.txt``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def before(self, number: int, p: Pass, model: ir.Model) -> None:
        if number == 1:
            (self.folder / "00-input.txt").write_text(dump_text(model))

    def after(self, number: int, p: Pass, model: ir.Model, seconds: float) -> None:
        (self.folder / f"{number:02d}-{p.pass_name()}.txt").write_text(dump_text(model))


class TimingObserver:
    """Collects (pass text, seconds)."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float]] = []

    def before(self, number: int, p: Pass, model: ir.Model) -> None:
        pass

    def after(self, number: int, p: Pass, model: ir.Model, seconds: float) -> None:
        self.rows.append((str(p), seconds))
