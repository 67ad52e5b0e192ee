"""How many threads compute, where, on which instruction set, and how they walk through weights: as
asked, or the best there is."""

import os
import re
from typing import Any

from motet.errors import OptionError
from motet.kernels import _cpu
from motet.kernels.walks import kept_walks
from motet.machine import core_processors, usable_cores

MOST_THREADS = 1024
"""More than any machine of today has cores; threads that have none only cost."""


def default_threads() -> int:
    """MOTET_THREADS, or the cores that this process can keep busy.

    Raises OptionError where MOTET_THREADS is not a number of threads.
    """
    value = os.environ.get("MOTET_THREADS")
    if not value:
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


def thread_processors() -> list[int]:
    """Where each thread stays if MOTET_PIN is 1: on a core of its own. Else none has a place.

    Raises OptionError where MOTET_PIN is neither 0 nor 1.
    """
    value = os.environ.get("MOTET_PIN") or "0"
    if value not in ("0", "1"):
        raise OptionError(f"MOTET_PIN is {value!r}", hint="give 1 to keep threads on cores, or 0")
    return core_processors() if value == "1" else []


def tune(native: Any, isa: str) -> None:
    """Have the kernels of an instruction set walk through weights as MOTET_WALK says, or else as
    was measured on this processor (`motet tune`). Where neither is, the processor's name decides.

    MOTET_WALK is "strips,bytes,level": strips read side by side, bytes of prefetch (0 for none),
    and the level of cache that they come to. Results are the same to the bit. Raises OptionError
    for what is no such walk.
    """
    value = os.environ.get("MOTET_WALK")
    now = native.tuning()
    walks: Any
    if not value:
        walks = kept_walks(isa)
        if walks is None:
            return
    elif re.fullmatch("[1248],[0-9]{1,6},[12]", value):
        walk = tuple(map(int, value.split(",")))
        walks = [[walk] * len(heights) for heights in now.walks]
    else:
        raise OptionError(
            f"MOTET_WALK is {value!r}",
            hint="give strips (1, 2, 4 or 8), bytes ahead and level of cache (1 or 2): 1,8192,2",
        )
    native.set_tuning(native.Tuning(walks, now.chains, now.dots))


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
