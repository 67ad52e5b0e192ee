"""Kernels after a fork, whatever other threads were doing at that moment."""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from motet.cached import cached_property
from motet.kernels import CPU, Rope
from motet.weights.formats import TensorType


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Of Python 3.12 and later, that a fork of threads may hang, which is what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def holds_in_a_child(check: Callable[[], bool]) -> bool:
    """Whether ``check`` is true in a fork, and found out in time."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def test_a_pool_at_work_in_another_thread() -> None:
    kernels, rng = CPU(3), np.random.default_rng(1)
    raw = rng.standard_normal((1024, 256), np.float32).view(np.uint8)
    weight, x = kernels.pack(raw, TensorType.F32, 1024, 256), rng.random((64, 256), np.float32)
    expected = kernels.linear(x, weight)[0]
    stop, wrong = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            if not np.array_equal(kernels.linear(x, weight)[0], expected):
                wrong.append(1)

    def same() -> bool:
        return all(np.array_equal(kernels.linear(x, weight)[0], expected) for _ in range(3))

    def same_and_dropped() -> bool:
        nonlocal kernels, weight
        fine = holds_in_a_child(same) and same()
        del kernels, weight
        return fine

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(10):
            assert holds_in_a_child(same)
            assert holds_in_a_child(same_and_dropped)
    finally:
        stop.set()
        thread.join()
    assert not wrong


class Slow:
    """Something that one thread is asked for and does not get to the end of."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def wait(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.begun.set()
            self.go_on.wait()

    @cached_property
    def value(self) -> int:
        """Forty-two."""
        self.wait()
        return 42


def test_a_property_that_another_thread_is_computing() -> None:
    slow = Slow()
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    slow.begun.wait()
    try:
        assert holds_in_a_child(lambda: slow.value == Slow().value == 42)
    finally:
        slow.go_on.set()
        thread.join()
    assert vars(slow)["value"] == slow.value == 42
    assert Slow.value.__doc__ == "Forty-two."


def test_a_table_that_another_thread_is_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, rope, cos = Slow(), Rope(np.array([1.0, 0.1])), np.cos

    def slow_cos(angles: np.ndarray) -> np.ndarray:
        slow.wait()
        return cos(angles)

    monkeypatch.setattr(np, "cos", slow_cos)
    thread = threading.Thread(target=rope.table, args=(3000,))
    thread.start()
    slow.begun.wait()
    try:
        assert holds_in_a_child(lambda: rope.table(10)[9, 0, 1] == np.float32(cos(0.9)))
        assert rope.table(10)[9, 0, 1] == np.float32(cos(0.9))
    finally:
        slow.go_on.set()
        thread.join()
    assert len(rope.table(3000)) >= 3000
