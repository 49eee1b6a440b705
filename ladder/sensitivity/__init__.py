"""Sensitivity: what a model's output loses when one site alone has one type."""
