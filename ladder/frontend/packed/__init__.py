"""Checkpoints whose weights are packed codes with scales, one module for each format."""
