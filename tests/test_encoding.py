"""What ``encode`` and pooling refuse, and what they say."""

import numpy as np
import pytest

import motet
from motet import Batch, Model
from motet.errors import (
    BatchError,
    CapacityError,
    ModelFileError,
    NumericalError,
    OptionError,
    StateFileError,
    UnsupportedError,
)
from tests.models.tiny import VOCAB, load, metadata, shapes, write


@pytest.fixture
def bert(tmp_path) -> Model:
    return load(tmp_path, "bert")


@pytest.fixture
def llama(tmp_path) -> Model:
    return load(tmp_path, "llama")


def batch(*runs: tuple[list[int], int, int | tuple[int, ...]], logits: str = "last") -> Batch:
    made = Batch()
    for tokens, start, seqs in runs:
        made.extend(tokens, start, seqs, logits=logits)
    return made


def test_an_encoder_has_no_logits(bert: Model) -> None:
    context = bert.context()
    with pytest.raises(UnsupportedError, match="is an encoder: it has no logits") as caught:
        context.decode(batch(([1, 2], 0, 0)))
    assert "context.encode" in str(caught.value)
    out = context.encode(batch(([1, 2], 0, 0)))
    with pytest.raises(BatchError, match="an encoder computes no logits"):
        out[1]


def test_an_output_says_what_it_has(bert: Model, llama: Model) -> None:
    two = batch(([3, 4, 5], 0, 0), ([6], 0, 1))
    states = bert.context(max_sequences=2, pooling="none").encode(two)
    assert repr(states) == "<motet.Output: 2 rows of hidden states>"
    means = bert.context(max_sequences=2, pooling="mean").encode(two)
    assert repr(means) == "<motet.Output: 2 pooled vectors>"
    logits = llama.context(max_sequences=2).decode(two)
    assert repr(logits) == "<motet.Output: 2 rows of logits, 2 rows of hidden states>"
    nothing = llama.context(pooling="mean").decode(batch(([3], 0, 0), logits="none"))
    assert repr(nothing) == "<motet.Output: 1 pooled vector>"


def test_a_decoder_does_not_encode(llama: Model) -> None:
    with pytest.raises(UnsupportedError, match=r"llama\.gguf is no encoder.*context\.decode"):
        llama.context().encode(batch(([1, 2], 0, 0)))


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([([1, 2], 1, 0)], "entry 0 is position 1 of sequence 0, where 0 is due"),
        ([([1, 2], 0, 0), ([3], 3, 0)], "entry 2 is position 3 of sequence 0, where 2 is due"),
        ([([1], 0, 1), ([1, 2], 0, (0, 2))], "entry 1 shares a token"),
        ([([1], 0, 0), ([2], 1, (0, 1))], "entry 1 shares a token"),
        ([([VOCAB], 0, 0)], f"entry 0 is token {VOCAB}"),
        ([([1], 0, 7)], "entry 0 is of sequence 7"),
        ([], "the batch is empty"),
    ],
)
def test_a_batch_of_parts_is_refused(bert: Model, runs, message: str) -> None:
    with pytest.raises(BatchError, match=message):
        bert.context(max_sequences=3).encode(batch(*runs))


def test_too_long_a_text_is_told_with_both_numbers(bert: Model) -> None:
    tokens = [1] * 257
    with pytest.raises(CapacityError, match=r"sequence 0 has 257 tokens.*context is of 256"):
        bert.context().encode(batch((tokens, 0, 0)))
    assert len(bert.context(ubatch=8).encode(batch((tokens[:256], 0, 0))).pooled) == 1


def test_pooling_is_what_the_file_says(bert: Model, llama: Model, tmp_path) -> None:
    assert bert.context().pooling == "cls" and llama.context().pooling == "none"
    assert load(tmp_path, "llama", pooling_type=3).context().pooling == "last"
    assert bert.context(pooling="mean").pooling == "mean"


@pytest.mark.parametrize("pooling", ["average", 3, True, b"mean"])
def test_no_such_pooling(bert: Model, pooling) -> None:
    with pytest.raises(OptionError, match="pooling"):
        bert.context(pooling=pooling)


def test_pooling_that_is_not_for_the_model(bert: Model, llama: Model) -> None:
    with pytest.raises(OptionError, match=r"first token of this model sees no other.*'last'"):
        llama.context(pooling="cls")
    for model in (bert, llama):
        with pytest.raises(OptionError, match=r"no classifier.*reranker"):
            model.context(pooling="rank")


def test_pooling_of_the_file_that_is_not_for_the_model(tmp_path) -> None:
    with pytest.raises(OptionError, match=r"the file's pooling_type is 'cls'.*'none'"):
        load(tmp_path, "llama", pooling_type=2).context()
    for architecture in ("bert", "llama"):
        model = load(tmp_path, architecture, pooling_type=4)
        with pytest.raises(OptionError, match=r"the file's pooling_type is 'rank'"):
            model.context()
        assert model.context(pooling="mean").pooling == "mean"


