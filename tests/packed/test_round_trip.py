"""What a packed file gives is bit for bit what the model gives that it was packed of."""

import gc
import io
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import motet
from motet.cli.demo import shipped_model
from motet.errors import MotetError, OptionError, UnsupportedError
from motet.kernels import CPU
from motet.kernels.reference import Reference
from motet.model import Model
from motet.packed import PackedFile
from motet.packing.writing import write_packed
from motet.runnable import Decodes
from motet.weights.gguf import GGUFFile
from tests.conversion.test_lora import adapter, base
from tests.models import readers, tiny

GOLDENS = Path(__file__).parents[1] / "parity" / "goldens"
MODELS = sorted(GOLDENS.rglob("*.gguf"))
MIXTURES = ["f16", "bf16", "q4_0", "q5_1", "q8_0", "q3_k_m", "q4_k_m", "q5_k_m", "q6_k"]


def results(model: Model) -> list[np.ndarray]:
    """Logits or states of a text in two pieces, beside another."""
    context = model.context(max_sequences=2, max_tokens=128)
    found = []
    random = np.random.default_rng(1)
    if not isinstance(model.family, Decodes):
        batch = motet.Batch()
        batch.extend(random.integers(model.n_vocab, size=9).tolist(), 0)
        return list(context.encode(batch).pooled.values())
    for start in (0, 9):
        batch = motet.Batch()
        for seq in range(2):
            tokens = random.integers(model.n_vocab, size=9).tolist()
            batch.extend(tokens, start, seqs=seq, logits="all")
        found.append(context.decode(batch).logits)
    return found


