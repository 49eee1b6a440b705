"""Threads of rounding: one for each weight, and none inside of it."""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def one_blas_thread() -> threadpool_limits:
    """A context in which NumPy's products stay in the thread that calls them.

    Weights are rounded side by side; if every product asked for all processors, too, they would
    wait for each other.
    """
    return threadpool_limits(1, "blas")
