"""Model.load: what a loaded model offers, and how a load fails."""

import os
import resource
import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest

import motet
from motet.errors import (
    CapacityError,
    ModelFileError,
    OptionError,
    TokenizerError,
    UnsupportedError,
)
from motet.kernels import CPU
from motet.models.experts import MixtureOfExperts
from motet.models.registry import declared
from motet.models.tensors import TensorLoader, packed_bytes
from motet.spec import SlidingAttention
from motet.weights.gguf import GGUFFile
from tests.models.running import OneSequence
from tests.models.tiny import ARCHITECTURES, VOCAB, load, metadata, shapes, write
from tests.weights import gguf_bytes
from tests.weights.gguf_bytes import STRING, Pairs, Tensor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "m.gguf", metadata("gemma2"))


def test_a_loaded_model(path: Path) -> None:
    model = motet.Model.load(path, threads=1)
    assert model.config.architecture == "gemma2"
    assert model.n_vocab == model.config.n_vocab == VOCAB
    assert model.tokenizer is None
    assert model.kernels.threads == 1
    assert model.caches[0] == (SlidingAttention(2, 4, 4, 8),)
    assert model.default_kv_type == "f32"
    assert OneSequence(model.family, 64).feed(np.arange(5)).shape == (5, VOCAB)


def test_bytes_that_a_token_reads(tmp_path: Path) -> None:
    keys = metadata("llama")
    tied = motet.Model.load(write(tmp_path / "tied.gguf", keys))
    head = {"output.weight": (VOCAB, 16)}
    untied = motet.Model.load(write(tmp_path / "untied.gguf", keys, shapes(keys) | head))
    assert tied.bytes_per_token == untied.bytes_per_token
    assert tied.bytes_per_token >= sum(i.nbytes for i in tied.file.tensors.values())


def test_of_experts_a_token_reads_those_that_it_goes_to(tmp_path: Path) -> None:
    few = load(tmp_path, "jamba", expert_used_count=1)
    all_four = load(tmp_path, "jamba", expert_used_count=4)
    experts = [
        matrix.nbytes
        for block in all_four.family.blocks  # type: ignore[attr-defined]
        if isinstance(block.feed_forward, MixtureOfExperts)
        for each in (block.feed_forward.gate, block.feed_forward.up, block.feed_forward.down)
        for matrix in each or ()
    ]
    assert len(experts) == 2 * 3 * 4
    assert all_four.bytes_per_token - few.bytes_per_token == sum(experts) * 3 // 4


def test_the_config_is_frozen(path: Path) -> None:
    with pytest.raises(AttributeError):
        motet.Model.load(str(path)).config.n_layers = 3  # type: ignore[misc]


def test_other_types_than_f32_keep_f16_keys(tmp_path: Path) -> None:
    keys = metadata("llama")
    path = write(tmp_path / "m.gguf", keys, types={"blk.1.ffn_up.weight": np.float16})
    assert motet.Model.load(path).default_kv_type == "f16"


def test_progress_counts_every_byte(path: Path) -> None:
    calls: list[tuple[int, int]] = []
    model = motet.Model.load(path, progress=lambda done, total: calls.append((done, total)))
    total = sum(info.nbytes for info in model.file.tensors.values())
    assert {t for _, t in calls} == {total}
    done = [d for d, _ in calls]
    assert done == sorted(done)
    assert done[-1] == total


def test_an_interrupt_leaves_at_once(path: Path) -> None:
    calls = []

    def interrupt(done: int, total: int) -> None:
        calls.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        motet.Model.load(path, progress=interrupt)
    assert len(calls) == 1


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.gguf", metadata("llama"), {"token_embd.weight": (VOCAB, 17)})
    with pytest.raises(ModelFileError, match=r"wide\.gguf: the file lacks"):
        motet.Model.load(path)
    path = write(tmp_path / "odd.gguf", metadata("llama") | {"llama.logit_scale": 2.0}, {})
    with pytest.raises(ModelFileError, match=r"odd\.gguf: .*token_embd\.weight"):
        motet.Model.load(path)


def test_unknown_architecture(tmp_path: Path) -> None:
    keys = metadata("llama") | {"general.architecture": "gpt5"}
    with pytest.raises(UnsupportedError, match=r"'gpt5'.*gemma3"):
        motet.Model.load(write(tmp_path / "m.gguf", keys, {"token_embd.weight": (4, 4)}))


