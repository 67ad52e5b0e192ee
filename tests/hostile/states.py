"""Forged state files of every kind of memory: whoever wrote the numbers made the checksums too.

Each is restored into a context beside a sequence that goes on, or into an LLM. It is refused with
memory as it was, or taken with books that are right; the sequence beside it never notices.
"""

import io
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_128

from motet.batch import Batch
from motet.errors import CapacityError, MotetError, OptionError, StateFileError
from motet.llm import LLM
from tests.hostile.harness import main
from tests.memory.talk import Talk
from tests.models import tiny
from tests.state.files import KINDS, packed, saved, unpacked
from tests.toy import assert_same, bookkeeping, contents, poison

Random = np.random.Generator
Tensors = dict[str, np.ndarray]

SPECIAL = (0, 1, 2, 5, 10, 63, 64, 65, 2047, 2048, 2**31 - 1, 2**32, 2**62, 2**63 - 1)
FAMILIES = ("llama", "gemma3", "mamba", "jamba", "rwkv6")
PROMPT = [1, 2, 3, 4, 5] * 4


@lru_cache
def talk_of(kind: str, variant: int) -> tuple[Talk, bytes]:
    """Sequences with forks, edits and checkpoints, and their file."""
    talk = Talk(layers=KINDS[kind], max_sequences=4, checkpoint_bytes=1 << 20)
    talk.say(5, 2)
    talk.memory.checkpoint(2)
    talk.say((4, 80)[variant % 2], 2)
    talk.copy(2, 0)
    talk.say(3, 0)
    talk.memory.checkpoint(0)
    if variant > 1:
        talk.say(70, 3)
        talk.memory.checkpoint(3)
        talk.say(10, 3)
        if kind in ("full", "sliding", "both"):
            talk.remove(3, 20, 30)
    return talk, saved(talk, notes={"a": "b"})


@lru_cache
def llm_of(family: str) -> tuple[LLM, bytes, tuple[int, ...]]:
    """An LLM on a tiny model, the state of its prefix cache, and what it answers."""
    with tempfile.TemporaryDirectory() as folder:
        model = tiny.load(Path(folder), family)
        _ = model.fingerprint
    llm = LLM(model, max_sequences=3)
    for prompt in ([9, 8, 7] * 8, PROMPT):
        answer = llm.generate(prompt, max_tokens=6, seed=1)
    file = io.BytesIO()
    llm.save(file)
    return llm, file.getvalue(), answer.tokens


# Forgeries


def number(random: Random, dtype: np.dtype) -> int:
    if dtype.kind != "i":
        return int(random.integers(0, 256))
    value = int(random.choice(SPECIAL)) if random.random() < 0.4 else int(random.integers(-3, 100))
    return min(value, int(np.iinfo(dtype).max))


def some_table(random: Random, tensors: Tensors) -> str:
    return str(random.choice([name for name in tensors if not name.startswith("layers.")]))


def set_numbers(random: Random, tensors: Tensors) -> None:
    table = tensors[some_table(random, tensors)]
    for _ in range(int(random.integers(1, 4)) if len(table) else 0):
        table[random.integers(len(table))] = number(random, table.dtype)


def step_numbers(random: Random, tensors: Tensors) -> None:
    table = tensors[some_table(random, tensors)]
    start, end = sorted(random.integers(0, len(table) + 1, 2))
    table[start:end] += random.integers(-2, 3).astype(table.dtype)


def rearrange(random: Random, tensors: Tensors) -> None:
    name = some_table(random, tensors)
    tensors[name] = rearranged(random, tensors[name])


def rearranged(random: Random, table: np.ndarray) -> np.ndarray:
    start, end = sorted(random.integers(0, len(table) + 1, 2))
    part = table[start:end]
    kind = int(random.integers(6))
    if kind == 0:
        return np.concatenate([table[:start], table[end:]])
    if kind == 1:
        return np.concatenate([table[:end], part, table[end:]])
    if kind == 2:
        return np.concatenate([table[:start], part[::-1], table[end:]])
    if kind == 3:
        return table[:start]
    if kind == 4:
        return random.permutation(table)
    more = int(random.integers(1, 2000))
    return np.concatenate([table, np.repeat(table[-1:], more, axis=0)])


def swap_tables(random: Random, tensors: Tensors) -> None:
    one, other = some_table(random, tensors), some_table(random, tensors)
    if tensors[one].dtype == tensors[other].dtype:
        tensors[one], tensors[other] = tensors[other], tensors[one]


def drop_or_add(random: Random, tensors: Tensors) -> None:
    name = some_table(random, tensors)
    if random.random() < 0.5:
        del tensors[name]
    else:
        tensors[f"more.{name}"] = tensors[name]
        if random.random() < 0.5:
            tensors.update(sorted(tensors.items(), key=lambda item: item[0].startswith("layers.")))


