"""Processes killed while they save: the path has an old state or a new one, never anything else.

One case is a folder in which several processes, one after the other or two at a time, save without
end and are killed. What they leave beside the file never grows, and the next saving removes it.
"""

import os
import random as plain
import signal
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np

from motet import replacing
from tests.hostile.harness import main
from tests.memory.talk import Talk
from tests.state.files import KINDS, everything, saved

KILLS = 5
LATEST = 0.03
"""Seconds: a saving takes a few milliseconds."""


@cache
def talks() -> tuple[Talk, Talk, bytes, bytes]:
    """Two different ones, and their files."""
    one = Talk(layers=KINDS["all"], max_sequences=2)
    other = Talk(layers=KINDS["all"], max_sequences=2)
    one.say(3)
    other.say(700)
    other.copy(0, 1)
    return one, other, saved(one), saved(other)


def save_without_end(path: Path, first: int) -> None:
    """In a process of its own, until it is killed."""
    try:
        turn, (one, other, *_) = first, talks()
        while True:
            (one, other)[turn % 2].context.save(path)
            turn += 1
    finally:
        os._exit(1)


def killed(path: Path, processes: int, delay: float) -> None:
    """Let so many processes save to ``path``, and kill them after ``delay`` seconds."""
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            save_without_end(path, number)
        children.append(child)
    time.sleep(delay)
    for child in plain.sample(children, len(children)):
        os.kill(child, signal.SIGKILL)
    for child in children:
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "it ended by itself"


def case(random: np.random.Generator) -> None:
    """One folder."""
    one, _, *files = talks()
    nameless, named = random.random() < 0.5, replacing._open_nameless
    processes = int(random.integers(1, 3))
    if not nameless:
        replacing._open_nameless = lambda directory: None
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state"
            path.write_bytes(files[0])
            for _ in range(KILLS):
                killed(path, processes, float(random.uniform(0, LATEST)))
                assert path.read_bytes() in files
                left = [entry.name for entry in path.parent.iterdir() if entry.name != "state"]
                assert len(left) <= processes, left
            again = Talk(layers=KINDS["all"], max_sequences=2)
            again.context.restore(path)
            one.context.save(path)
            assert [entry.name for entry in path.parent.iterdir()] == ["state"]
            again.memory.clear()
            again.context.restore(path)
            assert everything(again.context) == everything(one.context)
    finally:
        replacing._open_nameless = named


if __name__ == "__main__":
    main(case, __doc__ or "", seconds=60)