@pytest.mark.parametrize("architecture", ["bert", "qwen3"])
def test_scores_that_are_not_finite(tmp_path, architecture: str) -> None:
    keys = metadata(architecture, pooling_type=4)
    path = write(tmp_path / "m.gguf", keys, shapes(keys) | {"cls.output.weight": (1, 16)})
    with motet.weights.gguf.GGUFFile.open(path) as file:
        at = file.stored["cls.output.weight"].offset
    data = bytearray(path.read_bytes())
    data[at : at + 4] = np.array([np.nan], np.float32).tobytes()
    path.write_bytes(data)
    context = Model.load(path).context(max_sequences=2)
    run = context.encode if architecture == "bert" else context.decode
    with pytest.raises(NumericalError, match="pooled of sequence 1") as caught:
        run(batch(([3, 4], 0, 1), ([5, 6, 7], 0, 0)))
    assert caught.value.entries == (0, 1)
    assert context.memory.length(0) == 0


def test_labels_of_another_number_are_refused(tmp_path) -> None:
    keys = metadata("bert", pooling_type=4, classifier__output_labels=["yes", "no", "maybe"])
    tensors = shapes(keys) | {"cls.output.weight": (2, 16)}
    with pytest.raises(ModelFileError, match=r"names 3 labels.*2 rows"):
        Model.load(write(tmp_path / "m.gguf", keys, tensors))


@pytest.mark.parametrize("architecture", ["modern-bert", "gemma-embedding"])
def test_a_window_of_one_is_refused(tmp_path, architecture: str) -> None:
    with pytest.raises(ModelFileError, match="sliding_window is 1"):
        load(tmp_path, architecture, attention__sliding_window=1)


def test_a_shorter_context_bounds_what_is_encoded(bert: Model) -> None:
    context = bert.context(context_length=10)
    context.encode(batch(([1] * 10, 0, 0)))
    with pytest.raises(CapacityError, match=r"11 tokens.*10"):
        context.encode(batch(([1] * 11, 0, 0)))


def test_a_state_file_is_of_its_pooling(llama: Model, tmp_path) -> None:
    context = llama.context(pooling="mean")
    context.decode(batch(([1, 2, 3], 0, 0)))
    context.save(tmp_path / "state")
    with pytest.raises(StateFileError, match="layers"):
        llama.context().restore(tmp_path / "state")


def test_self_extend_is_refused(bert: Model) -> None:
    with pytest.raises(UnsupportedError):
        bert.context(self_extend="auto")


@pytest.mark.parametrize(
    ("tensor", "place"),
    [
        ("token_embd.weight", r"the embedding \(token_embd\.weight\)"),
        ("blk.1.ffn_down.weight", r"layer 1 \(blk\.1\)"),
    ],
)
@pytest.mark.parametrize("pooling", ["none", "cls", "mean"])
def test_numbers_that_are_not_finite(tmp_path, tensor: str, place: str, pooling: str) -> None:
    path = write(tmp_path / "m.gguf", metadata("bert"))
    reader = motet.weights.gguf.GGUFFile.open(path)
    at = reader.stored[tensor].offset
    reader.close()
    data = bytearray(path.read_bytes())
    data[at : at + 4] = np.array([np.nan], np.float32).tobytes()
    path.write_bytes(data)
    context = Model.load(path).context(max_sequences=2, pooling=pooling)
    with pytest.raises(NumericalError, match=place) as caught:
        context.encode(batch(([1, 2], 0, 0), ([0, 0, 4], 0, 1), logits="all"))
    assert caught.value.entries


def test_a_classifier_without_its_pooler_is_refused(tmp_path) -> None:
    keys = metadata("bert", pooling_type=4)
    tensors = shapes(keys) | {"cls.weight": (1, 16), "cls.bias": (1,)}
    with pytest.raises(UnsupportedError, match=r"cls\.weight without cls\.output\.weight"):
        Model.load(write(tmp_path / "m.gguf", keys, tensors))


@pytest.mark.parametrize("architecture", ["bert", "qwen3"])
def test_ranks(tmp_path, architecture: str) -> None:
    keys = metadata(architecture, pooling_type=4, classifier__output_labels=["yes", "no"])
    tensors = shapes(keys) | {"cls.output.weight": (2, 16)}
    model = Model.load(write(tmp_path / "m.gguf", keys, tensors))
    assert model.config.labels == ("yes", "no")
    context = model.context()
    run = context.encode if architecture == "bert" else context.decode
    scores = run(batch(([3, 4, 5], 0, 0))).pooled[0]
    assert scores.shape == (2,)
    if architecture == "qwen3":
        assert scores.sum() == pytest.approx(1)
