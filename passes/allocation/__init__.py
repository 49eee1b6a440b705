"""The choice of a type for every weight: the problem as plain data, and its exact solution."""
