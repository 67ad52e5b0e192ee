"""Where Linux and macOS differ: memory, processors, and what becomes of files.

All that is macOS's here follows its manual pages; nobody has run it on a Mac yet.
"""

import ctypes
import fcntl
import mmap
import os
import sys
from contextlib import suppress
from pathlib import Path

MACOS = sys.platform == "darwin"
LAZY_MEMORY = 0 if MACOS else 0x4000
"""A flag of mmap for memory that is committed when it is written to: Linux's MAP_NORESERVE, which
Python names from 3.13 on. macOS never commits before."""
_F_FULLFSYNC, _F_GETPATH = 51, 50
"""macOS's; Python names them there alone."""
_LONGEST_PATH = 1024


def processors() -> list[int]:
    """Those that this process may run on; on macOS numbers that say how many there are.

    Of a Mac's slow and fast cores these are the fast ones: a product ends with its slowest thread.
    """
    if not MACOS:
        return sorted(os.sched_getaffinity(0))
    count = sysctl("hw.perflevel0.physicalcpu") or sysctl("hw.physicalcpu") or os.cpu_count() or 1
    return list(range(count))


def processor_name() -> str:
    """What tells this processor from others; empty where the system does not say."""
    if MACOS:
        return f"Apple {sysctl('hw.cpufamily')}"
    parts: dict[str, None] = {}
    with suppress(OSError), Path("/proc/cpuinfo").open() as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
            if name.strip() in ("CPU implementer", "CPU part"):  # ARM's, of which there are several
                parts[value.strip()] = None
    return " ".join(parts)


def sysctl(name: str) -> int | None:
    """A number that macOS knows by ``name``; None where it knows none."""
    value = ctypes.c_uint64(0)
    size = ctypes.c_size_t(ctypes.sizeof(value))
    try:
        call = ctypes.CDLL(None).sysctlbyname
    except (OSError, AttributeError):
        return None
    failed = call(name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    return None if failed else value.value


def free_memory() -> int | None:
    """Bytes that macOS can give without swapping: free ones, and those of files that give way."""
    pages = [sysctl(f"vm.page_{kind}_count") for kind in ("free", "speculative", "purgeable")]
    known = [count for count in pages if count is not None]
    return sum(known) * mmap.PAGESIZE if known else None


def give_back(memory: mmap.mmap, start: int, end: int) -> None:
    """Give whole pages of private memory back to the system; they read as 0 from then on."""
    if MACOS:  # where MADV_DONTNEED is but advice
        memory[start:end] = bytes(end - start)
        free = getattr(mmap, "MADV_FREE", None)
        if free is not None:
            memory.madvise(free, start, end - start)
        return
    memory.madvise(mmap.MADV_DONTNEED, start, end - start)


def path_of(descriptor: int) -> str:
    """Where an open file lies, whatever its name leads to by now."""
    if MACOS:
        found = fcntl.fcntl(descriptor, _F_GETPATH, bytes(_LONGEST_PATH))
        return os.fsdecode(found.rstrip(b"\0"))
    return os.path.realpath(f"/proc/self/fd/{descriptor}")


def flush(descriptor: int) -> None:
    """Have what was written be on the disk itself. Raises OSError."""
    if MACOS:  # whose fsync leaves it in the disk's cache
        with suppress(OSError):
            fcntl.fcntl(descriptor, _F_FULLFSYNC)
            return
    os.fsync(descriptor)
