"""Kernels in order, and the memory they live in."""
