"""What a sequence holds, and what its tokens would give if they were decoded again."""

import pytest

from motet import Batch, Context
from motet.errors import BatchError
from tests.toy import ALL_KINDS, HYBRID, ToyModel


def extend(context: Context, seqs: int | tuple[int, ...], start: int, tokens: list[int]) -> None:
    batch = Batch()
    batch.extend(tokens, start, seqs)
    context.decode(batch)


@pytest.fixture(params=[ALL_KINDS, HYBRID], ids=["all kinds", "hybrid"])
def context(request) -> Context:
    return ToyModel(layers=request.param).context(max_sequences=4, max_tokens=400)


def told(context: Context) -> list[bool]:
    return [context.memory.is_contiguous_and_unedited(seq) for seq in range(4)]


def test_equal_tokens_decoded_apart_agree_until_they_are_told_apart(context: Context) -> None:
    for seq in (0, 1):
        extend(context, seq, 0, [1, 2, 3])
    extend(context, (0, 1), 3, [4])
    for seq in (2, 3):
        extend(context, seq, 0, [1, 2, 3])
    with context.memory.exclusive():
        context.memory.invalidate_sharing()
    extend(context, (0, 1), 4, [5])  # these have become one
    with pytest.raises(BatchError, match="pasts differ"):
        extend(context, (2, 3), 3, [4])
    context.memory.remove(3)
    with pytest.raises(BatchError, match="pasts differ"):
        batch = Batch()
        batch.extend([1, 2, 3], 0, 3)
        batch.add(4, 3, (2, 3))
        context.decode(batch)
    context.memory.copy(2, 3)
    extend(context, (2, 3), 3, [4])


def test_what_tokens_tell(context: Context) -> None:
    assert told(context) == [True] * 4
    extend(context, 0, 0, [1, 2, 3])
    extend(context, 1, 5, [1, 2, 3])  # a sequence may begin anywhere
    assert told(context) == [True, False, True, True]
    with context.memory.exclusive():
        context.memory.invalidate_sharing()
    context.memory.copy(0, 2)
    extend(context, 3, 0, [1, 2, 3])
    assert told(context) == [False, False, False, True]
    extend(context, 2, 3, [4])
    context.memory.remove(2)
    context.memory.remove(0)
    extend(context, 0, 0, [7])
    assert told(context) == [True, False, True, True]


def test_what_was_edited() -> None:
    context = ToyModel().context(max_sequences=4)
    for seq in range(4):
        extend(context, seq, 0, list(range(9)))
    context.memory.remove(1, 2, 4)
    context.memory.remove(2, 2, 4)
    context.memory.shift(2, 4, None, -2)
    context.memory.remove(3, 5)
    assert told(context) == [True, False, False, True]
    context.memory.remove(2, 2)
    assert told(context) == [True, False, True, True]
