"""Large arrays that kernels write to: whose memory is kept, and never another's."""

import os
import sys
import threading

import numpy as np
import pytest

from motet.kernels import CPU
from tests.kernels.running import run_python

SHAPE = (64, 1024)


@pytest.fixture
def native():
    return CPU(1)._native


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_an_array_is_what_was_asked_for(native):
    for shape in ((64, 1024), (40, 3, 700), (1,), (0, 5)):
        array = native.floats(shape)
        assert array.shape == shape and array.dtype == np.float32 and array.flags.c_contiguous
        assert array.flags.writeable and address(array) % 64 == 0


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="nothing is kept there")
def test_memory_that_nobody_holds_is_given_again(native):
    first = native.floats(SHAPE)
    at = address(first)
    del first
    assert address(native.floats(SHAPE)) == at
    assert address(native.floats((64, 1020))) == at  # of nearly the same size


def test_memory_of_a_view_is_held(native):
    whole = native.floats(SHAPE)
    whole[:] = 1
    row = whole[5:6].reshape(-1)
    del whole
    native.floats(SHAPE)[:] = 2
    assert (row == 1).all()


def test_threads_have_arrays_of_their_own(native):
    wrong: list[int] = []

    def work(number: int) -> None:
        for size in (65, 66, 65, 70) * 50:
            array = native.floats((size, 1024))
            array[:] = number
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_memory_cannot_hold(native):
    with pytest.raises(MemoryError):
        native.floats((1 << 59, 1))
    with pytest.raises(MemoryError):
        native.floats((1 << 61, 1))
    with pytest.raises(ValueError, match="too large"):
        native.floats((1 << 40, 1 << 40))


@pytest.mark.skipif(sys.platform != "linux", reason="address spaces are limited on Linux")
@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="nothing is kept there")
def test_what_is_kept_makes_room_where_there_is_no_other():
    done = run_python("""
        import resource
        from motet.kernels import CPU

        native = CPU(1)._native
        for _ in range(3):
            arrays = [native.floats((64, 65536)) for _ in range(6)]  # 96 MiB, which are kept
            del arrays
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), used + (16 << 20)))
        print(native.floats((64, 16 * 20000)).shape)  # 78 MiB
    """)
    assert done.stdout == "(64, 320000)\n", done.stderr
