"""Random operations on every kind of memory, with Ctrl-C and MemoryError anywhere in them.

A twin gets the same operations without errors. What was interrupted is as before or done; then, and
after every operation, both hold the same, bit for bit, in pages and slots whose books are right.
One case is a conversation of some dozens of operations.
"""

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import motet
from motet.batch import Batch
from motet.context import Context
from motet.errors import MotetError
from tests.hostile.harness import main
from tests.interrupting import Interrupter
from tests.models import tiny
from tests.state.files import KINDS, everything
from tests.toy import ToyConfig, ToyModel, bookkeeping, poison

PACKAGE = str(Path(motet.__file__).parent)
SEQUENCES = 4
CONTEXT = 256
OPERATIONS = 50
FAMILIES = ("llama", "gemma3", "mamba", "jamba", "rwkv6")

Random = np.random.Generator
Operation = Callable[[Context], Any]


@cache
def model_of(family: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        model = tiny.load(Path(folder), family)
        _ = model.fingerprint
    return model


@dataclass
class Outcome:
    """What an operation gave: a value, or the MotetError that it ended with."""

    value: Any = None
    error: str = ""

    @classmethod
    def of(cls, operation: Operation, context: Context) -> "Outcome":
        try:
            value = operation(context)
        except MotetError as error:
            return cls(None, f"{type(error).__name__}: {error}")
        return cls(value.tobytes() if isinstance(value, np.ndarray) else value)


def held(context: Context) -> list[Any]:
    """What it holds and how it goes on, but for checkpoints made automatically."""
    now = context.memory._now
    asked = [c for c, (on_purpose, _) in now.checkpoints.uses.items() if on_purpose]
    marks = [[(at, asked.index(c)) for at, c in its if c in asked] for its in now.checkpoints.marks]
    positions = [now.sequences.positions(seq).tolist() for seq in range(SEQUENCES)]
    tokens = [context.memory.tokens(seq).tolist() for seq in range(SEQUENCES)]
    return [positions, tokens, now.sequences.broken.tolist(), marks]


def automatic(context: Context) -> list[list[int]]:
    return [context.memory.checkpoints(seq) for seq in range(SEQUENCES)]


# Operations


def decoding(random: Random, context: Context) -> Operation:
    batch, ends = Batch(), context.memory.ends.tolist()
    for _ in range(int(random.integers(1, 4))):
        seq = int(random.integers(SEQUENCES))
        members = [s for s in range(SEQUENCES) if ends[s] == ends[seq]]
        chosen = [seq] if random.random() < 0.7 else sorted({seq, *random.choice(members, 2)})
        count = int(random.choice([1, 1, 2, 5, 20, 70]))
        tokens = random.integers(0, 2, count).tolist()
        batch.extend(tokens, ends[seq], tuple(map(int, chosen)), logits="all")
        for member in chosen:
            ends[member] += count
    return lambda c: c.decode(batch).logits


def somewhere(random: Random, context: Context, seq: int) -> int:
    """A position of a sequence, or a little beyond it."""
    known = [0, 64, *context.memory.checkpoints(seq)[-3:], int(context.memory.ends[seq])]
    near = int(random.integers(0, int(context.memory.ends[seq]) + 2))
    return int(random.choice([*known, near, near, near]))


def operation(random: Random, context: Context) -> tuple[str, Operation]:
    """One that may well make sense."""
    kind = str(random.choice(list(KIND_OF_OPERATION), p=WEIGHTS))
    seq, other = map(int, random.integers(SEQUENCES, size=2))
    start, end = sorted((somewhere(random, context, seq), somewhere(random, context, seq)))
    if kind == "decode":
        return kind, decoding(random, context)
    if kind == "go back":
        at = context.memory.reachable(seq, start)
        return kind, lambda c: c.memory.remove(seq, at)
    if kind == "fork":
        at = context.memory.reachable(seq, end)
        return kind, lambda c: c.memory.copy(seq, other, 0, at)
    if kind == "shift":
        delta = int(random.choice([-start, -3, 1, 64, 100]))
        return kind, lambda c: c.memory.shift(seq, start, end, delta)
    if kind == "save and restore":
        return kind, lambda c: saved_and_restored(c, seq)
    operations: dict[str, Operation] = {
        "remove": lambda c: c.memory.remove(seq, start, end),
        "copy": lambda c: c.memory.copy(seq, other, start, end),
        "checkpoint": lambda c: c.memory.checkpoint(seq),
        "keep": lambda c: c.memory.keep(seq),
        "clear": lambda c: c.memory.clear(),
        "trim": lambda c: c.memory.trim(),
        "empty": lambda c: c.memory.remove(seq),
    }
    return kind, operations[kind]


def saved_and_restored(context: Context, seq: int) -> Any:
    """Into the first sequence that is empty, if there is one."""
    free = [s for s in range(SEQUENCES) if not context.memory.length(s)]
    file = io.BytesIO()
    context.save(file, seq)
    file.seek(0)
    return context.restore(file, {seq: free[0]} if free else {}).sequences


KIND_OF_OPERATION = {
    "decode": 12,
    "go back": 3,
    "fork": 3,
    "remove": 2,
    "copy": 2,
    "shift": 2,
    "checkpoint": 3,
    "save and restore": 1,
    "empty": 2,
    "keep": 0.3,
    "clear": 0.3,
    "trim": 1,
}
"""How often each comes."""
WEIGHTS = np.array(list(KIND_OF_OPERATION.values())) / sum(KIND_OF_OPERATION.values())


def contexts(random: Random) -> tuple[Context, Context]:
    """Two that are alike."""
    if random.random() < 0.6:
        layers = KINDS[str(random.choice(list(KINDS)))]
        models = [ToyModel(ToyConfig(CONTEXT), layers) for _ in range(2)]
    else:
        models = [model_of(str(random.choice(FAMILIES)))] * 2
    options: dict[str, Any] = {
        "max_sequences": SEQUENCES,
        "max_tokens": int(random.choice([SEQUENCES * CONTEXT, 300])),
        "ubatch": int(random.choice([3, 64, 512])),
        "split": str(random.choice(["simple", "equal", "sequence"])),
        "kv_bytes": int(random.choice([1 << 26, 1 << 26, 200_000, 60_000])),
        "checkpoint_bytes": int(random.choice([1 << 20, 30_000, 2000, 0])),
    }
    one, twin = (model.context(**options) for model in models)
    return one, twin


class Differs(AssertionError):
    """The two do not hold the same."""


def case(random: Random) -> None:
    """One conversation."""
    context, twin = contexts(random)
    lengths: dict[str, int] = {}
    for _ in range(OPERATIONS):
        kind, action = operation(random, twin)
        error = KeyboardInterrupt if random.random() < 0.5 else MemoryError
        event = int(random.integers(1, lengths.get(kind, 200) * 5 // 4 + 2))
        interrupter = Interrupter(event if random.random() < 0.7 else 0, error, PACKAGE)
        before = held(context), automatic(context)
        outcome = Outcome()

        def run(action: Operation = action, outcome: Outcome = outcome) -> None:
            outcome.__dict__ |= Outcome.of(action, context).__dict__

        try:
            interrupter.run(run)
            interrupted = False
        except error:
            if not interrupter.raised:
                raise
            interrupted = True
        if not interrupter.raised:
            lengths[kind] = interrupter.seen
        after = held(context), automatic(context)
        expected = Outcome.of(action, twin)
        if interrupted and after[0] == before[0] and after[0] != held(twin):
            if after[1] != before[1]:
                return  # automatic checkpoints gave way, and that is not undone
            outcome, interrupted = Outcome.of(action, context), False
        if not interrupted and (outcome.value, outcome.error) != (expected.value, expected.error):
            raise Differs(
                f"{kind}: {outcome.error or 'a value'}, not {expected.error or 'its own'}"
            )
        compare(kind, context, twin)


def compare(kind: str, context: Context, twin: Context) -> None:
    if held(context) != held(twin):
        raise Differs(f"{kind}: {held(context)}, not {held(twin)}")
    if everything(context) != everything(twin):
        raise Differs(f"{kind}: other bits")
    for each in (context, twin):
        bookkeeping(each)
        poison(each)


if __name__ == "__main__":
    main(case, __doc__ or "", seconds=120, memory=2 << 30)
