"""Kernels for x86: AVX2, AVX-512, AMX."""
