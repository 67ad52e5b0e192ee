"""Arithmetic on plain arrays; knows no model."""

from motet.kernels.cpu import CPU
from motet.kernels.paged import PAGE, KVPool, PagedKV
from motet.kernels.rope import Rope

__all__ = ["CPU", "PAGE", "KVPool", "PagedKV", "Rope"]
