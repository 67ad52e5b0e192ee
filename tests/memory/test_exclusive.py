"""One user of a memory at a time: who comes second is refused at once, and nobody is locked out."""

import threading

import pytest

from motet.errors import MotetError
from tests.memory.talk import Talk


class Interrupting(dict[str, object]):
    """Ctrl-C arrives right after the key is set."""

    def setdefault(self, key: str, default: object = None) -> object:
        super().setdefault(key, default)
        raise KeyboardInterrupt


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


def test_an_interrupt_while_entering_does_not_lock() -> None:
    talk = Talk()
    use = talk.memory.exclusive()
    use._holder = Interrupting()
    with pytest.raises(KeyboardInterrupt), use:
        pass
    use._holder = {**use._holder}
    talk.say(3)
