"""Kernels and code generation: PrimFuncs by instruction set, and the layouts that they read."""
