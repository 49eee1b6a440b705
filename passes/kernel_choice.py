"""The scheme of a product and the reason: look-ups, dot products, matrix tiles, or float.

The choice depends on the type, the activation mode, M and the fact ``Machine`` alone: the kernels
of the target and, where they were measured, their costs.
"""

from __future__ import annotations

from ladder.ir.activation import FLOAT, TABLE8, block_of
from ladder.ir.dtype import DType
from ladder.ir.facts import KernelChoice, Machine

LUT, DOT, TILE = "lut", "dot", "tile"
SCHEMES = ("auto", LUT, DOT, TILE)
MANY = 4  # tokens from which unpacking the weights once pays, where nothing was measured


def choose(
    dtype: DType,
    mode: str,
    m: int | None,
    machine: Machine,
    scheme: str = "auto",
    tiles: str = "",
) -> KernelChoice:
    """The kernel of one product; M is None if it is not known.

    ``tiles`` says why matrix tiles cannot compute it, and is empty if they can.
    """
    if mode == FLOAT:
        return KernelChoice(
            FLOAT, FLOAT, "activations stay float: weights are decoded in the kernel"
        )
    mode, because = _mode(dtype, mode)
    ways, why = _ways(dtype, mode)
    if tiles and TILE in ways and TILE in machine.schemes:
        ways = tuple(way for way in ways if way != TILE)
        because += f"no matrix tiles: {tiles}; "
    able = [way for way in ways if way in machine.schemes]
    refused = "" if scheme in ("auto", *able) else f"{scheme} was asked for"
    if scheme in ways and refused:
        refused += f", which {machine.name} has no kernels for"
    if len(able) == 1:
        return KernelChoice(able[0], mode, "; ".join(filter(None, (because + why, refused))))
    if scheme in able:
        return KernelChoice(scheme, mode, because + "asked for")
    if refused:
        because += f"{refused}; " if scheme in ways else f"{why}; {refused}; "
    return _by_cost(dtype, mode, m, machine, able, because)


def no_tiles(dtype: DType, mode: str, k: int, muxed: bool = False) -> str:
    """Why matrix tiles cannot compute a product; empty if they can."""
    if muxed:
        return "they do not support outliers"
    if block_of(dtype, mode, k) != dtype.block:
        return "they add scale blocks in float, and this mode needs one integer sum over all of K"
    return ""


def _by_cost(
    dtype: DType, mode: str, m: int | None, machine: Machine, ways: list[str], because: str
) -> KernelChoice:
    """The fastest of several schemes by measured times; by a rule if one was not measured."""
    times = {way: machine.seconds(dtype.name, way, m) for way in ways}
    if m is not None and all(times.values()):
        at = min(machine.measured_at(dtype.name, way, m) for way in ways)
        measured = f"at M={at} ({machine.origin(dtype.name)})"
        return _cheapest(mode, measured, because, {k: v for k, v in times.items() if v})
    few = m is not None and m < MANY
    reason = f"fewer than {MANY} tokens" if few else f"{MANY} tokens or more"
    chosen = next(way for way in ((LUT, DOT) if few else (TILE, DOT)) if way in ways)
    return KernelChoice(chosen, mode, f"{because}{reason} (a rule, not measured)")


def _mode(dtype: DType, mode: str) -> tuple[str, str]:
    """The mode that the type supports, and the reason if it is another one."""
    if mode != TABLE8 or not (dtype.levels or dtype.element.storage.per_byte):
        return mode, ""
    what = "its codes index a code book" if dtype.levels else "five digits share a byte"
    return "int8", f"table8 sums bit planes, and {dtype.name} has none ({what}): int8 instead; "


def _ways(dtype: DType, mode: str) -> tuple[tuple[str, ...], str]:
    """The schemes that a type supports, and why there are no others."""
    if mode == TABLE8:
        return (LUT,), "table8 is computed by look-ups"
    if dtype.levels:
        return (DOT, TILE), "codes are looked up in registers and multiplied as integers"
    if dtype.element.storage.per_byte:
        return (DOT, TILE), "digits are unpacked in registers and multiplied as integers"
    return (LUT, DOT, TILE), ""


def _cheapest(mode: str, measured: str, because: str, times: dict[str, float]) -> KernelChoice:
    ways = sorted(times, key=lambda way: times[way])
    compared = ", ".join(f"{way} {1e3 * times[way]:.3g} ms" for way in ways)
    return KernelChoice(ways[0], mode, f"{because}{compared} {measured}")


def rungs_of(dtype: DType, choice: KernelChoice) -> dict[str, list[str]]:
    """The rungs of a weight: those that run at compile time, and those in registers."""
    storage = dtype.element.storage
    ahead = [f"split {'' if storage.per_byte else 'bit '}{storage.noun}", "pad", "repack"]
    if choice.scheme == LUT:
        return {"ahead": ahead, "in_registers": ["look up activation tables"]}
    found = dtype.levels
    inside = [f"join {storage.noun}"]
    if choice.scheme == FLOAT:
        inside += ["look up code book"] if found else []
        return {"ahead": ahead, "in_registers": [*inside, "convert to float"]}
    if found:
        exact = "exact" if found.error == 0 else f"error {found.error:.0e}"
        inside.append(f"look up code book ({len(found.digits)} byte digits, {exact})")
    product = "matrix tiles" if choice.scheme == TILE else "integer dot product"
    return {"ahead": ahead, "in_registers": [*inside, product]}
