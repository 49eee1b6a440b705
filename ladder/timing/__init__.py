"""Times of kernels: measured, cached, or read from tables."""
