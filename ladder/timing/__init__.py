"""Seconds of kernels: measured, cached, read from tables."""
