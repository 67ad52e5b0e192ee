"""Numbers that are not finite: an error that says where they arise, and memory as it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet.batch import Batch
from motet.errors import NumericalError
from motet.finite import rows_not_finite
from motet.llm import LLM
from motet.model import Model
from motet.weights.gguf import GGUFFile
from tests.models.tiny import DECODERS, VOCAB, metadata, shapes, write

OTHER_NAMES = {
    "lfm2": {"output_norm": "token_embd_norm"},
    "lfm2moe": {"output_norm": "token_embd_norm"},
    "olmo2": {"attn_norm": "post_attention_norm"},
}
"""Of tensors that others call alike."""
BROKEN = 7
"""A token whose embedding is damaged, where one is."""
pytestmark = pytest.mark.filterwarnings("error")


def model(folder: Path, architecture: str, broken: str = "", row: int | None = None) -> Model:
    """A tiny model with an output head of its own, and NaN in (a row of) a tensor."""
    keys = metadata(architecture)
    path = write(folder / "m.gguf", keys, shapes(keys) | {"output.weight": (VOCAB, 16)})
    if broken:
        with GGUFFile.open(path) as file:
            info = file.stored[broken]
        values = np.memmap(path, np.float32, "r+", info.offset, (info.rows, info.columns))
        values[slice(None) if row is None else row] = np.nan
        values.flush()
    return Model.load(path, 1)


def batch(*runs: tuple[list[int], int, int], logits: Any = "all") -> Batch:
    """Of (tokens, first position, sequence)."""
    made = Batch()
    for tokens, start, seq in runs:
        made.extend(tokens, start, seqs=seq, logits=logits)
    return made


@pytest.mark.parametrize(
    ("tensor", "place"),
    [
        ("token_embd.weight", r"the embedding \(token_embd\.weight\)"),
        ("blk.0.attn_norm.weight", r"layer 0 \(blk\.0\)"),
        ("blk.1.attn_norm.weight", r"layer 1 \(blk\.1\)"),
        ("output_norm.weight", r"the final norm \(output_norm\)"),
        ("output.weight", "the output head"),
    ],
)
@pytest.mark.parametrize("architecture", DECODERS)
def test_the_place_is_named(tmp_path: Path, architecture: str, tensor: str, place: str) -> None:
    for old, new in OTHER_NAMES.get(architecture, {}).items():
        tensor = tensor.replace(old, new)
    context = model(tmp_path, architecture, tensor).context(checkpoint_bytes=0, ubatch=4)
    for logits in ("all", "last"):
        with pytest.raises(NumericalError, match=f"^{place}: ") as caught:
            context.decode(batch(([1, 2, 3, 4, 5, 6], 0, 0), logits=logits))
        assert "damaged" in caught.value.hint
    assert context.memory.length(0) == 0


@pytest.mark.parametrize("ubatch", [1, 3, 512])
def test_a_query_that_is_no_number_is_found(tmp_path: Path, ubatch: int) -> None:
    """A softmax takes the greatest of a query's scores, and so could lose it."""
    for row in (None, 3):
        context = model(tmp_path, "llama", "blk.1.attn_q.weight", row).context(ubatch=ubatch)
        with pytest.raises(NumericalError, match=r"^layer 1 \(blk\.1\)"):
            context.decode(batch(([1, 2, 3, 4, 5, 6], 0, 0)))


@pytest.mark.parametrize("ubatch", [1, 3, 512])
@pytest.mark.parametrize("architecture", DECODERS)
def test_memory_is_as_before(tmp_path: Path, architecture: str, ubatch: int) -> None:
    loaded = model(tmp_path, architecture, "token_embd.weight", BROKEN)
    tried, plain = (
        loaded.context(max_sequences=2, ubatch=ubatch, checkpoint_bytes=0) for _ in range(2)
    )
    for context in (tried, plain):
        context.decode(batch(([1, 2, 3], 0, 0), ([4, 5], 0, 1)))
    with pytest.raises(NumericalError, match="the embedding") as caught:
        tried.decode(batch(([6, 8, 9, 10], 3, 0), ([11, 12, BROKEN, 13], 2, 1)))
    if caught.value.entries:  # keys and values are found before logits
        assert 6 in caught.value.entries and not {0, 1, 2, 3, 4, 5} & {*caught.value.entries}
    assert [tried.memory.length(seq) for seq in (0, 1)] == [3, 2]
    after = batch(([6, 8, 9, 10], 3, 0), ([11, 12, 13], 2, 1))
    assert np.array_equal(tried.decode(after).logits, plain.decode(after).logits)


