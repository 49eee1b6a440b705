"""The operands of every low-bit kernel, in order, as data: the buffers it reads and writes.

Packing, the kernels' parameters, C headers and benchmarks all take the order from here. Shapes and
terms: ``ladder.codegen.layout``. A letter in a shape names a size of the call; a number is compiled
into the kernel. This module needs no compiler.
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
ON_FLOATS = (
    "gather",
    "float_gemm",
    "expert_gemm",
)  # kernels that read a code book's values, not its digits


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
        """The shape for these sizes of the letters."""
        return tuple(dim if isinstance(dim, int) else size_of(dim, sizes) for dim in self.shape)


Operands = tuple[Operand, ...]


def size_of(dim: str, sizes: Mapping[str, Any]) -> Any:
    """The size of a letter, or of a sum such as ``B + 1``."""
    letter, _, more = dim.partition(" + ")
    return sizes[letter] + int(more) if more else sizes[letter]


def operands(op: str, packing: Packing, mode: str = "") -> Operands:
    """The operands of the product or Gather ``op``: what it reads, its weight, what it writes."""
    return (*read_operands(op, mode), *weight_operands(op, packing), _written(op))


def weight_operands(op: str, packing: Packing) -> Operands:
    """The operands that weights are packed into.

    ``digits`` and ``values`` are those of a code book; a kernel has one of them. ``starts`` and
    ``numbers`` give the chunks of the outliers of a scale block, the number of digits, and the
    base of the digits (``ladder.codegen.mux_layout``).
    """
    rows, on_floats = ("NT", "S", TILE), op in ON_FLOATS
    lines = "C" if op == "lut_gemm" else "P"  # P is C for planes, another size for other storage
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
    """The first operands: those of the activation, or the row indices."""
    if op == "gather":
        return (Operand("ids", ("M",), "int64"),)
    if op == "float_gemm":
        return (Operand("x", ("M", "K"), "float32"),)
    if op == "expert_gemm":
        ids, order = (Operand(name, ("M",), "int64") for name in ("ids", "order"))
        return (ids, order, Operand("x", ("M", "K"), "float32"))
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
    """The operands of a product on accelerators: ``activation`` is codes or tables.

    ``line`` is the shape of the innermost axes of the planes.
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
    """The operands of a kernel that rounds activations; ``operand_axes``: of ``sources.Source``.

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
    """The operands of the kernel that makes rounded tables."""
    return (*_source(operand_axes), *_rounded("table", TABLES))


def exact_tables_operands(mode: str) -> Operands:
    """The operands of the kernel that makes exact tables of codes."""
    return (
        Operand("q", ("M", "C", CHUNK), "int8"),
        Operand("table", ("M", "C", *table_entries(mode)), "int8", written=True),
    )


def scalar_activation_operands(entry: int) -> Operands:
    """The operands of an accelerator's kernel that rounds activations, to ``entry`` bytes each."""
    return (Operand("x", ("M", "K"), "float32"), *_rounded("out", entry))


def _source(axes: int) -> Operands:
    """The operands of a source; X is K, or 2 K if a token's numbers come from two halves."""
    operand = ("M", "X") if axes == 2 else ("X",)
    return Operand("x", ("M", "X"), "float32"), Operand("operand", operand, "float32", axes > 0)


def _rounded(name: str, *inner: int) -> Operands:
    return (
        Operand(name, ("M", "C", *inner), "int8", written=True),
        Operand("scale", ("M", "B"), "float32", written=True),
        Operand("total", ("M", "B"), "int32", written=True),
    )


def two_planes(mode: str) -> bool:
    """Whether the tables of a mode have 16-bit entries, as two planes of bytes."""
    return mode in QUANTIZED and not QUANTIZED[mode].exact_tables_fit_a_byte


def table_entries(mode: str) -> tuple[int, ...]:
    """The shape of a chunk's tables: bytes, or two planes of bytes with the high ones last."""
    return (2, TABLES) if two_planes(mode) else (TABLES,)


def present(every: Operands) -> Iterator[Operand]:
    """The operands that the kernel has."""
    return (operand for operand in every if operand.when)


def in_order(every: Operands, found: Mapping[str, A]) -> list[A]:
    """The values ``found`` by operand name, in the order of the kernel's arguments."""
    return [found[operand.name] for operand in present(every)]
