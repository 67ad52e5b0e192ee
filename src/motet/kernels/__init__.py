"""Arithmetic on arrays, behind one interface; knows no model."""

from motet.kernels.cpu import CPU
from motet.kernels.interface import Kernels
from motet.kernels.rope import Rope
from motet.kernels.sizes import PAGE

__all__ = ["CPU", "PAGE", "Kernels", "Rope"]
