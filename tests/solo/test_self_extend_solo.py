"""The solo law with Self-Extend on: however a sequence is fed, its rows are the same bits."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from motet import Batch, Context, Model
from motet.errors import BatchError, StateFileError
from motet.kernels import _cpu
from motet.self_extend import AutoExtend, SelfExtend
from tests.models import tiny
from tests.solo.test_solo import MODELS
from tests.solo.voices import SPLITS, UBATCHES, Voices, feed, load, random_tokens

TRAINED = 64
"""The trained length here, so that short sequences are beyond it."""

SETTINGS = (
    SelfExtend(4, 16),
    SelfExtend(3, 20),
    SelfExtend(7, 40, scale="log"),
    SelfExtend(90, 33),
    AutoExtend(),
    AutoExtend(scale="log"),
)
"""Groups that divide the window and the page and that don't; windows in a page, across its edge."""

NAMES = ("golden-llama", "golden-llama_yarn", "golden-gemma2", "golden-gemma3", "motet-tiny")
NAMES += ("golden-mpt", "golden-mpt_clamped")
Setting = SelfExtend | AutoExtend | None


@cache
def model_of(name: str, threads: int, isa: str = "") -> Model:
    model = load(MODELS[name], isa or _cpu.supported()[0], threads)
    model.config = replace(model.config, context_length=TRAINED)
    return model


def reach(setting: SelfExtend | AutoExtend) -> int:
    return min(setting.longest_context(TRAINED), 230)


def decode(context: Context, *runs: tuple[int | tuple[int, ...], int, Sequence[int]]) -> np.ndarray:
    """Logits of every token of some (sequences, start, tokens)."""
    batch = Batch()
    for seqs, start, tokens in runs:
        batch.extend(tokens, start, seqs, logits="all")
    return context.decode(batch).logits


def alone(model: Model, tokens: Sequence[int], setting: Setting, kv_type: str = "auto"):
    """Logits of every token, in one go, with nobody else."""
    context = model.context(
        ubatch=len(tokens), self_extend=setting, context_length=len(tokens), kv_type=kv_type
    )
    return decode(context, (0, 0, tokens))


def in_pieces(context: Context, tokens: Sequence[int], cuts: Sequence[int]) -> np.ndarray:
    ends = [*sorted({cut for cut in cuts if 0 < cut < len(tokens)}), len(tokens)]
    starts = [0, *ends[:-1]]
    return np.concatenate(
        [decode(context, (0, a, tokens[a:b])) for a, b in zip(starts, ends, strict=True)]
    )


