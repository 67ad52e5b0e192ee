"""Sizes that kernels, caches and rotations agree on."""

PAGE = 64
"""Consecutive positions of one sequence that a page holds."""
LANES = 16
"""Numbers in a vector of the native kernels; arrays that they read are padded to it."""