def rearrange_rows(random: Random, tensors: Tensors) -> None:
    """Of one tensor, or of all that belong to layers."""
    names = [name for name in tensors if name.startswith("layers.")]
    if not names:
        return
    chosen = names if random.random() < 0.5 else [str(random.choice(names))]
    seed = int(random.integers(1 << 30))
    for name in chosen:
        tensors[name] = rearranged(np.random.default_rng(seed), tensors[name])


def consistently(random: Random, tensors: Tensors) -> None:
    """One of the changes that leave a file that may well be right."""
    kind = int(random.integers(5))
    if kind == 0:  # another order of rows in a pool
        order = random.permutation(len(tensors["tokens"]))
        back = np.argsort(order).astype(np.int32)
        tensors["tokens"] = tensors["tokens"][order]
        if tensors["full.rows"].max(initial=0) < len(back):
            tensors["full.rows"] = back[tensors["full.rows"]]
    elif kind == 1:  # far from the beginning
        by = int(random.choice([1, 64, 1000, 1 << 20, 1 << 30]))
        for name, table in tensors.items():
            if name.endswith(".positions"):
                tensors[name] = (table.astype(np.int64) + by).clip(max=2**31 - 1).astype(np.int32)
    elif kind == 2:  # a crowd of sequences that hold nothing
        count = int(random.choice([1, 100, 20_000]))
        ids, owners = tensors["sequences.ids"], len(tensors["sequences.ids"])
        tensors["sequences.ids"] = np.concatenate([ids, np.arange(count) + 100])
        tensors["sequences.broken"] = np.resize(tensors["sequences.broken"], owners + count)
        for name, table in tensors.items():
            if name.endswith(".lengths"):
                tensors[name] = np.insert(table, owners, np.zeros(count, np.int64))
            elif name == "states.rows":
                tensors[name] = np.insert(table, owners, np.full(count, -1, np.int32))
    elif kind == 3:  # every checkpoint many times over
        own = int(tensors["checkpoints.rows"].max(initial=-1)) + 1
        sequences = len(tensors["sequences.ids"])
        for name, table in tensors.items():
            if name.endswith((".lengths", "states.rows")) and len(table) == sequences + own:
                tensors[name] = np.concatenate([table, np.repeat(table[sequences:], 50)])
    else:  # all sequences share their first tokens
        lengths, rows = tensors["full.lengths"], tensors["full.rows"]
        if len(lengths) > 1:
            first = min(lengths[0], lengths[1])
            rows[lengths[0] : lengths[0] + first] = rows[:first]


CHANGES: tuple[Callable[[Random, Tensors], None], ...] = (
    set_numbers,
    set_numbers,
    step_numbers,
    rearrange,
    swap_tables,
    drop_or_add,
    rearrange_rows,
)


