"""How much memory and how many cores this process may have.

What the machine has, and what is left of it by control groups (versions 1 and 2), by limits and by
the set of processors that the process may run on.
"""

import mmap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from motet import system

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
_PROCESSORS = Path("/sys/devices/system/cpu")


def available_memory(proc: Path = _PROC, groups: Path = _GROUPS) -> int | None:
    """Bytes that can still be taken without swapping or being killed; None if nobody says.

    The least of what the machine has left, what each control group above this process has left,
    and what the limits on its address space and data (``ulimit -v``, ``-d``) leave. Files in the
    page cache count as free, for they give way.
    """
    left = [
        group.limit - group.used for group in _memory_groups(proc, groups) if group.used is not None
    ]
    left += _fields(proc / "meminfo", "MemAvailable:", unit=1024)
    left += _left_of_limits(proc)
    if system.MACOS:
        left += [bytes for bytes in [system.free_memory()] if bytes is not None]
    return max(min(left), 0) if left else None


def memory_limit(proc: Path = _PROC, groups: Path = _GROUPS) -> int | None:
    """Bytes that the machine has, or that a control group allows; None if nobody says."""
    limits = [group.limit for group in _memory_groups(proc, groups)]
    limits += _fields(proc / "meminfo", "MemTotal:", unit=1024)
    if system.MACOS:
        limits += [bytes for bytes in [system.sysctl("hw.memsize")] if bytes is not None]
    return min(limits, default=None)


def format_bytes(count: int) -> str:
    """``count`` bytes in the largest binary unit that leaves at least one: ``1.51 GiB``."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.2f} {unit}"


def usable_cores(proc: Path = _PROC, groups: Path = _GROUPS, processors: Path = _PROCESSORS) -> int:
    """Cores that this process can keep busy, at least 1.

    Those that it may run on, where hyper-threads of one core count once, but no more than control
    groups leave it time for, rounded up.
    """
    return max(1, min([len(core_processors(processors)), *_quotas(proc, groups)]))


def core_processors(processors: Path = _PROCESSORS) -> list[int]:
    """A processor of each core that this process may run on, those of the fastest cores first."""
    first: dict[str, int] = {}
    for cpu in system.processors():
        first.setdefault(_core(processors, cpu), cpu)

    def speed(cpu: int) -> int:
        return next(iter(_numbers(processors / f"cpu{cpu}/cpufreq/cpuinfo_max_freq")), 0)

    return sorted(first.values(), key=lambda cpu: (-speed(cpu), cpu))


@dataclass(frozen=True)
class _Group:
    limit: int
    used: int | None
    """Without files in the page cache."""


@dataclass(frozen=True)
class _Hierarchy:
    """How a version of control groups names its files, and the lines in ``memory.stat``."""

    limits: tuple[str, ...]
    used: str
    files: tuple[str, ...]


_V2 = _Hierarchy(("memory.max", "memory.high"), "memory.current", ("inactive_file", "active_file"))
_V1 = _Hierarchy(
    ("memory.limit_in_bytes",),
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)


def _memory_groups(proc: Path, groups: Path) -> Iterator[_Group]:
    """Groups with a limit: the process's own and all above it."""
    for version, folder in _folders(proc, groups, "memory"):
        names = _V2 if version == 2 else _V1
        limits = [n for name in names.limits for n in _numbers(folder / name)]
        if limits:
            used = next(iter(_numbers(folder / names.used)), None)
            if used is not None:
                used -= sum(_fields(folder / "memory.stat", *names.files))
            yield _Group(min(limits), used)


def _core(processors: Path, cpu: int) -> str:
    """A name for the core that a processor is a hyper-thread of."""
    topology = processors / f"cpu{cpu}/topology"
    for name in ("core_cpus_list", "thread_siblings_list"):  # since Linux 5.3, and before
        for siblings in _lines(topology / name):
            return siblings
    return str(cpu)


def _quotas(proc: Path, groups: Path) -> list[int]:
    """Cores for which each group above the process leaves it time, rounded up."""
    quotas: list[int] = []
    for version, folder in _folders(proc, groups, "cpu"):
        if version == 2:  # "quota period" or "max period"
            numbers = [field for line in _lines(folder / "cpu.max") for field in line.split()]
        else:
            numbers = _lines(folder / "cpu.cfs_quota_us") + _lines(folder / "cpu.cfs_period_us")
        if len(numbers) == 2 and all(n.isdecimal() and int(n) for n in numbers):
            quotas.append(-(-int(numbers[0]) // int(numbers[1])))
    return quotas


def _folders(proc: Path, groups: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """(version, folder) of the process's control group and of all above it."""
    for line in _lines(proc / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            version, root = 2, groups
        elif controller in controllers.split(","):
            version, root = 1, groups / controller
        else:
            continue
        inner = root / path.lstrip("/")
        for folder in (inner, *inner.parents):
            yield version, folder
            if folder == root:
                break


def _left_of_limits(proc: Path) -> list[int]:
    """Of the soft limits on address space and on data, where there are any."""
    sizes = next(iter(_lines(proc / "self/statm")), "").split()
    if len(sizes) < 6:
        return []
    left: list[int] = []
    for name, pages in (("Max address space", sizes[0]), ("Max data size", sizes[5])):
        for line in _lines(proc / "self/limits"):
            soft = line.removeprefix(name).split()[:1]
            if line.startswith(name) and soft != ["unlimited"]:
                left += [int(number) - int(pages) * mmap.PAGESIZE for number in soft]
    return left


def _fields(path: Path, *names: str, unit: int = 1) -> list[int]:
    """The numbers behind ``names`` in lines "name number …", times ``unit``."""
    found: list[int] = []
    for line in _lines(path):
        name, *values = line.split()
        if name in names and values:
            found.append(int(values[0]) * unit)
    return found


def _numbers(path: Path) -> list[int]:
    """The number that a file consists of, if it does."""
    return [int(line) for line in _lines(path) if line.isdecimal()]


def _lines(path: Path) -> list[str]:
    """The file's lines that are not empty; none if there is no such file."""
    with suppress(OSError):
        return [line for line in path.read_text().splitlines() if line.strip()]
    return []
