"""Which rung a product stands on: look-ups, integer dot products, or float, and why.

A pure choice from the type, the activation mode, M and what is known of the target
(``facts.Machine``): its kernels and, where they were measured, its costs.
"""

from __future__ import annotations

from ladder.ir.activation import FLOAT, TABLE8
from ladder.ir.dtype import DType
from ladder.ir.facts import KernelChoice, Machine

LUT, DOT = "lut", "dot"
SCHEMES = ("auto", LUT, DOT)
DOT_FROM = 4  # tokens that pay for unpacking the weights once, where nothing was measured


def choose(
    dtype: DType, mode: str, m: int | None, machine: Machine, scheme: str = "auto"
) -> KernelChoice:
    """The kernel of one product; M is None where it is not known."""
    if mode == FLOAT:
        return KernelChoice(FLOAT, FLOAT, "activations stay float: weights are decoded on the way")
    mode, because = _mode(dtype, mode)
    only = _only(dtype, mode)
    if only is not None:
        refused = f"; {scheme} was asked for" if scheme not in ("auto", only[0]) else ""
        return KernelChoice(only[0], mode, because + only[1] + refused)
    if scheme != "auto":
        return KernelChoice(scheme, mode, because + "asked for")
    times = {s: machine.seconds(dtype.name, s, m) for s in (LUT, DOT)}
    if m is not None and all(times.values()):
        at = min(machine.measured_at(dtype.name, s, m) for s in times)
        return _cheaper(mode, at, machine, because, {k: v for k, v in times.items() if v})
    few = m is not None and m < DOT_FROM
    reason = f"fewer than {DOT_FROM} tokens" if few else f"{DOT_FROM} tokens or more"
    return KernelChoice(LUT if few else DOT, mode, f"{because}{reason} (a rule, not measured)")


def _mode(dtype: DType, mode: str) -> tuple[str, str]:
    """The mode that the type can have, and why it is another one."""
    if mode != TABLE8 or not (dtype.levels or dtype.element.trits):
        return mode, ""
    what = "codes name the entries of a book" if dtype.levels else "five digits share a byte"
    return "int8", f"table8 sums bit planes, and {dtype.name} has none ({what}): int8 instead; "


def _only(dtype: DType, mode: str) -> tuple[str, str] | None:
    """The scheme where there is one alone."""
    if mode == TABLE8:
        return LUT, "table8 is computed by look-ups"
    if dtype.levels:
        return DOT, "codes are looked up in registers and multiplied as integers"
    if dtype.element.trits:
        return DOT, "digits are unpacked in registers and multiplied as integers"
    return None


def _cheaper(
    mode: str, at: int, machine: Machine, because: str, times: dict[str, float]
) -> KernelChoice:
    best, other = sorted(times, key=lambda s: times[s])
    compared = f"{best} {1e3 * times[best]:.3g} ms, {other} {1e3 * times[other]:.3g} ms"
    return KernelChoice(best, mode, f"{because}{compared} at M={at} ({machine.measured})")


def rungs_of(dtype: DType, choice: KernelChoice) -> dict[str, list[str]]:
    """The steps of a weight: those ahead of time, and those in registers."""
    ahead = ["split trits" if dtype.element.trits else "split bit planes", "pad", "repack"]
    if choice.scheme == LUT:
        return {"ahead": ahead, "in_registers": ["look up activation tables"]}
    found = dtype.levels
    inside = ["join trits" if dtype.element.trits else "join planes"]
    if choice.scheme == FLOAT:
        inside += ["look up code book"] if found else []
        return {"ahead": ahead, "in_registers": [*inside, "convert to float"]}
    if found:
        exact = "exact" if found.error == 0 else f"error {found.error:.0e}"
        inside.append(f"look up code book ({len(found.digits)} byte digits, {exact})")
    return {"ahead": ahead, "in_registers": [*inside, "integer dot product"]}