def forge_strings(random: Random, metadata: dict[str, str]) -> None:
    key = str(random.choice(list(metadata)))
    old = metadata[key]
    metadata[key] = str(
        random.choice(
            [
                old[: len(old) // 2],
                old + "x",
                "",
                "none",
                "[" * 50_000,
                "[" + "[]," * 50_000 + "[]]",
                '{"a":1}',
                "\x1b[2J" * 100,
                "9" * 6000,
                "AutoExtend(scale=None)",
                "SelfExtend(group=99999, window=4, scale='log')",
            ]
        )
    )
    if random.random() < 0.2:
        del metadata[key]


def forge_header(random: Random, file: bytes) -> bytes:
    """Other JSON in the header, with the tables' checksum as it has to be then."""
    size = int.from_bytes(file[:8], "little")
    table, body = json.loads(file[8 : 8 + size]), file[8 + size :]
    end = table["checksums.index"]["data_offsets"][0]
    names = [name for name in table if name != "__metadata__"]
    for _ in range(int(random.integers(1, 4))):
        entry = table[str(random.choice(names))]
        field = str(random.choice(list(entry)))
        value: Any = entry[field]
        if isinstance(value, list) and value and random.random() < 0.8:
            odd: list[Any] = [-1, 0, 1, 1 << 40, 1 << 62, 1 << 70, 1.5, True, None, "1", [], 1e400]
            value[int(random.integers(len(value)))] = odd[int(random.integers(len(odd)))]
        else:
            odd = ["F32", "I64", "U8", "F99", None, 3, {}, [], [0] * 9, [1 << 61] * 8]
            entry[field] = odd[int(random.integers(len(odd)))]
    text = json.dumps(table).encode()
    if random.random() < 0.2:
        at = int(random.integers(len(text)))
        text = text[:at] + bytes(random.integers(0, 256, 3, np.uint8)) + text[at:]
    text += b" " * (-(8 + len(text)) % 64)
    start = len(text).to_bytes(8, "little") + text + body[:end]
    return start + xxh3_128(start).digest() + body[end + 16 :]


def forged(random: Random, file: bytes) -> bytes:
    metadata, tensors = unpacked(file)
    first = random.random() < 0.3
    if first:
        consistently(random, tensors)
    for _ in range(int(random.choice([0, 1] if first else [1, 1, 1, 2, 4]))):
        with suppress(KeyError):  # of a table that is no longer there
            CHANGES[int(random.integers(len(CHANGES)))](random, tensors)
    if random.random() < 0.15:
        forge_strings(random, metadata)
    tensors = {name: np.ascontiguousarray(table) for name, table in tensors.items()}
    data = packed(metadata, tensors)
    if random.random() < 0.15:
        data = forge_header(random, data)
    if random.random() < 0.05:
        data = data[: int(random.integers(len(data)))]
    return data


# What becomes of them


def wanted(random: Random) -> Any:
    """An ``into``."""
    kind = int(random.integers(5))
    if kind == 0:
        return None
    if kind == 1:
        return {}
    if kind == 2:
        return {0: 3, 2: 2}
    if kind == 3:
        return lambda ids: dict(zip(ids[:3], (3, 0, 2), strict=False))
    return lambda ids: {ids[-1]: 0} if ids else {}


def into_a_context(random: Random) -> None:
    kind = str(random.choice(list(KINDS)))
    _, file = talk_of(kind, int(random.integers(4)))
    data = forged(random, file)
    options: dict[str, Any] = {"max_sequences": 4, "kv_bytes": 1 << 24}
    options["checkpoint_bytes"] = int(random.choice([0, 300, 20_000, 1 << 20]))
    if random.random() < 0.3:
        options["max_tokens"] = 120
    talk = Talk(layers=KINDS[kind], **options)
    talk.say(20, 1)
    before = contents(talk.context)
    try:
        restored = talk.context.restore(io.BytesIO(data), wanted(random)).sequences
    except (StateFileError, CapacityError, OptionError) as error:
        assert_same(before, contents(talk.context))
        assert len(str(error)) < 600
        talk.say(2, 1)
        raise
    bookkeeping(talk.context)
    poison(talk.context)
    for new in restored.values():
        go_on(random, talk, new)
    talk.memory.keep(1)
    talk.say(2, 1)


def go_on(random: Random, talk: Talk, seq: int) -> None:
    """Whatever it holds now can be forked, gone back in, moved and saved."""
    memory = talk.memory
    at = [*memory.checkpoints(seq)[:2], int(random.integers(0, 100))]
    moves: list[Callable[[], object]] = [
        lambda: memory.copy(seq, 0 if seq else 2),
        lambda: memory.checkpoint(seq),
        lambda: memory.remove(seq, memory.reachable(seq, int(random.choice(at)))),
        lambda: memory.shift(seq, 0, None, 3),
        lambda: saved_again(talk, seq),
        lambda: one_more(talk, seq),
        lambda: one_more(talk, seq),
    ]
    for _ in range(3):
        with suppress(MotetError):
            moves[int(random.integers(len(moves)))]()
        bookkeeping(talk.context)


def one_more(talk: Talk, seq: int) -> None:
    """Reading what it holds finds nothing that nobody wrote."""
    batch = Batch()
    batch.add(3, int(talk.memory.ends[seq]), seq, logits=True)
    talk.context.decode(batch)


def saved_again(talk: Talk, seq: int) -> None:
    file = io.BytesIO()
    talk.context.save(file, seq)
    file.seek(0)
    Talk(layers=talk.model.layers, max_sequences=4).context.restore(file)


def into_an_llm(random: Random) -> None:
    llm, file, expected = llm_of(str(random.choice(FAMILIES)))
    data = forged(random, file)
    held = llm.held()
    llm.generate([int(random.integers(40))] * 5, max_tokens=2, seed=1)
    held = llm.held()
    try:
        with_notes = io.BytesIO(data)
        llm.notes(with_notes)
        llm.restore(with_notes, adopt_self_extend=random.random() < 0.3)
    except MotetError:
        assert llm.held() == held
        raise
    finally:
        if llm.self_extend is not None:
            llm.self_extend = None
        llm.forget()
        answer = llm.generate(PROMPT, max_tokens=6, seed=1)
        assert answer.tokens == expected
        again = llm.generate(PROMPT, max_tokens=6, seed=1)
        assert again.tokens == expected and again.usage.cached_tokens


def case(random: Random) -> None:
    """One forged file."""
    if random.random() < 0.8:
        into_a_context(random)
    else:
        into_an_llm(random)


if __name__ == "__main__":
    main(case, __doc__ or "")
