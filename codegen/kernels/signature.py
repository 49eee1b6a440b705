"""The operands of every low-bit kernel, in order: what it reads and writes, as data.

Packing, the kernels' own parameters, C headers and benchmarks all take the order from here. Shapes
and terms: ``ladder.codegen.layout``. A letter in a shape names a size of the call; a number is
compiled into the kernel. This module needs no compiler.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ladder.codegen.layout import CHUNK, LANES, TILE, Packing
from ladder.ir.activation import QUANTIZED, STATIC
from ladder.ir.numerics import LUT_GROUP

A = TypeVar("A")
TABLES = CHUNK // LUT_GROUP * (1 << LUT_GROUP)  # entries of a chunk's tables
ON_FLOATS = ("gather", "float_gemm")  # these read a code book's values, not its digits


Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Operand:
    """A buffer that a kernel reads or writes."""

    name: str
    shape: Shape
    dtype: str
    when: bool = True  # whether this kernel has it
    written: bool = False

    def sized(self, **sizes: int) -> tuple[int, ...]:
        """The shape where the letters stand for these sizes."""
        return tuple(dim if isinstance(dim, int) else size_of(dim, sizes) for dim in self.shape)


Operands = tuple[Operand, ...]


def size_of(dim: str, sizes: Mapping[str, Any]) -> Any:
    """A letter's size, or as ``B + 1`` what is that much larger."""
    letter, _, more = dim.partition(" + ")
    return sizes[letter] + int(more) if more else sizes[letter]


def operands(op: str, packing: Packing, mode: str = "") -> Operands:
    """What the product or Gather ``op`` reads, its weight, and what it writes, in that order."""
    return (*read_operands(op, mode), *weight_operands(op, packing), _written(op))


def weight_operands(op: str, packing: Packing) -> Operands:
    """The part of the operands that weights are packed into.

    ``digits`` and ``values`` are those of a code book, one of them for each kind of kernel.
    ``starts`` and ``numbers`` say which chunks the outliers of a K-block have, how many digits,
    and what each counts more than the one below (``ladder.codegen.mux_layout``).
    """
    rows, on_floats = ("NT", "S", TILE), op in ON_FLOATS
    lines = "C" if op == "lut_gemm" else "P"  # P: of planes C, of other storage its own
    digits, book = (max(packing.digits, 1), packing.entries), packing.digits > 0
    return (
        Operand("planes", ("NT", lines, packing.bits, 2, LANES), "int32"),
        Operand("digits", digits, "uint8", book and not on_floats),
        Operand("values", (packing.entries,), "float32", book and on_floats),
        Operand("w_scale", rows, packing.scale_type),
        Operand("zero", rows, packing.zero_type, bool(packing.zero)),
        Operand("factor", (1,), "float32", packing.factor),
        Operand("starts", ("B + 1",), "int32", packing.mux),
        Operand("numbers", (2,), "int32", packing.mux),
    )


def read_operands(op: str, mode: str) -> Operands:
    """The part that comes first: the activation's, or the numbers of rows."""
    if op == "gather":
        return (Operand("ids", ("M",), "int64"),)
    if op == "float_gemm":
        return (Operand("x", ("M", "K"), "float32"),)
    codes = Operand("q", ("M", "C", CHUNK), "int8")
    table = Operand("table", ("M", "C", *table_entries(mode)), "int8")
    return (
        table if op == "lut_gemm" else codes,
        Operand("a_scale", ("M", "B"), "float32"),
        Operand("a_total", ("M", "B"), "int32"),
    )


def _written(op: str) -> Operand:
    return Operand("out", ("M", "K" if op == "gather" else "N"), "float32", written=True)


def accelerator_operands(
    op: str, packing: Packing, mode: str, line: tuple[int, ...] = (2, LANES)
) -> Operands:
    """A product's operands in programs for accelerators: ``activation`` is codes or tables.

    ``line`` is the shape of the innermost part of the planes.
    """
    first, *others = operands(op, packing, mode)
    planes: Shape = ("NT", "P", packing.bits, *line)
    return (
        replace(first, name="activation"),
        *(replace(o, shape=planes) if o.name == "planes" else o for o in others),
    )


def quantize_operands(
    mode: str, operand_axes: int = 0, tables: bool = False, muxed: bool = False
) -> Operands:
    """Of a kernel that rounds activations; ``operand_axes``: of ``sources.Source``.

    With ``tables`` it writes the codes' exact tables instead of the codes. ``small`` and
    ``outliers`` are those of ``AuxLayout``.
    """
    inner = table_entries(mode) if tables else (CHUNK,)
    return (
        *_source(operand_axes),
        Operand("static", (1,), "float32", QUANTIZED[mode].granularity == STATIC),
        Operand("small", ("S", CHUNK), "float32", muxed),
        Operand("outliers", ("O", 4), "int32", muxed),
        *_rounded("out", *inner),
    )


def table8_operands(operand_axes: int = 0) -> Operands:
    """Of the kernel that makes rounded tables."""
    return (*_source(operand_axes), *_rounded("table", TABLES))


def exact_tables_operands(mode: str) -> Operands:
    """Of the kernel that makes exact tables of codes."""
    return (
        Operand("q", ("M", "C", CHUNK), "int8"),
        Operand("table", ("M", "C", *table_entries(mode)), "int8", written=True),
    )


def scalar_activation_operands(entry: int) -> Operands:
    """Of an accelerator's kernel that rounds activations, to codes or tables of ``entry`` bytes."""
    return (Operand("x", ("M", "K"), "float32"), *_rounded("out", entry))


def _source(axes: int) -> Operands:
    """X is K, or twice that where a token's numbers come from two halves."""
    operand = ("M", "X") if axes == 2 else ("X",)
    return Operand("x", ("M", "X"), "float32"), Operand("operand", operand, "float32", axes > 0)


def _rounded(name: str, *inner: int) -> Operands:
    return (
        Operand(name, ("M", "C", *inner), "int8", written=True),
        Operand("scale", ("M", "B"), "float32", written=True),
        Operand("total", ("M", "B"), "int32", written=True),
    )


def two_planes(mode: str) -> bool:
    """Whether the tables of a mode are 16-bit numbers, as two planes of bytes."""
    return mode in QUANTIZED and not QUANTIZED[mode].exact_tables_fit_a_byte


def table_entries(mode: str) -> tuple[int, ...]:
    """The tables of a chunk: bytes, or two planes of them with the high bytes last."""
    return (2, TABLES) if two_planes(mode) else (TABLES,)


def present(every: Operands) -> Iterator[Operand]:
    """Those that the kernel has."""
    return (operand for operand in every if operand.when)


def in_order(every: Operands, found: Mapping[str, A]) -> list[A]:
    """What was ``found`` for operands by their names, as arguments of the kernel."""
    return [found[operand.name] for operand in present(every)]