def same(one: Model, other: Model) -> None:
    assert one.fingerprint == other.fingerprint
    assert one.caches == other.caches and one.config == other.config
    for name in ("nbytes", "bytes_per_token", "parameters", "default_kv_type", "n_vocab"):
        assert getattr(one, name) == getattr(other, name), name
    assert dict(one.file.metadata) == dict(other.file.metadata)
    for ours, theirs in zip(results(one), results(other), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_goldens(path: Path, tmp_path: Path) -> None:
    packed = motet.pack(path, tmp_path / "m.packed", threads=1)
    same(Model.load(path, 1), Model.load(packed, 1))


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_families(architecture: str, tmp_path: Path) -> None:
    """Every tensor's place is found again, and nothing is asked for that was not packed."""
    path = tiny.write(tmp_path / "m.gguf", tiny.metadata(architecture))
    packed = motet.pack(path, tmp_path / "m.packed", threads=1)
    one, other = Model.load(path, 1), Model.load(packed, 1)
    assert one.fingerprint == other.fingerprint and one.nbytes == other.nbytes
    if one.config.decoder_start is None:
        same(one, other)


@pytest.mark.parametrize("type", MIXTURES)
def test_types(type: str, tmp_path: Path) -> None:
    keys = tiny.metadata("llama", embedding_length=256, feed_forward_length=256, block_count=1)
    path = tiny.write(tmp_path / "m.gguf", keys)
    packed = motet.pack(path, tmp_path / "m.packed", type=type, threads=2)
    same(Model.load(path, 1, type=type), Model.load(packed, 1))
    with pytest.raises(OptionError, match=r"type is 'q4_0', but the weights of .* are packed"):
        Model.load(packed, 1, type="q4_0")


def test_types_that_are_widened(tmp_path: Path) -> None:
    keys = tiny.metadata("llama", embedding_length=256, feed_forward_length=256, block_count=1)
    shapes, rare = tiny.shapes(keys), gguf.GGMLQuantizationType.TQ2_0
    types = dict.fromkeys((name for name, shape in shapes.items() if len(shape) > 1), rare)
    path = tiny.write(tmp_path / "m.gguf", keys, types=types)
    packed = motet.pack(path, tmp_path / "m.packed", threads=2)
    same(Model.load(path, 1), Model.load(packed, 1))


def test_instruction_sets_share_a_file(tmp_path: Path) -> None:
    packed = motet.pack(shipped_model(), tmp_path / "m.packed")
    from motet.kernels import _cpu

    for isa in _cpu.supported():
        kernels = CPU(1, isa)
        with PackedFile.open(str(packed)) as file, GGUFFile.open(str(shipped_model())) as source:
            same(Model(source, kernels), Model(file, kernels))


def test_the_reference_has_a_layout_of_its_own(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.gguf", tiny.metadata("llama"))
    with GGUFFile.open(path) as source:
        write_packed(source, tmp_path / "m.packed", Reference())
        with PackedFile.open(str(tmp_path / "m.packed")) as file:
            same(Model(source, Reference()), Model(file, Reference()))
            with pytest.raises(UnsupportedError, match="is stale"):
                Model(file, CPU(1))


def test_state_files_go_both_ways(tmp_path: Path) -> None:
    packed = motet.pack(shipped_model(), tmp_path / "m.packed")
    models = [Model.load(shipped_model(), 1), Model.load(packed, 1)]
    for one, other in (models, models[::-1]):
        context, saved = one.context(), io.BytesIO()
        batch = motet.Batch()
        batch.extend([1, 5, 9], 0)
        context.decode(batch)
        context.save(saved)
        saved.seek(0)
        restored = other.context()
        restored.restore(saved)
        goes_on = motet.Batch()
        goes_on.extend([4], 3, logits="last")
        assert np.array_equal(context.decode(goes_on).logits, restored.decode(goes_on).logits)


def test_tokenizer_and_templates_come_along(tmp_path: Path) -> None:
    path = readers.decoder(tmp_path)
    packed = motet.pack(path, tmp_path / "m.packed", threads=1)
    one, other = Model.load(path, 1).tokenizer, Model.load(packed, 1).tokenizer
    assert one is not None and other is not None
    text = "Once upon a time"
    assert one.encode(text) == other.encode(text) and one.chat_templates == other.chat_templates


def test_a_directory_of_hugging_face_with_an_adapter(tmp_path: Path) -> None:
    model, lora = base(tmp_path / "base"), (adapter(tmp_path / "lora"), 0.5)
    packed = [motet.pack(model, tmp_path / "plain.packed", threads=1)]
    packed.append(motet.pack(model, tmp_path / "m.packed", lora=lora, threads=1))
    same(Model.load(model, 1), Model.load(packed[0], 1))
    same(Model.load(model, 1, lora=lora), Model.load(packed[1], 1))
    with pytest.raises(OptionError, match=r"lora is given, but the weights of .* are packed"):
        Model.load(packed[1], 1, lora=lora)


def test_weights_are_not_the_process_s_own(tmp_path: Path) -> None:
    """They are mapped, and let go of with the model."""
    packed = motet.pack(shipped_model(), tmp_path / "m.packed")
    model = Model.load(packed, 1)
    assert any(str(packed) in line for line in Path("/proc/self/maps").read_text().splitlines())
    results(model)
    del model
    gc.collect()
    assert str(packed) not in Path("/proc/self/maps").read_text()


def test_a_removed_file_goes_on(tmp_path: Path) -> None:
    packed = motet.pack(shipped_model(), tmp_path / "m.packed")
    model, expected = Model.load(packed, 1), results(Model.load(shipped_model(), 1))
    packed.unlink()
    assert all(map(np.array_equal, results(model), expected))


def test_what_wants_the_tensors_is_refused(tmp_path: Path) -> None:
    packed = motet.pack(shipped_model(), tmp_path / "m.packed")
    calls: list[Any] = [
        lambda: motet.quantize(packed, tmp_path / "out.gguf", "q4_0", dry_run=True),
        lambda: motet.convert(packed, tmp_path / "out.gguf"),
    ]
    for call in calls:
        with pytest.raises(MotetError, match="is packed, and tensors are not there any more"):
            call()
    with pytest.raises(OptionError, match="is packed already"):
        motet.pack(packed, tmp_path / "again.packed")


def test_nothing_but_packed_files_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "m.packed"
    out.write_text("mine")
    with pytest.raises(OptionError, match="is not a packed file, and is not overwritten"):
        motet.pack(shipped_model(), out, overwrite=True)
    out.unlink()
    motet.pack(shipped_model(), out)
    before = out.read_bytes()
    with pytest.raises(OptionError, match="is there already"):
        motet.pack(shipped_model(), out)
    motet.pack(shipped_model(), out, overwrite=True, threads=2)
    assert out.read_bytes() == before
    with pytest.raises(OptionError, match="there is no directory"):
        motet.pack(shipped_model(), tmp_path / "no" / "m.packed")
