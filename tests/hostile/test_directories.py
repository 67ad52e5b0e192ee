"""Whatever a directory holds, opening it works or raises a MotetError: soon, and in little memory.

Nothing outside of it is read, and nothing in it is executed. Any number of broken ones:
python -m tests.hostile.directories --count N.
"""

import json
import os
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import Batch, Model
from motet.errors import ModelFileError, MotetError, NumericalError
from motet.huggingface.files import Directory
from motet.kernels import CPU
from motet.models.registry import declared
from motet.opening import open_model
from tests.hostile.configurations import GOLDEN, golden
from tests.hostile.directories import ATTACKS, SOUND, VALUES, case, mamba2, mixtral
from tests.hostile.harness import run
from tests.huggingface.making import safetensors
from tests.shared import needs_shared

MOST = 64 << 20
"""Bytes that an attack may make Python allocate; 300,000 lists take 20."""
_events: list[tuple[str, str]] = []
_watching = [False]


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching[0] and event in ("open", "pickle.find_class", "subprocess.Popen", "os.system"):
        _events.append((event, os.fsdecode(str(arguments[0]))))


sys.addaudithook(_watch)


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Nothing but the folder and Python's own files is opened, nothing executed."""
    _events.clear()
    _watching[0] = True
    try:
        yield
    finally:
        _watching[0] = False
    own = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2] / "src"), "/proc/", "/sys/")
    for event, what in _events:
        assert event == "open", (event, what)
        inside = Path(os.path.realpath(what)).is_relative_to(os.path.realpath(folder))
        assert inside or what.startswith(own), what


def read(folder: Path, *, weights: bool = True) -> None:
    """All that is done before a model runs: its keys, its tensors, all of their bytes."""
    with open_model(folder) as source:
        declared(source)
        for name in source.tensors if weights else ():
            source.raw(name)


@pytest.mark.parametrize("name", SOUND)
def test_sound_ones_are_read(name: str, tmp_path: Path) -> None:
    with watched(SOUND[name](tmp_path / "m")):
        read(tmp_path / "m")


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_refused(name: str, tmp_path: Path) -> None:
    folder = mixtral(tmp_path / "m")
    ATTACKS[name](folder)
    tracemalloc.start()
    try:
        with watched(folder), pytest.raises(MotetError) as error:
            read(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST
    assert len(str(error.value)) < 1500
    assert str(error.value).isprintable()
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("name", SOUND)
def test_configurations_that_contradict_the_tensors(name: str, tmp_path: Path) -> None:
    """Each key in turn holds each of the values: it is the same model, or none."""
    folder = SOUND[name](tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    refused = 0
    for key in config:
        for value in VALUES:
            (folder / "config.json").write_text(json.dumps(config | {key: value}))
            try:
                read(folder, weights=False)
            except MotetError as error:
                refused += 1
                assert len(str(error)) < 1500
        (folder / "config.json").write_text(json.dumps({k: config[k] for k in config if k != key}))
        try:
            read(folder)
        except MotetError:
            refused += 1
    assert refused > len(config) * len(VALUES) / 2


@needs_shared
@pytest.mark.parametrize("name", GOLDEN)
def test_configurations_of_every_family(name: str, tmp_path: Path) -> None:
    """Each key in turn is gone, or holds one of the values: it is read or refused. (All of the
    values: python -m tests.hostile.configurations.)"""
    folder, random = tmp_path / "m", np.random.default_rng(len(name))
    config, refused = golden(name, folder), 0
    for key in config:
        changed = {**config, key: VALUES[random.integers(len(VALUES))]}
        if random.random() < 0.3:
            del changed[key]
        (folder / "config.json").write_text(json.dumps(changed))
        try:
            read(folder, weights=False)
        except MotetError as error:
            refused += 1
            assert len(str(error)) < 1500
    assert refused > len(config) / 4


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    folder = mamba2(tmp_path / "m")
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    (folder / "model.safetensors").write_bytes(
        data[: 8 + length] + np.full(len(data[8 + length :]) // 4, np.nan, np.float32).tobytes()
    )
    with open_model(folder) as source:
        source.metadata["tokenizer.ggml.model"] = "no_vocab"  # pyright: ignore[reportIndexIssue]
        model = Model(source, CPU())
    batch = Batch()
    batch.extend([1, 2, 3], 0, logits="last")
    with pytest.raises(NumericalError):
        model.context().decode(batch)


def test_a_hub_cache_has_links_to_its_blobs(tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    snapshot = cache / "snapshots" / "0123"
    _link_files(mixtral(tmp_path / "m"), cache / "blobs", snapshot)
    read(snapshot)
    with open_model(snapshot) as source:
        assert source.metadata["general.name"] == "name"


@pytest.mark.parametrize("name", ["config.json", "model-00001-of-00002.safetensors"])
def test_a_hub_cache_has_no_links_to_others(name: str, tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    snapshot = cache / "snapshots" / "0123"
    _link_files(mixtral(tmp_path / "m"), cache / "blobs", snapshot)
    other = tmp_path / "models--org--secret" / "blobs"
    other.mkdir(parents=True)
    (snapshot / name).resolve().rename(other / name)
    (snapshot / name).unlink()
    (snapshot / name).symlink_to(other / name)
    with watched(cache), pytest.raises(ModelFileError, match="leads out of the directory"):
        read(snapshot)
    # Nor through a link in place of the blobs.
    (cache / "blobs").rename(cache / "before")
    (cache / "blobs").symlink_to(other)
    (snapshot / name).unlink()
    (snapshot / name).symlink_to(cache / "blobs" / name)
    with watched(cache), pytest.raises(ModelFileError, match="leads out of the directory"):
        read(snapshot)


def test_links_to_blobs_are_followed_in_a_hub_cache_alone(tmp_path: Path) -> None:
    _link_files(mixtral(tmp_path / "m"), tmp_path / "x" / "blobs", tmp_path / "x/snapshots/0")
    with pytest.raises(ModelFileError, match="leads out of the directory"):
        read(tmp_path / "x/snapshots/0")


def test_files_that_change_meanwhile(tmp_path: Path) -> None:
    folder = mamba2(tmp_path / "m")
    with open_model(folder) as source:
        source.require_unchanged()
        os.truncate(folder / "model.safetensors", 2000)
        with pytest.raises(ModelFileError, match="cut short"):
            source.raw("blk.0.ssm_in.weight")
        with pytest.raises(ModelFileError, match="changed"):
            source.require_unchanged()
    with pytest.raises(ModelFileError, match="closed"):
        source.raw("token_embd.weight")


def test_many_tensors_of_no_model(tmp_path: Path) -> None:
    folder = mamba2(tmp_path / "m")
    tensors = {f"t{i}": np.zeros((), np.float32) for i in range(20_000)}
    (folder / "model.safetensors").write_bytes(safetensors(tensors))
    with pytest.raises(MotetError, match="19996 more"):
        read(folder)


def _link_files(folder: Path, blobs: Path, snapshot: Path) -> None:
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(folder.iterdir()):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))


def test_broken_directories_are_refused_or_read() -> None:
    report = run(case, range(300))
    assert not report.failures, str(report)
    assert report.answered and report.refused


def test_a_link_that_changes_while_it_is_followed(tmp_path, monkeypatch):
    """What was looked at is not what is opened: where that lies counts."""
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "model").mkdir()
    files = Directory(str(tmp_path / "model"))
    monkeypatch.setattr(Directory, "located", lambda self, name: str(tmp_path / "secret.json"))
    for read in (files.json, files.opened):
        with pytest.raises(ModelFileError, match="leads out of the directory"):
            read("config.json")
