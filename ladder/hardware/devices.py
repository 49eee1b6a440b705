"""Devices with an ARM CPU: published facts for projections. Ladder measured none of them.

Instruction rates are for vectors of 16 bytes, per core and cycle. Light: TVM is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GB = 1e9
N1 = "LLVM's scheduling model of Neoverse N1 (AArch64SchedNeoverseN1.td), the A76's sibling"
ORYON = "LLVM's scheduling model (AArch64SchedOryon.td)"
A76 = "Arm Cortex-A76 Software Optimization Guide (PJDOC-466751330-7215)"
PI = "Raspberry Pi 5 product brief"
X_ELITE = "Snapdragon X Elite product brief (X1E-80-100)"
GEN3 = "Snapdragon 8 Gen 3 product brief"
X4 = "Arm Cortex-X4 Technical Reference Manual"
GRAVITON = "AWS Graviton3 announcement (re:Invent 2021) and technical guide"
V1 = "Arm Neoverse V1 Technical Reference Manual and Software Optimization Guide"
M1 = "Apple M1 announcement (2020); caches: sysctl hw.perflevel0 of that chip"


@dataclass(frozen=True)
class Fact:
    """A number and its source."""

    value: float
    source: str


@dataclass(frozen=True)
class Device:
    """The facts that a projection needs; of the fast cores, if a chip has several kinds."""

    name: str
    level: str  # the level of ``ladder.hardware.targets`` that its code is compiled for
    cpu: str
    cores: int
    clock: Fact  # Hz
    bandwidth: Fact  # of memory, in bytes per second, for all cores together
    l1: Fact  # bytes of the data cache of a core
    l2: Fact  # bytes per core, or a core's share
    per_cycle: Mapping[str, Fact]  # "load", "vector", "tbl1", "tbl4", "sdot", "smmla"


def _facts(source: str, **values: float) -> dict[str, Fact]:
    return {name: Fact(value, source) for name, value in values.items()}


_N1_RATES = _facts(A76, load=2, vector=2, sdot=2) | _facts(N1, tbl1=2, tbl4=2 / 3)
_V1_RATES = _facts(V1, load=3, vector=4, sdot=4, smmla=4)

DEVICES = {
    device.name: device
    for device in (
        Device(
            "raspberry-pi-5",
            "raspberry-pi-5",
            "4 x Cortex-A76 (BCM2712)",
            4,
            Fact(2.4e9, PI),
            Fact(17.1 * GB, f"{PI}: LPDDR4X-4267, 32 bits"),
            Fact(64 * 1024, A76),
            Fact(512 * 1024, f"{PI}: 512 kB L2 a core, 2 MB shared L3"),
            _N1_RATES,
        ),
        Device(
            "snapdragon-x-elite",
            "snapdragon-x-elite",
            "12 x Oryon",
            12,
            Fact(3.4e9, f"{X_ELITE}: all cores"),
            Fact(135 * GB, f"{X_ELITE}: LPDDR5x-8448, 128 bits"),
            Fact(96 * 1024, "Qualcomm at Hot Chips 2024"),
            Fact(3 * 1024 * 1024, "Qualcomm at Hot Chips 2024: 12 MB for four cores"),
            _facts(ORYON, load=4, vector=4, tbl1=4, tbl4=4 / 3, sdot=4, smmla=2),
        ),
        Device(
            "snapdragon-8-gen3",
            "snapdragon-8-gen3",
            "1 x Cortex-X4, 5 x Cortex-A720 (and 2 x Cortex-A520, not counted)",
            6,
            Fact(2.96e9, f"{GEN3}: the slower A720; X4 3.3 GHz"),
            Fact(76.8 * GB, f"{GEN3}: LPDDR5x-9600, 64 bits"),
            Fact(64 * 1024, X4),
            Fact(512 * 1024, "Arm Cortex-A720 Technical Reference Manual: up to 512 kB"),
            _facts("Arm Cortex-A720 Software Optimization Guide", load=2, vector=2, sdot=2),
        ),
        Device(
            "aws-graviton3",
            "aws-graviton3",
            "64 x Neoverse V1",
            64,
            Fact(2.6e9, GRAVITON),
            Fact(307.2 * GB, f"{GRAVITON}: 8 channels of DDR5-4800"),
            Fact(64 * 1024, V1),
            Fact(1024 * 1024, GRAVITON),
            _V1_RATES,
        ),
        Device(
            "apple-m",
            "apple-m",
            "4 x Firestorm (M1; 4 x Icestorm not counted)",
            4,
            Fact(3.2e9, M1),
            Fact(68.25 * GB, f"{M1}: LPDDR4X-4266, 128 bits"),
            Fact(128 * 1024, M1),
            Fact(3 * 1024 * 1024, f"{M1}: 12 MB for four cores"),
            _facts("dougallj's Firestorm tables", load=3, vector=4, tbl1=4, tbl4=4 / 3, sdot=4),
        ),
    )
}