@pytest.mark.parametrize(
    ("keys", "tensors", "what"),
    [
        ({"general.type": "adapter"}, ["blk.0.attn_q.weight.lora_a"], "a LoRA adapter"),
        ({"adapter.type": "lora"}, [], "a LoRA adapter"),
        ({}, ["blk.0.attn_q.weight.lora_a", "blk.0.attn_q.weight.lora_b"], "a LoRA adapter"),
        ({"general.architecture": "controlvector"}, ["direction.1"], "a control vector"),
        ({"general.architecture": "clip"}, ["v.patch_embd.weight"], "a projector of images"),
        ({"general.type": "mmproj"}, [], "a projector of images"),
        ({"general.type": "dataset"}, [], "of general.type 'dataset'"),
    ],
)
def test_other_files_are_told_by_what_they_are(
    tmp_path: Path, keys: dict, tensors: list[str], what: str
) -> None:
    keys = {"general.architecture": "llama", **keys}
    path = write(tmp_path / "m.gguf", keys, dict.fromkeys(tensors, (4, 4)))
    with pytest.raises(UnsupportedError) as caught:
        motet.Model.load(path)
    assert str(caught.value).startswith(f"{path}: the file is {what}")
    assert ", not a model (" in str(caught.value)


@pytest.mark.parametrize("keys", [[("general.type", STRING, "imatrix")], []])
def test_an_importance_matrix(tmp_path: Path, keys: Pairs) -> None:
    """It has no architecture."""
    tensors = [Tensor("blk.0.ffn_up.weight.in_sum2", (8,), 0, 0, bytes(32))]
    path = tmp_path / "imatrix.gguf"
    path.write_bytes(gguf_bytes.write(keys, tensors).data)
    with pytest.raises(UnsupportedError, match="the file is an importance matrix, used to quant"):
        motet.Model.load(path)


def test_a_damaged_vocabulary_is_of_a_file(tmp_path: Path) -> None:
    keys = metadata("llama")
    vocabulary = {"model": "llama", "tokens": [f"t{i}" for i in range(VOCAB)], "eos_token_id": 4000}
    keys |= {f"tokenizer.ggml.{name}": value for name, value in vocabulary.items()}
    path = write(tmp_path / "m.gguf", keys, shapes(metadata("llama")))
    with pytest.raises(TokenizerError) as caught:
        motet.Model.load(path)
    assert str(caught.value).startswith(f"{path}: metadata key")


def test_a_vocabulary_of_another_size_is_not_even_read(tmp_path: Path) -> None:
    keys = metadata("llama") | {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a"]}
    path = write(tmp_path / "m.gguf", keys, shapes(metadata("llama")))
    with pytest.raises(ModelFileError, match=r"tokens has 1 tokens, but token_embd\.weight has 40"):
        motet.Model.load(path)


def test_a_file_without_architecture_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes.write([], []).data)
    with pytest.raises(ModelFileError) as caught:
        motet.Model.load(path)
    assert str(caught.value).count(str(path)) == 1


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr("motet.model.available_memory", lambda: 3_000_000)
    motet.Model.load(path, progress=lambda done, total: calls.append(done))
    assert calls
    calls.clear()
    monkeypatch.setattr("motet.model.packed_bytes", lambda file, kernels: 3_400_000)
    with pytest.raises(CapacityError) as caught:
        motet.Model.load(path, progress=lambda done, total: calls.append(done))
    expected = f"{path}: the model's weights take 3 MB of memory, and 3 MB are available"
    assert str(caught.value).startswith(expected)
    assert not calls


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_weights_take_is_foretold(tmp_path: Path, architecture: str) -> None:
    path = write(tmp_path / "m.gguf", metadata(architecture, embedding_length=192))
    with GGUFFile.open(path) as file:
        declaration, kernels = declared(file), CPU(1)
        loader = TensorLoader(file, kernels)
        type(declaration)(declaration.config, loader, kernels)
        assert packed_bytes(file, kernels) == pytest.approx(sum(loader.nbytes.values()), rel=0.2)


LOAD = """
import sys
import motet
try:
    motet.Model.load(sys.argv[1], 1)
except motet.CapacityError as error:
    print(error)
"""


def test_memory_under_a_limit(tmp_path: Path) -> None:
    """Of address space, as ``ulimit -v`` sets it. The embedding is a hole in the file."""
    keys, tensors, end = metadata("llama"), [], 0
    for name, shape in reversed(shapes(keys).items()):  # the embedding comes first
        shape = (1 << 26, 16) if name == "token_embd.weight" else shape
        tensors.append(Tensor(name, shape[::-1], 1, end, b""))
        end += -(-2 * prod(shape) // 32) * 32
    kinds = {int: 4, float: 6, str: STRING}
    pairs: Pairs = [(key, kinds[type(value)], value) for key, value in keys.items()]
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf_bytes.write(pairs, tensors).data)
    os.truncate(path, path.stat().st_size + (1 << 31))
    done = subprocess.run(
        [sys.executable, "-c", LOAD, path],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "m.gguf: the model's weights take 2,147 MB of memory, and " in done.stdout


def test_memory_that_runs_out_all_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pack(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(CPU, "pack", pack)
    with pytest.raises(CapacityError, match=r"m\.gguf: the model's weights take 0 MB of memory"):
        motet.Model.load(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nothing\.gguf"):
        motet.Model.load(tmp_path / "nothing.gguf")


def test_threads_must_be_a_count(path: Path) -> None:
    with pytest.raises(OptionError, match="threads is 0"):
        motet.Model.load(path, threads=0)
