"""How much memory checkpoints may take unless the caller says."""

from motet.machine import memory_limit

_SHARE = 16
_FALLBACK = 256 << 20
"""Where the system does not say how much memory there is."""


def default_checkpoint_bytes() -> int:
    """A sixteenth of the memory that the machine has, or that this process's cgroup allows."""
    limit = memory_limit()
    return _FALLBACK if limit is None else limit // _SHARE
