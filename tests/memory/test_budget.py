"""The default share of memory, from what control groups say."""

import os

import pytest

from motet.errors import OptionError
from motet.memory.budget import _limits, default_checkpoint_bytes
from tests.toy import RECURRENT, ToyModel


def test_a_sixteenth_of_the_machine_at_most():
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < default_checkpoint_bytes() <= memory // 16
    assert ToyModel(layers=RECURRENT).context(checkpoint_bytes=None).memory.checkpoint_bytes > 0


@pytest.mark.parametrize(
    ("line", "root", "name", "none"),
    [
        ("0::/a/b", "", "memory.max", "max"),
        ("7:cpu,memory:/a/b", "memory", "memory.limit_in_bytes", "9223372036854771712"),
    ],
)
def test_limits_of_groups_and_of_those_above(tmp_path, line, root, name, none):
    for folder, limit in (("", none), ("a", "5000"), ("a/b", "7000")):
        path = tmp_path / root / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(limit + "\n")
    process = tmp_path / "cgroup"
    process.write_text(f"3:cpuset:/\n{line}\n")
    assert min(_limits(tmp_path, process)) == 5000
    assert _limits(tmp_path / "nowhere", process) == []
    assert _limits(tmp_path, tmp_path / "nothing") == []


@pytest.mark.parametrize("given", [-1, 1.5, "1 GB"])
def test_budgets_that_make_no_sense(given):
    with pytest.raises(OptionError, match="checkpoint_bytes is"):
        ToyModel().context(checkpoint_bytes=given)
