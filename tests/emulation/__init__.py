"""Other processors on this one: what tests run cross-compiled kernels with."""
