"""Low-bit kernels as TIR: any shape at run time; type, mode and instruction set at compile time."""
