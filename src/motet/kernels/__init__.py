"""Arithmetic on arrays, behind one interface; knows no model."""

from motet.kernels.cpu import CPU
from motet.kernels.interface import PAGE, Kernels
from motet.kernels.rope import Rope

__all__ = ["CPU", "PAGE", "Kernels", "Rope"]
