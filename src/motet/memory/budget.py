"""How much memory checkpoints may take unless the caller says."""

import os
from contextlib import suppress
from pathlib import Path

_SHARE = 16
_GROUPS = Path("/sys/fs/cgroup")


def default_checkpoint_bytes() -> int:
    """A sixteenth of the memory that the machine has, or that this process's cgroup allows."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([total, *_limits()]) // _SHARE


def _limits(groups: Path = _GROUPS, process: Path = Path("/proc/self/cgroup")) -> list[int]:
    """Limits in bytes on the memory of the process's control groups, those above them included."""
    limits: list[int] = []
    with suppress(OSError):
        for line in process.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                root, name = groups, "memory.max"
            elif "memory" in controllers.split(","):
                root, name = groups / "memory", "memory.limit_in_bytes"
            else:
                continue
            inner = root / path.lstrip("/")
            for folder in (inner, *inner.parents):
                with suppress(OSError, ValueError):  # none there, or "max"
                    limits.append(int((folder / name).read_text()))
                if folder == root:
                    break
    return limits
