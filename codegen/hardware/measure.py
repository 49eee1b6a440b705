"""Density and energy of units, measured on their gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ladder.codegen.hardware.stepping import accumulated
from ladder.codegen.hardware.switching import power_of
from ladder.codegen.hardware.synthesis import Netlist, synthesise
from ladder.codegen.hardware.tools import LIBRARY
from ladder.codegen.hardware.workloads import Workload, check_bits, usual_widths
from ladder.hardware.tensor_cores import TensorCore


@dataclass(frozen=True)
class Measured:
    """A unit with weights of some bits. Operations are two for each weight: multiply and add."""

    unit: str
    weight_bits: int
    area_mm2: float
    cells: int
    path_ns: float
    period_ns: float
    meets_timing: bool
    gops_per_mm2: float
    pj_per_operation: float
    milliwatts: float
    cycles_simulated: int
    data: str
    library: str = LIBRARY

    def json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    core: TensorCore, bits: Sequence[int], work: Workload, period: float, folder: Path | None = None
) -> Iterator[Measured]:
    """A row for each width of weights; all that the unit is made for, if none is given.

    The netlist and what the tools wrote stay in ``folder``.

    Raises:
        LadderError: a tool is missing or fails, or the unit cannot read such weights.
    """
    chosen = bits or usual_widths(core)
    for width in chosen:
        check_bits(core, width)
    with TemporaryDirectory() as temporary:
        netlist = synthesise(core, folder or Path(temporary), period)
        for width in chosen:
            yield _row(netlist, width, work)


def density(core: TensorCore, bits: int, netlist: Netlist) -> float:
    """Operations a second for each square millimetre, in 10^9."""
    return core.operations(bits) / netlist.period_ns / (netlist.area * 1e-6)


def _row(netlist: Netlist, bits: int, work: Workload) -> Measured:
    core = netlist.core
    stream = work.stream(core, bits)
    watts = power_of(netlist, stream, accumulated(core, stream))
    return Measured(
        unit=core.name,
        weight_bits=bits,
        area_mm2=round(netlist.area * 1e-6, 4),
        cells=netlist.cells,
        path_ns=netlist.path_ns,
        period_ns=netlist.period_ns,
        meets_timing=netlist.meets_timing,
        gops_per_mm2=round(density(core, bits, netlist), 3),
        pj_per_operation=round(watts * netlist.period_ns * 1e3 / core.operations(bits), 4),
        milliwatts=round(watts * 1e3, 3),
        cycles_simulated=stream.cycles,
        data=work.name,
    )
