"""One user of a memory at a time: who comes second is refused at once, and nobody is locked out."""

import threading

import pytest

from motet.errors import MotetError
from motet.memory.exclusive import ExclusiveUse
from tests.interrupting import interrupted_at
from tests.memory.talk import Talk


def test_of_many_threads_one_gets_in_and_none_waits() -> None:
    memory = Talk().memory
    inside, start, leave = [], threading.Barrier(8), threading.Event()
    refused: list[MotetError] = []

    def enter() -> None:
        start.wait()
        try:
            with memory.exclusive():
                inside.append(threading.get_ident())
                leave.wait(30)
        except MotetError as error:
            refused.append(error)
        if len(refused) == 7:
            leave.set()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(inside) == 1 and len(refused) == 7
    with memory.exclusive():
        pass


def test_an_inner_use_is_refused_and_leaves_the_outer_one_alone() -> None:
    talk = Talk()
    with talk.memory.exclusive():
        with pytest.raises(MotetError, match="at work"):
            talk.memory.clear()
        with pytest.raises(MotetError, match="at work"), talk.memory.exclusive():
            pass
    talk.say(3)


def enter_and_leave(use: ExclusiveUse) -> None:
    with use:
        pass


def test_an_interrupt_anywhere_does_not_lock() -> None:
    talk, event = Talk(), 1
    while interrupted_at(event, lambda: enter_and_leave(talk.memory.exclusive())):
        other = threading.Thread(target=talk.memory.clear)
        other.start()
        other.join(30)
        talk.say(1)
        talk.remove(0)
        event += 1
    assert event > 6


def test_an_interrupt_right_after_the_lock_is_taken_does_not_lock() -> None:
    """Where the system comes to it after a call into C."""
    talk = Talk()
    use = talk.memory.exclusive()
    lock = use._lock

    class Interrupting:
        _is_owned = staticmethod(lock._is_owned)
        release = staticmethod(lock.release)
        __exit__ = staticmethod(lock.__exit__)

        def acquire(self, blocking: bool) -> bool:
            assert lock.acquire(blocking=blocking)
            raise KeyboardInterrupt

    use._lock = Interrupting()
    with pytest.raises(KeyboardInterrupt), use:
        pass
    use._lock = lock
    other = threading.Thread(target=lambda: talk.say(3))
    other.start()
    other.join(30)
    assert talk.memory.length(0) == 3
