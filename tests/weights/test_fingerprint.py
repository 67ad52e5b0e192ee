from pathlib import Path

import gguf
import numpy as np
import pytest
from xxhash import xxh3_128_hexdigest

from motet.weights.fingerprint import Fingerprint, fingerprint_of
from motet.weights.gguf import GGUFFile

KEYS = {
    "llama.context_length": 64,
    "llama.rope.freq_base": 10000,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["a", "b", "né"],
}
TENSORS = {f"w{n}": np.arange(64, dtype=np.float32).reshape(2, 32) + n for n in range(5)}


def model(path: Path, keys=None, tensors=None, split: int = 0, architecture="llama") -> Path:
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=split)
    for key, value in (KEYS if keys is None else keys).items():
        add = {int: writer.add_uint32, str: writer.add_string, list: writer.add_array}
        add[type(value)](key, value)
    for name, values in (TENSORS if tensors is None else tensors).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.with_name(f"{path.stem}-00001-of-00003.gguf") if split else path


def of(path: Path) -> Fingerprint:
    with GGUFFile.open(path) as file:
        digests = {name: xxh3_128_hexdigest(file.raw(name).data) for name in file.tensors}
    return fingerprint_of(file, digests)


@pytest.fixture
def plain(tmp_path: Path) -> Fingerprint:
    return of(model(tmp_path / "plain.gguf"))


def differing(a: Fingerprint, b: Fingerprint) -> set[str]:
    return {part for part in ("weights", "settings", "tokenizer") if vars(a)[part] != vars(b)[part]}


def test_it_is_of_the_content(tmp_path: Path, plain: Fingerprint) -> None:
    assert of(model(tmp_path / "again.gguf")) == plain
    turned = dict(reversed(TENSORS.items()))
    named = {**KEYS, "general.name": "another name", "tokenizer.chat_template": "{{ mended }}"}
    assert of(model(tmp_path / "turned.gguf", named, turned)) == plain
    assert of(model(tmp_path / "split.gguf", split=2)) == plain
    assert {len(digest) for digest in vars(plain).values()} == {32}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("where", [(0, 0), (1, 31)])
def test_any_weight_counts(tmp_path: Path, plain: Fingerprint, name: str, where: tuple) -> None:
    values = TENSORS[name].copy()
    values[where] = np.nextafter(values[where], np.float32(np.inf))
    other = of(model(tmp_path / "other.gguf", tensors=TENSORS | {name: values}))
    assert differing(plain, other) == {"weights"}


@pytest.mark.parametrize(
    "tensors",
    [
        {name: TENSORS[f"w{4 - n}"] for n, name in enumerate(TENSORS)},  # names given to others
        {name: values.reshape(1, 64) for name, values in TENSORS.items()},
        {name: values.view(np.int32) for name, values in TENSORS.items()},
        {name: values for name, values in TENSORS.items() if name != "w4"},
    ],
)
def test_names_shapes_and_types_count(tmp_path: Path, plain: Fingerprint, tensors: dict) -> None:
    assert differing(plain, of(model(tmp_path / "o.gguf", tensors=tensors))) == {"weights"}


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"llama.rope.freq_base": 500000}, "settings"),
        ({"llama.rope.scaling.factor": 2}, "settings"),
        ({"tokenizer.ggml.tokens": ["a", "c", "né"]}, "tokenizer"),
        ({"tokenizer.ggml.bos_token_id": 1}, "tokenizer"),
    ],
)
def test_keys_count(tmp_path: Path, plain: Fingerprint, changes: dict, part: str) -> None:
    assert differing(plain, of(model(tmp_path / "other.gguf", KEYS | changes))) == {part}


def test_the_architecture_counts(tmp_path: Path, plain: Fingerprint) -> None:
    assert differing(plain, of(model(tmp_path / "o.gguf", architecture="mamba"))) == {"settings"}
