"""Ctrl-C at any line of decode and of the operations: all of it was done, or nothing."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import motet
from motet.batch import Batch
from motet.context import Context
from tests.toy import ToyModel, bookkeeping

PACKAGE = str(Path(motet.__file__).parent)


def batch_of(*runs: tuple[int, int, tuple[int, ...]]) -> Batch:
    """Of (tokens, first position, sequences)."""
    batch = Batch()
    for count, start, seqs in runs:
        batch.extend([(start + i) % 11 for i in range(count)], start, seqs)
    return batch


def began() -> Context:
    context = ToyModel().context(max_sequences=4, ubatch=8)
    context.decode(batch_of((140, 0, (0, 1)), (5, 0, (2,))))
    context.memory.copy(0, 3)
    context.memory.remove(3, 100)
    return context


def held(context: Context):
    memory = context.memory
    return [
        (memory.positions(seq), memory.tokens(seq).tolist()) for seq in range(memory.max_sequences)
    ]


def interrupted_at(line: int, action: Callable[[], object]) -> bool:
    """Run ``action`` with Ctrl-C at its ``line``-th line inside the package; False if it ended."""
    seen = 0

    def trace(frame, event: str, arg):
        nonlocal seen
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            seen += 1
            if seen == line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


ACTIONS: dict[str, Callable[[Context], object]] = {
    "decode": lambda c: c.decode(batch_of((9, 140, (0, 1)), (2, 149, (1,)), (2, 149, (0,)))),
    "remove": lambda c: c.memory.remove(0, 100, 120),
    "copy": lambda c: c.memory.copy(0, 3, 110, 130),
    "keep": lambda c: c.memory.keep(2),
    "clear": lambda c: c.memory.clear(),
    "shift": lambda c: c.memory.shift(0, 20, None, 70),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_interrupted_at_every_line(name):
    action, whole = ACTIONS[name], began()
    before = held(whole)
    action(whole)
    after = held(whole)
    context, line = began(), 1
    while interrupted_at(line, lambda: action(context)):  # noqa: B023
        state = held(context)
        assert state in (before, after), f"line {line}"
        if state == after:
            bookkeeping(context)
            context = began()
        line += 1
    assert held(context) == after and line > 10
    bookkeeping(context)
