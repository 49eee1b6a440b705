"""Runs the kernels of recurrent operators on this processor and on emulated ones."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from kernel_cases import HERE
from recurrent_cases import Array, Operator
from tvm import tirx

from emulation import arm64, calls
from emulation.products import build
from ladder.codegen.kernels.library import name_of
from ladder.codegen.packing import Weights
from ladder.codegen.relax_import import Importer
from ladder.hardware.targets import LEVELS, Level


@dataclass(frozen=True)
class Call:
    """An operator over the first ``tokens`` tokens of its text."""

    operator: Operator
    tokens: int
    in_place: bool

    def kernel(self, family: str) -> tirx.PrimFunc:
        """What code generation makes of it."""
        importer = Importer(family, Weights())
        importer.add(self.operator.model(self.tokens, of_model=self.in_place), "main")
        module = importer.builder.get()
        (func,) = (f for f in module.functions.values() if isinstance(f, tirx.PrimFunc))
        return func

    def arrays(self) -> list[Array]:
        """Its operands with the state last, then buffers for its results."""
        parts = self.operator.part(0, self.tokens, self.operator.first)
        state = parts.pop(self.operator.state)
        assert state is not None
        out = np.full_like(self.wanted()[0], 77)
        kept = [part for part in parts if part is not None]
        return [*kept, state, out, *([] if self.in_place else [np.full_like(state, 77)])]

    def results(self) -> tuple[int, int]:
        """The places of the output and of the state after the tokens in ``arrays``."""
        return (-1, -2) if self.in_place else (-2, -1)

    def wanted(self) -> tuple[Array, Array]:
        """The output and the state of the reference."""
        return self.operator.reference(*self.operator.part(0, self.tokens, self.operator.first))


Results = list[tuple[Array, Array]]
Runner = Callable[[Sequence[Call]], Results]


def _here(level: Level) -> Runner:
    def run(calls: Sequence[Call]) -> Results:
        kernels = [call.kernel(level.kernels) for call in calls]
        by_name = {name_of(kernel): kernel for kernel in kernels}
        built = tvm.compile(tvm.IRModule(by_name), target=tvm.target.Target(dict(level.llvm)))
        found = []
        for call, kernel in zip(calls, kernels, strict=True):
            tensors = [tvm.runtime.tensor(array) for array in call.arrays()]
            built[name_of(kernel)](*tensors)
            y, state = (tensors[place].numpy() for place in call.results())
            found.append((y, state))
        return found

    return run


def _emulated(level: Level, cpu: str) -> Runner:
    def run(todo: Sequence[Call]) -> Results:
        kernels = [call.kernel(level.kernels) for call in todo]
        arrays: dict[str, Any] = {}
        operands: list[list[str]] = []
        for i, call in enumerate(todo):
            named = {f"{i}_{j}": array for j, array in enumerate(call.arrays())}
            arrays |= named
            operands.append([*named])
        steps = [(name_of(k), names) for k, names in zip(kernels, operands, strict=True)]
        wanted = [[names[p] for p in c.results()] for c, names in zip(todo, operands, strict=True)]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            np.savez(folder / "arrays.npz", **arrays)
            names = [name for pair in wanted for name in pair]
            work = {"buffers": {}, "calls": steps, "results": names}
            (folder / "calls.json").write_text(json.dumps(work))
            library = build({name_of(k): k for k in kernels}, level, folder)
            arm64.run_python(cpu, [calls.__file__, str(library), place, str(folder / "out.npz")])
            out = np.load(folder / "out.npz")
            return [(out[y], out[state]) for y, state in wanted]

    return run


RUNNERS: dict[str, Runner] = {
    level.name: _here(level)
    for level in HERE
    if level.name in ("x86-64", "x86-64-v3", "x86-64-vnni", "arm64")
}
RUNNERS["armv8.0-neon"] = _emulated(LEVELS["armv8.0-neon"], "armv8.0")
