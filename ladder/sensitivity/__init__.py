"""Sensitivity: the loss of a model's output when a single site has a low-bit type."""
