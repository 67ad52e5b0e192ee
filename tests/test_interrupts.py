"""Ctrl-C at any line of decode and of the operations: all of it was done, or nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import motet
from motet.batch import Batch
from motet.context import Context
from motet.spec import CacheSpec
from tests.interrupting import interrupted_at
from tests.toy import ALL_KINDS, LAYERS, ToyModel, bookkeeping

PACKAGE = str(Path(motet.__file__).parent)


def batch_of(*runs: tuple[int, int, tuple[int, ...]]) -> Batch:
    """Of (tokens, first position, sequences)."""
    batch = Batch()
    for count, start, seqs in runs:
        batch.extend([(start + i) % 11 for i in range(count)], start, seqs)
    return batch


def began(layers: Sequence[CacheSpec]) -> Context:
    """Sequences 0 and 1 share 140 tokens, with checkpoints at 100 and 140; 3 went back to 100."""
    context = ToyModel(layers=layers).context(max_sequences=4, ubatch=8)
    context.decode(batch_of((100, 0, (0, 1)), (5, 0, (2,))))
    context.decode(batch_of((40, 100, (0, 1))))
    context.memory.copy(0, 3)
    context.memory.remove(3, 100)
    return context


def held(context: Context):
    memory = context.memory
    return [
        (memory.positions(seq), memory.tokens(seq).tolist(), memory.checkpoints(seq))
        for seq in range(memory.max_sequences)
    ]


Action = Callable[[Context], object]
ACTIONS: dict[str, Action] = {
    "decode": lambda c: c.decode(batch_of((9, 140, (0, 1)), (2, 149, (1,)), (2, 149, (0,)))),
    "go back": lambda c: c.memory.remove(0, 100),
    "fork": lambda c: c.memory.copy(0, 2, 0, 100),
    "checkpoint": lambda c: c.memory.checkpoint(2),
    "keep": lambda c: c.memory.keep(2),
    "clear": lambda c: c.memory.clear(),
    "shift": lambda c: c.memory.shift(0, 20, None, 70),
}
EDITS: dict[str, Action] = {
    "remove": lambda c: c.memory.remove(0, 100, 120),
    "insert": lambda c: c.memory.copy(0, 3, 110, 130),
}
CASES = [
    *((name, action, ALL_KINDS) for name, action in ACTIONS.items()),
    *((name, action, LAYERS) for name, action in EDITS.items()),
]


@pytest.mark.parametrize(("name", "action", "layers"), CASES, ids=[case[0] for case in CASES])
def test_interrupted_at_every_line(name: str, action: Action, layers: Sequence[CacheSpec]):
    def prepared() -> Context:
        context = began(layers)
        if name == "fork":
            context.memory.remove(2)
        elif name == "checkpoint":
            context.decode(batch_of((1, 5, (2,))))
        return context

    whole = prepared()
    before = held(whole)
    action(whole)
    after = held(whole)
    assert before != after
    context, line = prepared(), 1
    while interrupted_at(line, lambda: action(context), PACKAGE):  # noqa: B023
        state = held(context)
        assert state in (before, after), f"line {line}"
        if state == after:
            bookkeeping(context)
            context = prepared()
        line += 1
    assert held(context) == after and line > 10
    bookkeeping(context)
