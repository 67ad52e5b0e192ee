"""On a machine, or in a control group, of 300 MB a conversation ends in words, not in a kill."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models import tiny

ALLOWED = 300 << 20
GROUPS = Path("/sys/fs/cgroup/memory")
CHILD = Path(__file__).with_name("long_conversation.py")
"""Prints how the conversation ended, and resident bytes before it, in full, and forgotten."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that computes next to nothing, and keeps 512 KiB a token."""
    changes = {"block_count": 64, "context_length": 1 << 16, "attention.head_count_kv": 4}
    changes |= {"attention.key_length": 256, "attention.value_length": 256}
    keys = tiny.metadata("gemma", **changes)
    return tiny.write(tmp_path_factory.mktemp("small") / "small.gguf", keys)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of its own, where this process may make one."""
    group = GROUPS / "motet-small-machine"
    try:
        group.mkdir(exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(str(ALLOWED))
    except OSError as error:
        pytest.skip(f"needs control groups, version 1, that it may write to: {error}")
    yield group
    group.rmdir()


def converse(path: Path, *arguments: str) -> None:
    root = Path(__file__).parents[2]
    child = subprocess.run(
        [sys.executable, CHILD, path, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=root,
        env={"PYTHONPATH": f"{root / 'src'}:{root}", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert child.returncode == 0, child.stderr
    ended, before, full, forgotten = child.stdout.splitlines()
    assert ended.startswith("CapacityError") and "kv_bytes" in ended
    assert int(full) > int(before) + (32 << 20)
    assert int(forgotten) < 1.1 * int(before)


def test_in_a_control_group(path: Path, group: Path) -> None:
    converse(path, "group", str(group))


def test_with_a_limited_address_space(path: Path) -> None:
    """300 MB more than the interpreter and the model have reserved by then."""
    converse(path, "address space", str(ALLOWED))
