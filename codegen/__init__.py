"""Kernels and code generation: PrimFuncs by instruction set, and the layouts they read."""
