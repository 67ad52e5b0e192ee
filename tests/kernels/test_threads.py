"""Threads: how many, by default and at most, and what is done where the system starts fewer."""

import os

import numpy as np
import pytest

from motet.errors import OptionError
from motet.kernels import CPU, choosing
from motet.machine import usable_cores
from motet.weights.formats import TensorType
from tests.kernels.running import run_python


def test_by_default_as_many_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOTET_THREADS", raising=False)
    assert choosing.default_threads() == usable_cores()
    monkeypatch.setattr(choosing, "usable_cores", lambda: 5000)
    assert choosing.default_threads() == choosing.MOST_THREADS


@pytest.mark.parametrize("threads", [0, -1, choosing.MOST_THREADS + 1, 1 << 31, 1 << 70])
def test_an_absurd_number_is_refused(threads: int) -> None:
    with pytest.raises(OptionError, match=rf"threads is {threads} \(.*from 1 to 1024"):
        CPU(threads)


@pytest.mark.parametrize(
    "value",
    ["²", "٣", " 2", "2 ", "1_0", "+2", "-1", "0", "1025", "9" * 5000, "two", "1.5", "0x2"],
)
def test_a_variable_that_is_no_number_of_threads_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MOTET_THREADS", value)
    with pytest.raises(OptionError, match=r"MOTET_THREADS is .*from 1 to 1024"):
        CPU()


@pytest.mark.parametrize(("value", "threads"), [("1", 1), ("3", 3), ("0002", 2)])
def test_the_variable_counts(monkeypatch: pytest.MonkeyPatch, value: str, threads: int) -> None:
    monkeypatch.setenv("MOTET_THREADS", value)
    assert CPU().threads == threads


def test_threads_stay_on_cores_of_their_own() -> None:
    done = run_python("""
        import os
        os.environ["MOTET_PIN"] = "1"
        from motet.kernels import CPU
        from motet.machine import core_processors
        mine = os.sched_getaffinity(0)
        before = {int(thread) for thread in os.listdir("/proc/self/task")}
        kernels = CPU(2)
        (worker,) = {int(thread) for thread in os.listdir("/proc/self/task")} - before
        import time
        wanted = set(core_processors()[1:2]) or mine
        for _ in range(1000):
            if os.sched_getaffinity(worker) == wanted:
                break
            time.sleep(0.01)
        print(os.sched_getaffinity(worker) == wanted, os.sched_getaffinity(0) == mine)
    """)
    assert done.stdout.split() == ["True", "True"], done.stderr


@pytest.mark.parametrize("value", ["yes", " ", "2"])
def test_a_pin_is_given_or_not(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MOTET_PIN", value)
    with pytest.raises(OptionError, match="MOTET_PIN is"):
        CPU(1)


def test_empty_variables_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = CPU()
    for name in ("MOTET_THREADS", "MOTET_PIN", "MOTET_ISA", "MOTET_WALK"):
        monkeypatch.setenv(name, "")
    assert (CPU().threads, CPU().isa) == (plain.threads, plain.isa)


@pytest.mark.parametrize("value", ["3,0,1", "1,0", "1,-1,1", "1,0,3", "fast"])
def test_a_walk_that_there_is_no_kernel_for_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MOTET_WALK", value)
    with pytest.raises(OptionError, match="MOTET_WALK is"):
        CPU(1)


def test_a_walk_is_taken() -> None:
    done = run_python("""
        import os
        os.environ["MOTET_WALK"] = "2,1024,2"
        from motet.kernels import CPU
        print({walk for heights in CPU(1)._native.tuning().walks for walk in map(tuple, heights)})
    """)
    assert done.stdout.strip() == "{(2, 1024, 2)}", done.stderr


def test_threads_that_the_system_does_not_start_are_done_without() -> None:
    done = run_python("""
        import logging, resource
        from pathlib import Path
        import numpy as np
        from motet.kernels import CPU
        from motet.weights.formats import TensorType

        raw = np.random.default_rng(1).standard_normal((64, 64), np.float32).view(np.uint8)
        x = np.ones((40, 64), np.float32)
        one = CPU(1)
        expected = one.linear(x, one.pack(raw, TensorType.F32, 64, 64))[0]
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + (300 << 20), resource.RLIM_INFINITY))
        many = CPU(400)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        got = many.linear(x, many.pack(raw, TensorType.F32, 64, 64))[0]
        print(1 < many.threads < 400, np.array_equal(got, expected))
    """)
    assert (done.returncode, done.stdout) == (0, "True True\n"), done
    assert done.stderr.count("of 400 threads could be started") == 1


def test_memory_that_threads_do_not_get_is_an_error_and_not_the_end() -> None:
    done = run_python("""
        import resource
        from pathlib import Path
        import numpy as np
        from motet.kernels import CPU
        from motet.kernels.interface import PagedKV

        dim, tokens = 1 << 16, 40
        q = np.ones((tokens, 1, dim), np.float32)
        at = np.arange(tokens)

        def attention_by(kernels):
            pages = kernels.allocate_pages(1, 1, dim, dim, "f32")
            tables = kernels.block_tables(
                np.zeros((1, 1), np.int32), np.full((1, 1), 2**64 - 1, np.uint64),
                np.zeros(tokens, np.int32), at.astype(np.int32), at,
            )
            return lambda: kernels.attention(q, q, q, PagedKV(pages, tables), scale=1.0)

        attention, by_one = attention_by(CPU(4)), attention_by(CPU(1))
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        more = q.nbytes + (12 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (held + more, resource.RLIM_INFINITY))
        refused = 0
        for _ in range(25):
            try:
                attention()
            except MemoryError:
                refused += 1
        print(refused == 25)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(np.array_equal(attention(), by_one()))
    """)
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n"), done


def test_many_threads_compute_what_one_does() -> None:
    rng = np.random.default_rng(2)
    raw = rng.standard_normal((640, 256), np.float32).view(np.uint8)
    x = rng.standard_normal((33, 256), np.float32)
    answers = [
        kernels.linear(x, kernels.pack(raw, TensorType.F32, 640, 256))[0]
        for kernels in (CPU(1), CPU(3 * len(os.sched_getaffinity(0))))
    ]
    assert np.array_equal(answers[0], answers[1])
