"""Threads of rounding: one for each weight, and a single one inside NumPy."""

from __future__ import annotations

from threadpoolctl import threadpool_limits


def one_blas_thread() -> threadpool_limits:
    """A context in which NumPy's products stay in the thread that calls them.

    Weights are rounded in parallel; if every product also used all processors, they would wait for
    each other.
    """
    return threadpool_limits(1, "blas")
