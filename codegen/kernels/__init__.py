"""Low-bit kernels as TIR: any shape at run time; type, mode and instruction set at compile time."""

from ladder.codegen.script_frames import install

install()
