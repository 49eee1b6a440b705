"""The best time on a device, calculated from published facts: never a measurement.

A product is bound by memory (bytes of its weights / bandwidth) or by instructions (those of its
inner loop, as budgeted per 256 weight bits, / the rate of a core), whichever takes longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ladder.errors import LadderError
from ladder.hardware.accelerators import GPU, NPU
from ladder.hardware.devices import DEVICES, Device
from ladder.hardware.instruction_budgets import BITS, BUDGETS, WEIGHT_BITS, budget_of
from ladder.hardware.targets import LEVELS
from ladder.ir.dtype import DType

LABEL = "projection, not a measurement"
ALL_DEVICES = {**DEVICES, NPU.name: NPU, GPU.name: GPU}
# Kind of instruction in a budget -> the rate of a device that applies.
RATES = {"load": "load", "lookup": "tbl1", "dot": "sdot"}
IN_VECTOR_UNITS = ("lookup", "dot", "vector")
# Hexagon's scalar unit combines scale blocks: load the sum and the scale, subtract the zero,
# convert, multiply, multiply, add, for each row and scale block.
STEPS_OF_A_ROW = 7
# OpenCL's dot_gemm in a work item: a shift, an and, a shift and an or for each of the four quads
# of a chunk and each bit plane; a dot product for each quad. A chunk has 16 weights of a row.
STEPS_OF_A_PLANE, STEPS_OF_A_DOT, QUADS, CHUNK = 4, 1, 4, 16

# Products of whole models: (what, weights in products), and T-MAC's published tokens a second
# (EuroSys'25; its profiling data and README): device, model, type, threads, tokens a second.
LLAMA_7B = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008) + 4096 * 32000
BITNET_3B = 26 * (4 * 3200 * 3200 + 3 * 3200 * 8640)
MODELS = {"Llama-2-7B": LLAMA_7B, "BitNet-3B": BITNET_3B}
PUBLISHED = (
    ("raspberry-pi-5", "Llama-2-7B", "int4:g128", 2, 3.35),
    ("raspberry-pi-5", "Llama-2-7B", "int2:g128", 2, 5.92),
    ("raspberry-pi-5", "BitNet-3B", "ternary2:tensor", 2, 11.09),
    ("snapdragon-x-elite", "Llama-2-7B", "int4:g128", 4, 18.7),
    ("snapdragon-x-elite", "Llama-2-7B", "int2:g128", 4, 28.4),
    ("snapdragon-x-elite", "BitNet-3B", "ternary2:tensor", 4, 48.0),
    ("snapdragon-8-gen3", "Llama-2-7B", "int4:g128", 4, 10.19),
    ("snapdragon-8-gen3", "Llama-2-7B", "int2:g128", 4, 16.62),
    ("snapdragon-x-elite-npu", "Llama-2-7B", "int4:g128", 4, 10.4),
)
NOTES = {"snapdragon-x-elite-npu": "Qualcomm's NPU software, as T-MAC's table 7 has it"}


@dataclass(frozen=True)
class Bound:
    """Seconds of a product for one token, and the calculation as text."""

    what: str
    seconds: float
    arithmetic: str


def device_of(name: str) -> Device:
    """The facts of a device."""
    if name not in ALL_DEVICES:
        raise LadderError(
            f"no published facts about '{name}'; give one of {', '.join(ALL_DEVICES)}"
        )
    return ALL_DEVICES[name]


def project(
    name: str, dtype: DType, n: int, k: int, cores: int = 0, mode: str = "int8"
) -> dict[str, Any]:
    """Project a product for one token with weights [N, K] on ``cores`` cores (0: all) of a device.

    The result has the seconds, the bound, and the calculation of each bound.
    """
    device = device_of(name)
    used = min(cores or device.cores, device.cores)
    bounds = [_memory(device, dtype, n, k), *_instructions(device, dtype, n, k, used, mode)]
    slowest = max(bounds, key=lambda bound: bound.seconds)
    return {
        "label": LABEL,
        "device": name,
        "type": str(dtype),
        "activation": mode,
        "shape": [1, n, k],
        "cores": used,
        "seconds": slowest.seconds,
        "bound_by": slowest.what,
        "bounds": [vars(bound) for bound in bounds],
        "sources": sorted({fact.source for fact in _facts(device)}),
        "not_projected": ""
        if len(bounds) > 1
        else "instructions: there are no budgets or rates for them",
    }


def _facts(device: Device) -> list[Any]:
    return [device.clock, device.bandwidth, *device.per_cycle.values()]


def _memory(device: Device, dtype: DType, n: int, k: int) -> Bound:
    size, speed = dtype.stored_bits(n, k) / 8, device.bandwidth.value
    text = f"{n} x {k} x {dtype.bits_per_weight(n, k):.3g} bits / 8 = {size / 1e6:.4g} MB"
    return Bound("memory", size / speed, f"{text}; / {speed / 1e9:g} GB/s")


def _instructions(
    device: Device, dtype: DType, n: int, k: int, cores: int, mode: str
) -> list[Bound]:
    if device is GPU:
        return [_on_lanes(device, dtype, n, k, cores)]
    family = "hvx" if device is NPU else LEVELS[device.level].kernels
    type = _closest(dtype)
    most = budget_of(family, mode, type) if family in BUDGETS and mode in BUDGETS[family] else None
    if most is None:
        return []
    passes, speed = n * k * dtype.bits / WEIGHT_BITS, device.clock.value * cores
    found = []
    for kind, count in _work(device, most, dtype):
        rate = device.per_cycle.get(kind if device is NPU else RATES.get(kind, kind))
        if rate is None:
            continue
        cycles = count / rate.value
        text = (
            f"{n} x {k} x {dtype.bits} bits / {WEIGHT_BITS} = {passes:.4g} passes x {count:.3g} "
            f"{kind} ({family} lut_gemm {type} {mode}) / {rate.value:.3g} a cycle; "
            f"/ {cores} cores x {device.clock.value / 1e9:g} GHz"
        )
        found.append(Bound(f"{kind} instructions", passes * cycles / speed, text))
    return found


def _work(device: Device, most: Mapping[str, float], dtype: DType) -> list[tuple[str, float]]:
    """(kind, instructions per 256 weight bits)."""
    work = [(kind, most[kind]) for kind in RATES if kind in most]
    work.append(("vector", sum(most.get(kind, 0) for kind in IN_VECTOR_UNITS)))
    if device is NPU:
        work.append(("scalar", STEPS_OF_A_ROW * WEIGHT_BITS / (dtype.block * dtype.bits)))
    return work


def _closest(dtype: DType) -> str:
    """The integer type with as many bits: counts of look-up kernels depend only on bits."""
    return min(BITS, key=lambda type: abs(DType.parse(type).bits - dtype.bits))


def _on_lanes(device: Device, dtype: DType, n: int, k: int, lanes: int) -> Bound:
    steps = QUADS * (dtype.bits * STEPS_OF_A_PLANE + STEPS_OF_A_DOT) / CHUNK
    text = f"{n} x {k} weights x {steps:.3g} operations / {lanes} lanes x"
    speed = lanes * device.clock.value * device.per_cycle["lane"].value
    return Bound("operations", n * k * steps / speed, f"{text} {device.clock.value / 1e9:g} GHz")


def table() -> list[dict[str, Any]]:
    """T-MAC's published tokens per second next to the projection for the same weights.

    The projection uses ``table8``, which has T-MAC's tables.
    """
    rows = []
    for name, model, text, cores, published in PUBLISHED:
        dtype, weights = DType.parse(text), MODELS[model]
        one = project(name, dtype, weights // 4096, 4096, cores, "table8")
        rows.append(
            {
                "device": name,
                "model": model,
                "type": text,
                "cores": one["cores"],
                "projected_tokens_a_second": round(1 / one["seconds"], 1),
                "bound_by": one["bound_by"],
                "published_tokens_a_second": published,
                "published_by": NOTES.get(name, "T-MAC"),
            }
        )
    return rows
