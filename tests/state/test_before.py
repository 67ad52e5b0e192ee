"""State files that earlier commits wrote still load, and what follows is bit for bit the same.

Where one of the last assertions fails and nothing of the files' format has changed, a kernel rounds
otherwise than it did: see ``ROUNDS_AS`` in kernels/cpu.py.
"""

from pathlib import Path

import numpy as np
import pytest

import motet
from motet import LLM, Batch, Model

BEFORE = Path(__file__).parent / "before"
GOLDENS = Path(__file__).parents[1] / "parity" / "goldens"
KV_TYPES = {"llama": "q8_0", "gemma2": "f16", "jamba": "f32", "mamba2": "f32", "rwkv6": "f32"}


@pytest.mark.parametrize("name", KV_TYPES)
def test_a_file_of_before(name: str) -> None:
    """Sequence 0 and 1 share 20 tokens, 2 was forked from 1, which has a checkpoint at 26."""
    model = Model.load(GOLDENS / f"{name}.gguf", threads=1)
    context = model.context(max_sequences=4, kv_type=KV_TYPES[name], ubatch=16)
    restored = context.restore(BEFORE / f"{name}.motet")
    if model.kernels.arithmetic.endswith("fused"):  # as that of the kernels that wrote it
        assert all(context.memory.is_contiguous_and_unedited(seq) for seq in range(3))
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


def test_another_release_with_the_same_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on from what was saved: its number says nothing of how it rounds."""
    monkeypatch.setattr(motet, "__version__", "9.0.0")
    monkeypatch.setattr("motet.kernels.cpu.__version__", "9.0.0", raising=False)
    model = Model.load(GOLDENS / "llama.gguf", threads=1)
    if not model.kernels.arithmetic.endswith("fused"):
        pytest.skip("the file is of kernels that fuse")
    with LLM(model, max_sequences=4, kv_type="q8_0") as llm:
        notes = llm.restore(BEFORE / "llama.motet")
        assert sorted(llm.held()) == [26, 30, 30]
        prompt = [int(token) for token in notes["tokens"].split(",")][:30]
        answer = llm.generate([*prompt, 5], max_tokens=1, seed=0)
        assert answer.usage.cached_tokens == 30


def test_another_arithmetic_is_computed_anew(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    caplog.set_level("INFO", "motet")
    monkeypatch.setattr("motet.kernels.cpu.ROUNDS_AS", "motet 7")
    with LLM(GOLDENS / "llama.gguf", max_sequences=4, kv_type="q8_0", threads=1) as llm:
        llm.restore(BEFORE / "llama.motet")
        assert llm.held() == []
    assert "0 of 3 saved sequences can be gone on from" in caplog.text
