"""Which weight gets which type: the problem as plain data, and its exact solution."""