@pytest.mark.parametrize("architecture", ["mamba", "mamba2", "jamba", "rwkv6", "rwkv7"])
def test_states_do_not_break_silently(tmp_path: Path, architecture: str) -> None:
    """Where no logits are asked for, and where others' are."""
    loaded = model(tmp_path, architecture, "token_embd.weight", BROKEN)
    context = loaded.context(max_sequences=2, checkpoint_bytes=0)
    tried = batch(([1, 2, 3], 0, 0))
    tried.extend([4, BROKEN, 5, 6, 8, 9], 0, seqs=1, logits="none")
    with pytest.raises(NumericalError, match="the embedding"):
        context.decode(tried)
    with pytest.raises(NumericalError, match="the embedding"):
        context.decode(batch(([4, BROKEN, 5, 6, 8, 9], 0, 1), logits="none"))
    assert [context.memory.length(seq) for seq in (0, 1)] == [0, 0]
    context.decode(batch(([4, 5, 6, 8, 9], 0, 1), logits="none"))


def test_rows_are_told(tmp_path: Path) -> None:
    """Where nothing attends, sequences in a batch are told apart."""
    loaded = model(tmp_path, "mamba", "token_embd.weight", BROKEN)
    context = loaded.context(max_sequences=3, checkpoint_bytes=0)
    runs = ([1, 2, 3], 0, 0), ([4, BROKEN, 5], 0, 1), ([6], 0, 2)
    with pytest.raises(NumericalError) as caught:
        context.decode(batch(*runs))
    assert caught.value.entries == (4, 5)
    assert "the logits of entry 4 are not all finite numbers" in str(caught.value)
    with pytest.raises(NumericalError) as caught:
        context.decode(batch(*runs, logits="last"))
    assert caught.value.entries == (5,)
    with pytest.raises(NumericalError, match="the final states of entry 5 are not") as caught:
        context.decode(batch(*runs, logits="none"))
    assert caught.value.entries == (5,)


def test_an_answer_that_breaks_does_not_harm_the_others(tmp_path: Path) -> None:
    loaded = model(tmp_path, "mamba", "token_embd.weight", BROKEN)
    never = {BROKEN: -100.0}
    with LLM(loaded, max_sequences=4) as llm:
        alone = llm.generate([1, 2, 3], max_tokens=20, seed=5, logit_bias=never)
        stream = llm.generate([1, 2, 3], max_tokens=20, seed=5, logit_bias=never, stream=True)
        with pytest.raises(NumericalError, match="the embedding"):
            llm.generate([4, BROKEN, 5], max_tokens=5)
        *_, last = stream
        assert last.completion is not None and last.completion.tokens == alone.tokens
        assert llm.generate([1, 2, 3], max_tokens=20, seed=5, logit_bias=never) is not None


def test_keys_beyond_their_type(tmp_path: Path) -> None:
    keys = metadata("llama")
    path = write(tmp_path / "m.gguf", keys)
    with GGUFFile.open(path) as file:
        info = file.stored["blk.1.attn_v.weight"]
    values = np.memmap(path, np.float32, "r+", info.offset, (info.rows, info.columns))
    values *= 1e7
    values.flush()
    loaded = Model.load(path, 1)
    with pytest.raises(NumericalError, match=r"layer 1 \(blk\.1\): a key or value .* of f16") as no:
        loaded.context(kv_type="f16").decode(batch(([1, 2], 0, 0)))
    assert no.value.hint == "use kv_type='f32'"
    assert np.isfinite(loaded.context(kv_type="f32").decode(batch(([1, 2], 0, 0))).logits).all()


@pytest.mark.parametrize("columns", [1, 7, 1 << 17, 1 << 19])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_not_finite(columns: int, bad: float) -> None:
    x = np.zeros((5, columns), np.float32)
    assert rows_not_finite(x) == []
    assert rows_not_finite(x[:0]) == []
    x[3, -1] = bad
    assert rows_not_finite(x) == [3]
    x[4, 0] = bad
    assert set(rows_not_finite(x)) <= {3, 4}
