"""Kernels of the recurrent operators (``ladder.ir.recurrence``): the state is changed in place."""
