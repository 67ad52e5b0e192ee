"""What there is of memory and cores, from the files in which the system says so."""

import mmap
import os
from pathlib import Path

import pytest

from motet.machine import available_memory, core_processors, memory_limit, usable_cores

UNLIMITED_V1 = "9223372036854771712"
LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max data size             {data}            unlimited            bytes
Max address space         {space}            unlimited            bytes
"""


class System:
    """A fake /proc, /sys/fs/cgroup and /sys/devices/system/cpu."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup"
        self.processors = folder / "cpu"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "meminfo").write_text("MemTotal: 9000 kB\nMemFree: 1 kB\nMemAvailable: 800 kB")
        (self.proc / "self/statm").write_text("70 5 4 3 0 20 0\n")
        (self.proc / "self/limits").write_text(LIMITS.format(data="unlimited", space="unlimited"))
        self.place("0::/")

    def place(self, *lines: str) -> None:
        (self.proc / "self/cgroup").write_text("3:cpuset:/\n" + "\n".join(lines) + "\n")

    def group(self, folder: str, **files: object) -> None:
        """A folder of the hierarchy; ``memory_max=5`` is the file memory.max."""
        path = self.groups / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (path / name.replace("_", ".", 1)).write_text(f"{value}\n")

    def siblings(self, *cores: str, file: str = "core_cpus_list") -> None:
        """Cores as the system names them: "0,4", the processors that are its hyper-threads."""
        for core in cores:
            for cpu in core.split(","):
                topology = self.processors / f"cpu{cpu}/topology"
                topology.mkdir(parents=True, exist_ok=True)
                (topology / file).write_text(f"{core}\n")

    @property
    def cores(self) -> int:
        return usable_cores(self.proc, self.groups, self.processors)

    @property
    def available(self) -> int | None:
        return available_memory(self.proc, self.groups)

    @property
    def limit(self) -> int | None:
        return memory_limit(self.proc, self.groups)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_this_machine():
    limit, available = memory_limit(), available_memory()
    assert limit is not None and available is not None
    assert 0 < available <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert available < limit


def test_the_machine_alone(system: System):
    assert (system.available, system.limit) == (800 * 1024, 9000 * 1024)


def test_nobody_says(tmp_path: Path):
    assert available_memory(tmp_path, tmp_path) is None
    assert memory_limit(tmp_path, tmp_path) is None


def test_the_tightest_of_all_groups_above(system: System):
    system.place("0::/a/b/c")
    system.group("a/b/c", memory_max=7000, memory_high="max", memory_current=1000)
    system.group("a/b", memory_max="max", memory_high="max", memory_current=4500)
    system.group("a", memory_max=5000, memory_high=4800, memory_current=4500)
    assert (system.available, system.limit) == (300, 4800)
    system.group("a", memory_stat="anon 100\ninactive_file 250\nactive_file 150\nfile 999")
    assert system.available == 700
    system.group("a", memory_current=6000)
    assert system.available == 0


def test_the_first_version(system: System):
    system.place("7:cpu,memory:/a/b", "0::/")
    system.group("memory", memory_limit_in_bytes=UNLIMITED_V1, memory_usage_in_bytes=10000)
    system.group("memory/a", memory_limit_in_bytes=5000, memory_usage_in_bytes=3000)
    system.group("memory/a/b", memory_limit_in_bytes=6000, memory_usage_in_bytes=2000)
    assert (system.available, system.limit) == (2000, 5000)
    system.group("memory/a", memory_stat="inactive_file 1\ntotal_inactive_file 70\n")
    assert system.available == 2070


def test_a_container_that_sees_its_own_group_as_the_root(system: System):
    system.place("5:memory:/docker/0123")
    system.group("memory", memory_limit_in_bytes=5000, memory_usage_in_bytes=1000)
    assert system.available == 4000


def test_a_group_that_does_not_say_what_it_holds(system: System):
    system.group("", memory_max=5000)
    assert (system.available, system.limit) == (800 * 1024, 5000)


@pytest.mark.parametrize(("limit", "held"), [("space", 70), ("data", 20)])
def test_limits_of_the_process(system: System, limit: str, held: int):
    both = {"data": "unlimited", "space": "unlimited"} | {limit: 100 * mmap.PAGESIZE}
    (system.proc / "self/limits").write_text(LIMITS.format(**both))
    assert system.available == (100 - held) * mmap.PAGESIZE
    assert system.limit == 9000 * 1024


def test_a_processor_of_each_core_the_fastest_first(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5})
    system.siblings("0", "1", "2,3", "4,5")
    assert core_processors(system.processors) == [0, 1, 2, 4]
    for cpu, speed in enumerate((2000, 2000, 5000, 5000, 5000, 5000)):
        folder = system.processors / f"cpu{cpu}/cpufreq"
        folder.mkdir()
        (folder / "cpuinfo_max_freq").write_text(f"{speed}000\n")
    assert core_processors(system.processors) == [2, 4, 0, 1]


def test_the_cores_of_this_machine():
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))


@pytest.mark.usefixtures("eight")
def test_where_nobody_says_every_processor_is_a_core(tmp_path: Path):
    assert usable_cores(tmp_path, tmp_path, tmp_path) == 8


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize("file", ["core_cpus_list", "thread_siblings_list"])
def test_hyper_threads_of_a_core_count_once(
    system: System, monkeypatch: pytest.MonkeyPatch, file: str
):
    system.siblings("0,4", "1,5", "2,6", "3,7", file=file)
    assert system.cores == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 4, 1})
    assert system.cores == 2


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("50000 100000", 1), ("150000 100000", 2), ("400000 100000", 4),
     ("900000 100000", 8), ("1000 1000000", 1), ("300000", 8), ("", 8), ("1 0", 8)],
)  # fmt: skip
def test_a_quota_is_rounded_up(system: System, quota: str, cores: int):
    system.place("0::/a")
    system.group("a", cpu_max=quota)
    assert system.cores == cores


@pytest.mark.usefixtures("eight")
def test_the_tightest_quota_of_all_groups_above(system: System):
    system.place("0::/a/b")
    system.group("a/b", cpu_max="700000 100000")
    system.group("a", cpu_max="250000 100000")
    assert system.cores == 3


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(("quota", "cores"), [(-1, 8), (50000, 1), (250000, 3)])
def test_a_quota_of_the_first_version(system: System, quota: int, cores: int):
    system.place("4:cpu,cpuacct:/a", "7:memory:/", "0::/")
    system.group("cpu/a", cpu_cfs_quota_us=quota, cpu_cfs_period_us=100000)
    assert system.cores == cores
