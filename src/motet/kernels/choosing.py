"""How many threads compute, and on which instruction set: as asked, or the best there is."""

import os
import re

from motet.errors import OptionError
from motet.kernels import _cpu
from motet.machine import usable_cores

MOST_THREADS = 1024
"""More than any machine of today has cores; threads that have none only cost."""


def default_threads() -> int:
    """MOTET_THREADS, or the cores that this process can keep busy.

    Raises OptionError where MOTET_THREADS is not a number of threads.
    """
    value = os.environ.get("MOTET_THREADS")
    if value is None:
        return min(usable_cores(), MOST_THREADS)
    if not re.fullmatch("[0-9]{1,9}", value):
        raise _wrong_threads("MOTET_THREADS", repr(value))
    return checked_threads(int(value), "MOTET_THREADS")


def checked_threads(threads: int, source: str = "threads") -> int:
    """``threads``, if so many can be asked for; else OptionError, in which ``source`` had it."""
    if not 1 <= threads <= MOST_THREADS:
        raise _wrong_threads(source, str(threads))
    return threads


def _wrong_threads(source: str, value: str) -> OptionError:
    return OptionError(f"{source} is {value}", hint=f"give a whole number from 1 to {MOST_THREADS}")


def choose_isa(isa: str | None = None) -> str:
    """``isa``, or MOTET_ISA, or the best instruction set of this machine."""
    supported = _cpu.supported()
    wanted = isa or os.environ.get("MOTET_ISA")
    if wanted and wanted not in supported:
        source = "isa" if isa else "MOTET_ISA"
        raise OptionError(
            f"{source} is {wanted!r}, which is not an instruction set of this machine",
            hint=f"use one of {', '.join(supported)}",
        )
    return wanted or supported[0]
