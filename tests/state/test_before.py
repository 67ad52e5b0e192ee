"""State files that earlier commits wrote still load, and what follows is bit for bit the same."""

from pathlib import Path

import numpy as np
import pytest

from motet import Batch, Model

BEFORE = Path(__file__).parent / "before"
GOLDENS = Path(__file__).parents[1] / "parity" / "goldens"
KV_TYPES = {"llama": "q8_0", "gemma2": "f16", "jamba": "f32", "mamba2": "f32", "rwkv6": "f32"}


@pytest.mark.parametrize("name", KV_TYPES)
def test_a_file_of_before(name: str) -> None:
    """Sequence 0 and 1 share 20 tokens, 2 was forked from 1, which has a checkpoint at 26."""
    model = Model.load(GOLDENS / f"{name}.gguf", threads=1)
    context = model.context(max_sequences=4, kv_type=KV_TYPES[name], ubatch=16)
    restored = context.restore(BEFORE / f"{name}.motet")
    t = [int(token) for token in restored.notes["tokens"].split(",")]
    expected = {0: t[:30], 1: t[:20] + t[30:36], 2: t[:20] + t[30:40]}
    assert restored.sequences == {0: 0, 1: 1, 2: 2}
    assert {seq: context.memory.tokens(seq).tolist() for seq in expected} == expected
    if not context.memory.rewinds_anywhere:
        assert 26 in context.memory.checkpoints(2)
    context.memory.remove(2, 26)
    expected[2] = expected[1]
    going_on = [5, 3, 8]
    for seq, tokens in expected.items():
        batch, fresh = Batch(), Batch()
        batch.extend(going_on, len(tokens), seqs=seq, logits="all")
        fresh.extend(tokens + going_on, 0, logits="all")
        alone = model.context(kv_type=KV_TYPES[name]).decode(fresh).logits[-len(going_on) :]
        assert np.array_equal(context.decode(batch).logits, alone)
