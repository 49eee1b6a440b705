"""Emulation of other processors, on which tests run cross-compiled kernels."""
