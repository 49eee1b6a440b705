"""Kernels that round activations or make their tables, one number at a time, for accelerators."""

from __future__ import annotations

from typing import Any

from tvm.script import tirx as T

from ladder.codegen.kernels import scalar
from ladder.codegen.kernels.parameters import declare
from ladder.codegen.kernels.scalar import Machine
from ladder.codegen.kernels.signature import (
    TABLES,
    exact_tables_operands,
    scalar_activation_operands,
)
from ladder.codegen.layout import CHUNK, TILE, Packing


def quantize_activation(machine: Machine, packing: Packing, mode: str) -> Any:
    """x float32 [M, K] -> q int8 [M, C, 16], scale float32 [M, B], total int32 [M, B]."""
    name = f"quantize_activation_{machine.name}_{mode}_k{packing.block}"
    emit = scalar.quantize_block(machine, packing, mode)
    return _each_block(machine, name, packing, CHUNK, emit)


def table8(machine: Machine, packing: Packing) -> Any:
    """x float32 [M, K] -> table int8 [M, C, 64], half scale [M, B], total int32 [M, B]."""
    name = f"table8_{machine.name}_k{packing.block}"
    return _each_block(machine, name, packing, TABLES, scalar.table8_block(machine, packing))


def _each_block(machine: Machine, name: str, packing: Packing, entry: int, emit: Any) -> Any:
    """One step (on a GPU, one work item) for each token and scale block."""
    size, over, operands = packing.block, machine.over, scalar_activation_operands(entry)

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(declare(operands, "int32"))
        M, K, B = T.meta_var((args.size.M, args.size.K, args.size.B))
        for group in over(T.ceildiv(K, size * TILE), "blockIdx.x"):
            for m in over(M, "blockIdx.y"):
                for item in over(TILE, "threadIdx.x"):
                    if group * TILE + item < B:
                        emit(args, m, group * TILE + item)

    return kernel


def exact_tables(machine: Machine, mode: str) -> Any:
    """q int8 [M, C, 16] -> exact tables int8 [M, C, 2, 64]; one work item for each entry."""
    scalar.check_mode(mode)
    name, emit, over = (
        f"exact_tables_{machine.name}_{mode}",
        scalar.exact_tables_of_chunk(mode),
        machine.over,
    )

    @T.prim_func  # type: ignore[untyped-decorator]
    def kernel() -> None:
        T.func_attr({"global_symbol": name, "tirx.noalias": True})
        args = T.meta_var(declare(exact_tables_operands(mode), "int32"))
        for chunk in over(args.size.C, "blockIdx.x"):
            for m in over(args.size.M, "blockIdx.y"):
                for at in over(TABLES, "threadIdx.x"):
                    emit(args.table, args.q, m, chunk, at)

    return kernel
