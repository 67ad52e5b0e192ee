"""Packed files: a model's weights in the layout that kernels read, to be mapped and not loaded."""

from motet.packed.file import PackedFile, is_packed

__all__ = ["PackedFile", "is_packed"]
