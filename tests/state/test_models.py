"""Real families and kernels: a state goes on, in another process too, as if it had never left."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from motet.batch import Batch
from motet.errors import StateFileError
from motet.model import Model
from motet.self_extend import AutoExtend, SelfExtend
from tests.models.tiny import DECODERS, load, metadata, write

TINY = Path(__file__).parents[2] / "src" / "motet" / "data" / "motet-tiny.gguf"
_CHILD = """
import sys
import numpy as np
from motet.batch import Batch
from motet.model import Model
path, state, out = sys.argv[1:]
model = Model.load(path, threads=1)
for seq, ubatch in ((2, 512), (1, 3)):
    context = model.context(max_sequences=4, max_tokens=300, ubatch=ubatch)
    print(context.restore(state, {0: seq}).notes["said"])
    batch = Batch()
    batch.extend(range(20, 33), context.memory.length(seq), seq, logits="all")
    np.save(f"{out}/{seq}.npy", context.decode(batch).logits)
"""


def said(context, tokens, seq: int = 0, start: int | None = None) -> np.ndarray:
    """The logits of tokens that continue ``seq``."""
    batch = Batch()
    first = context.memory.length(seq) if start is None else start
    batch.extend(tokens, first, seq, logits="all")
    return context.decode(batch).logits


def prompt(count: int, n_vocab: int) -> list[int]:
    return [(7 * i + i // 5) % n_vocab for i in range(count)]


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("kv_type", ["f32", "f16", "bf16", "q8_0"])
def test_every_family_in_every_type(tmp_path, architecture, kv_type):
    model = load(tmp_path, architecture)
    context = model.context(max_sequences=2, kv_type=kv_type)
    said(context, prompt(90, model.n_vocab))
    context.memory.copy(0, 1)
    said(context, prompt(5, model.n_vocab), 1)
    context.save(tmp_path / "state")
    other = model.context(max_sequences=5, max_tokens=256, ubatch=7, kv_type=kv_type)
    said(other, prompt(40, model.n_vocab), 2)
    assert other.restore(tmp_path / "state", {0: 4, 1: 3}).sequences == {0: 4, 1: 3}
    for seq, new in ((0, 4), (1, 3)):
        expected = said(context, prompt(30, model.n_vocab), seq)
        assert np.array_equal(said(other, prompt(30, model.n_vocab), new), expected)


@pytest.mark.parametrize(
    "architecture",
    [
        *("gemma2", "mamba", "jamba", "rwkv6", "rwkv7"),
        *("olmo2", "granitehybrid", "falcon-h1", "nemotron_h", "lfm2moe"),
    ],
)
def test_in_another_process(tmp_path, architecture):
    model = load(tmp_path, architecture)
    context = model.context()
    said(context, prompt(100, model.n_vocab))
    context.save(tmp_path / "state", notes={"said": "100 tokens"})
    model_path = str(tmp_path / f"{architecture}.gguf")
    arguments = [model_path, str(tmp_path / "state"), str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=True
    )
    assert run.stdout == "100 tokens\n" * 2
    expected = said(context, range(20, 33))
    for seq in (2, 1):
        assert np.array_equal(np.load(tmp_path / f"{seq}.npy"), expected)


def test_another_fine_tune_of_the_same_shape(tmp_path):
    path = write(tmp_path / "a.gguf", metadata("gemma2"))
    context = Model.load(path, threads=1).context()
    said(context, [1, 2, 3])
    context.save(tmp_path / "state")
    data = bytearray(path.read_bytes())
    data[-2] ^= 1  # of the last weight
    (tmp_path / "b.gguf").write_bytes(data)
    write(tmp_path / "c.gguf", metadata("gemma2", rope__freq_base=500000.0))
    keys = metadata("gemma2") | {"tokenizer.ggml.bos_token_id": 3}
    write(tmp_path / "d.gguf", keys)
    for name, part in (("b", "weights"), ("c", "settings"), ("d", "tokenizer")):
        other = Model.load(tmp_path / f"{name}.gguf", threads=1).context()
        with pytest.raises(StateFileError, match=f"state: was saved with (an)?other .*{part}"):
            other.restore(tmp_path / "state")
        assert other.memory.length(0) == 0
    again = Model.load(path, threads=1).context()
    assert again.restore(tmp_path / "state").sequences == {0: 0}
    with pytest.raises(StateFileError, match="keeps them as f16"):
        Model.load(path, threads=1).context(kv_type="f16").restore(tmp_path / "state")


def test_with_self_extend(tmp_path):
    model = load(tmp_path, "llama", context_length=64)
    extended = SelfExtend(group=4, window=16)
    context = model.context(self_extend=extended)
    said(context, prompt(120, model.n_vocab))
    context.save(tmp_path / "state")
    other = model.context(context_length=200)
    with pytest.raises(StateFileError) as caught:
        other.restore(tmp_path / "state")
    assert "other Self-Extend settings: SelfExtend(group=4, window=16, scale=None)" in str(
        caught.value
    )
    assert "context.self_extend = motet.SelfExtend(group=4" in str(caught.value)
    other = model.context(self_extend=AutoExtend())
    with pytest.raises(StateFileError, match=r"this context's are AutoExtend\(scale=None\)"):
        other.restore(tmp_path / "state")
    other.self_extend = extended
    other.restore(tmp_path / "state")
    expected = said(context, prompt(9, model.n_vocab))
    assert np.array_equal(said(other, prompt(9, model.n_vocab)), expected)
    other.memory.clear()
    other.self_extend = None
    said(other, [1, 2, 3])
    other.save(tmp_path / "state")
    with pytest.raises(StateFileError, match=r"context\.self_extend = None adopts them"):
        model.context(self_extend=extended).restore(tmp_path / "state")


def test_the_model_that_comes_along(tmp_path):
    model = Model.load(TINY, threads=1)
    tokens = model.tokenizer.encode("Once upon a time there was a bird. " * 20)
    context = model.context(max_sequences=2)
    whole = said(context, tokens)
    context.memory.remove(0, len(tokens) - 30)
    context.save(tmp_path / "state")
    other = model.context(max_sequences=3, ubatch=64)
    other.restore(tmp_path / "state", {0: 2})
    assert np.array_equal(said(other, tokens[-30:], 2), whole[-30:])
