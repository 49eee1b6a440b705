"""Low-bit kernels as TIR: any shape at run time; type, mode and instruction set at compile time."""

from ladder.codegen.kernels.library import kernel, name_of

__all__ = ["kernel", "name_of"]