def edges(setting: SelfExtend | AutoExtend) -> dict[str, list[int]]:
    """Where the tokens are cut: every so many, on the edges of window and groups, and beside."""
    window, group = setting.window_of(TRAINED), getattr(setting, "group", 2)
    groups = list(range(0, 256, max(group, 8) // group * group))
    return {
        **{f"chunks of {size}": list(range(0, 256, size)) for size in (1, 3, 7)},
        "chunks of 256": [256],
        "on the window": [window, 2 * window, TRAINED],
        "beside the window": [window - 1, window + 1, 2 * window + 1, TRAINED - 1, TRAINED + 1],
        "on the groups": groups,
        "beside the groups": [edge + 1 for edge in groups],
    }


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_any_chunks(name: str, setting: SelfExtend | AutoExtend) -> None:
    tokens = random_tokens(model_of(name, 1), np.random.default_rng(1), reach(setting))
    expected = alone(model_of(name, 2), tokens, setting)
    for i, (how, cuts) in enumerate(edges(setting).items()):
        model, ubatch = model_of(name, 1 + i % 2), (512, 5)[i % 2]
        context = model.context(self_extend=setting, ubatch=ubatch, context_length=len(tokens))
        assert np.array_equal(in_pieces(context, tokens, cuts), expected), how


@pytest.mark.parametrize("setting", SETTINGS[3:], ids=str)
@pytest.mark.parametrize("name", ["golden-gemma2", "motet-tiny"])
def test_large_chunks_of_long_sequences(name: str, setting: SelfExtend | AutoExtend) -> None:
    tokens = random_tokens(model_of(name, 1), np.random.default_rng(10), 640)
    expected = alone(model_of(name, 2), tokens, setting)
    for size, ubatch in ((256, 512), (256, 100), (257, 64)):
        context = model_of(name, 1).context(self_extend=setting, ubatch=ubatch)
        assert np.array_equal(in_pieces(context, tokens, range(0, 640, size)), expected)


@pytest.mark.parametrize("isa", _cpu.supported())
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_random_batches(name: str, setting: SelfExtend | AutoExtend, isa: str) -> None:
    """Sequences below and above the window and the trained length, some tokens shared."""
    for seed in range(2 if isa == _cpu.supported()[0] else 1):
        rng = np.random.default_rng([seed, len(str(setting)), len(isa)])
        model = model_of(name, 1 + seed, isa)
        voices = Voices.random(model, rng, int(rng.integers(2, 7)), min(reach(setting), 160))
        context = model.context(
            max_sequences=len(voices.tokens),
            ubatch=int(rng.choice(UBATCHES)),
            split=SPLITS[seed],
            self_extend=setting,
        )
        rows = feed(context, voices.entries(rng), rng)
        expected = [alone(model_of(name, 2 - seed, isa), t, setting) for t in voices.tokens]
        for (seq, position), logits in rows.items():
            assert np.array_equal(logits, expected[seq][position]), (seed, seq, position)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["golden-gemma2", "motet-tiny"])
def test_uneven_sequences_in_one_batch(name: str, split: str) -> None:
    """Around the window, around the trained length, and far beyond; then token by token."""
    setting = SelfExtend(5, 23)
    lengths = (1, 22, 23, 24, 63, 64, 65, 180)
    model, rng = model_of(name, 2), np.random.default_rng(2)
    tokens = [random_tokens(model, rng, n + 3) for n in lengths]
    expected = [alone(model_of(name, 1), t, setting) for t in tokens]
    for ubatch in UBATCHES:
        context = model.context(
            max_sequences=len(lengths), split=split, ubatch=ubatch, self_extend=setting
        )
        order = rng.permutation(len(lengths)).tolist()
        got = decode(context, *((s, 0, tokens[s][:-3]) for s in order))
        assert np.array_equal(got, np.concatenate([expected[s][:-3] for s in order]))
        for back in (3, 2, 1):
            got = decode(context, *((s, lengths[s] + 3 - back, [tokens[s][-back]]) for s in order))
            assert np.array_equal(got, np.stack([expected[s][-back] for s in order]))


@pytest.mark.parametrize("kv_type", ["f32", "f16", "bf16", "q8_0"])
@pytest.mark.parametrize("setting", SETTINGS[:3], ids=str)
@pytest.mark.parametrize("name", ["golden-llama", "golden-gemma2", "motet-tiny"])
def test_forks_and_rewinds_across_the_edges(
    name: str, setting: SelfExtend | AutoExtend, kv_type: str
) -> None:
    """Of the window and of the trained length, forwards and back."""
    model, rng = model_of(name, 2), np.random.default_rng(3)
    window = setting.window_of(TRAINED)
    for begun, back in ((window + 4, window - 3), (TRAINED + 5, TRAINED - 6), (window - 2, 3)):
        first, *tails = [random_tokens(model, rng, n) for n in (begun, 30, 45, 9)]
        context = model.context(
            max_sequences=3, ubatch=16, self_extend=setting, kv_type=kv_type, max_tokens=600
        )
        decode(context, (1, 0, first))
        context.memory.copy(1, 0)
        context.memory.copy(1, 2, 0, back)
        context.memory.remove(1, back)
        starts = (begun, back, back)
        got = decode(context, *((s, starts[s], tails[s]) for s in (2, 0, 1)))
        whole = [first[: starts[s]] + tails[s] for s in (2, 0, 1)]
        rows = [
            alone(model_of(name, 1), tokens, setting, kv_type)[-len(tails[s]) :]
            for s, tokens in zip((2, 0, 1), whole, strict=True)
        ]
        assert np.array_equal(got, np.concatenate(rows)), (begun, back)


@pytest.mark.parametrize("name", NAMES)
def test_identity(name: str) -> None:
    """Up to the window, and in groups of one, it is plain attention."""
    model = model_of(name, 2)
    tokens = random_tokens(model, np.random.default_rng(4), 150)
    plain = alone(model, tokens, None)
    for window in (1, 16, 63):
        assert np.array_equal(alone(model, tokens[:TRAINED], SelfExtend(1, window)), plain[:64])
    for setting in (SelfExtend(2, 1), SelfExtend(5, 16), SelfExtend(90, 63, scale="log")):
        extended = alone(model, tokens[:90], setting)
        assert np.array_equal(extended[: setting.window], plain[: setting.window])
        assert not np.array_equal(extended, plain[:90])
    for auto in (AutoExtend(), AutoExtend(scale="log")):
        extended = alone(model, tokens, auto)
        assert np.array_equal(extended[:TRAINED], plain[:TRAINED])
        assert not np.array_equal(extended, plain)


def test_groups_of_one_past_the_trained_length() -> None:
    """Which a context refuses; switched on for one that is there, they change nothing."""
    model = model_of("motet-tiny", 2)
    assert SelfExtend(1, 20).longest_context(TRAINED) == TRAINED
    tokens = random_tokens(model, np.random.default_rng(5), TRAINED)
    context = model.context(self_extend=SelfExtend(1, 20))
    assert context.memory.context_length == TRAINED
    assert np.array_equal(decode(context, (0, 0, tokens)), alone(model, tokens, None))


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("name", ["golden-gemma3", "motet-tiny"])
def test_switched_on_in_a_conversation(name: str, setting: SelfExtend | AutoExtend) -> None:
    """What is in memory stays as it is, however it is fed before and after."""
    model, rng = model_of(name, 2), np.random.default_rng(6)
    a, b = random_tokens(model, rng, 110), random_tokens(model, rng, 40)

    def begun(*sizes: int) -> Context:
        context = model.context(max_sequences=3, ubatch=sizes[0], context_length=150)
        for start in range(0, 50, sizes[0]):
            decode(context, (1, start, a[start : min(start + sizes[0], 50)]))
        context.self_extend = setting
        assert context.self_extend == setting
        return context

    one, many = begun(50), begun(7)
    expected = decode(one, (1, 50, a[50:]))
    decode(many, (0, 0, b))
    got = [
        decode(many, (1, at, a[at : at + 3]), (0, 40 + (at - 50) // 3, [b[0]]))[:3]
        for at in range(50, 110, 3)
    ]
    assert np.array_equal(np.concatenate(got), expected)
    # A conversation that begins now is extended from its first token.
    if len(a) <= setting.longest_context(TRAINED):
        assert np.array_equal(decode(many, (2, 0, a)), alone(model, a, setting))
    # Up to the window both are the same, and so is what follows.
    window = setting.window_of(TRAINED)
    whole = alone(model, a, setting)
    early = model.context(context_length=150)
    decode(early, (0, 0, a[:window]))
    early.self_extend = setting
    assert np.array_equal(decode(early, (0, window, a[window:])), whole[window:])
    if isinstance(setting, SelfExtend):  # auto changes nothing before the trained length
        assert not np.array_equal(expected, whole[50:])
    one.self_extend = None
    context = model.context(context_length=150)
    decode(context, (0, 0, a))
    assert one.self_extend is None
    assert not np.array_equal(decode(one, (1, 110, b)), decode(context, (0, 110, b)))


@pytest.mark.parametrize("delta", [20, 21, 64])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_shifted(setting: SelfExtend | AutoExtend, delta: int, tmp_path) -> None:
    """Keys of one layer know nothing before them: without its start, and moved, it is a fresh
    sequence."""
    model = tiny.load(tmp_path, "llama", threads=2, block_count=1, context_length=TRAINED)
    tokens = random_tokens(model, np.random.default_rng(8), 144)
    context = model.context(self_extend=setting, ubatch=9, context_length=reach(setting))
    decode(context, (0, 0, tokens[:139]))
    context.memory.remove(0, 0, delta)
    context.memory.shift(0, delta, None, -delta)
    got = decode(context, (0, 139 - delta, tokens[139:]))
    assert np.array_equal(got, alone(model, tokens[delta:], setting)[-5:])


def test_sequences_of_the_same_tokens_by_different_settings_share_none() -> None:
    """Their keys differ, so that a token of both would not be what it is in each alone."""
    model = model_of("motet-tiny", 2)
    tokens = random_tokens(model, np.random.default_rng(7), 100)
    context = model.context(max_sequences=3, context_length=150)
    decode(context, (0, 0, tokens))
    context.self_extend = SelfExtend(4, 16)
    decode(context, (1, 0, tokens))
    with pytest.raises(BatchError, match="pasts differ"):
        decode(context, ((0, 1), 100, [5]))
    context.memory.copy(0, 2)
    got = decode(context, ((0, 2), 100, [5]))
    assert not np.array_equal(got[0], decode(context, (1, 100, [5]))[0])


ELSEWHERE = """
import sys
import numpy as np
from motet.self_extend import read_setting
from tests.solo.test_self_extend_solo import decode, model_of

name, setting, folder = sys.argv[1:]
model, rest = model_of(name, 1), np.load(folder + "/rest.npy").tolist()
context = model.context(
    max_sequences=2, ubatch=5, self_extend=read_setting(setting), context_length=130
)
context.restore(folder + "/state", {1: 0})
np.save(folder + "/logits.npy", decode(context, (0, 70, rest)))
"""


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_saved_past_the_window_and_loaded_in_a_new_process(
    setting: SelfExtend | AutoExtend, tmp_path: Path
) -> None:
    name = "golden-gemma2"
    model, rng = model_of(name, 2), np.random.default_rng(9)
    tokens = random_tokens(model, rng, 120)
    context = model.context(max_sequences=3, self_extend=setting, context_length=130)
    decode(context, (1, 0, tokens[:70]), (0, 0, random_tokens(model, rng, 30)))
    context.save(tmp_path / "state")
    np.save(tmp_path / "rest.npy", tokens[70:])
    arguments = [sys.executable, "-c", ELSEWHERE, name, repr(setting), str(tmp_path)]
    subprocess.run(arguments, check=True, cwd=Path(__file__).parents[2])
    expected = alone(model, tokens, setting)[70:]
    assert np.array_equal(np.load(tmp_path / "logits.npy"), expected)
    with pytest.raises(StateFileError, match="other Self-Extend settings"):
        model.context(max_sequences=2, context_length=130).restore(tmp_path / "state")
