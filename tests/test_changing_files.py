"""A model's file is cut short, overwritten or removed while it is loaded, or afterwards."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from motet.batch import Batch
from motet.errors import ModelFileError, StateFileError
from motet.model import Model
from motet.weights.gguf import GGUFFile
from tests.models.tiny import metadata, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Written a while ago."""
    path = write(tmp_path / "m.gguf", metadata("llama"))
    os.utime(path, ns=(0, 0))
    return path


def overwrite(path: Path) -> None:
    """By a file of the same size with other weights."""
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] + bytes(x ^ 1 for x in data[half:]))


def load(path: Path, then: Callable[[], object]) -> Model:
    """Do ``then`` once the first tensor has been read."""
    calls: list[int] = []

    def progress(done: int, total: int) -> None:
        if not calls:
            then()
        calls.append(done)

    return Model.load(path, 1, progress=progress)


@pytest.mark.parametrize("size", [0, 100, 4096, -1])
def test_cut_short_while_it_is_loaded(path: Path, size: int) -> None:
    size %= path.stat().st_size
    with pytest.raises(
        ModelFileError, match=rf"m\.gguf: was cut short .* {size} are left"
    ) as caught:
        load(path, lambda: os.truncate(path, size))
    assert str(caught.value).count("m.gguf") == 1


def test_cut_short_within_the_header(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        status = opened(descriptor)
        os.truncate(path, 20)
        return status

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(ModelFileError, match=r"was cut short .* 20 are left"):
        GGUFFile.open(path)


def test_a_disk_that_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def preadv(*args: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", preadv)
    with pytest.raises(ModelFileError, match=r"m\.gguf: cannot be read: Input/output error \(byte"):
        Model.load(path, 1)


def test_files_are_let_go(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    model = Model.load(path, 1)
    for _ in range(20):
        GGUFFile.open(path)  # and forgotten
        with pytest.raises(ModelFileError):
            load(path, lambda: overwrite(path))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert model.file.metadata["llama.block_count"] == 2


def test_overwritten_while_it_is_loaded(path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"m\.gguf: was changed while it was read \(wait"):
        load(path, lambda: overwrite(path))


def test_replaced_or_removed_while_it_is_loaded(path: Path) -> None:
    """As downloads and package managers do it: the old file lives on."""
    expected = Model.load(path, 1).fingerprint
    assert load(path, path.unlink).fingerprint == expected


@pytest.mark.parametrize("change", [overwrite, lambda path: os.truncate(path, 0), Path.unlink])
def test_changed_after_it_was_loaded(path: Path, change: Callable[[Path], object]) -> None:
    """A state file belongs to the weights that computed it."""
    expected = Model.load(path, 1).fingerprint
    model = Model.load(path, 1)
    change(path)
    assert model.fingerprint == expected
    context = model.context(checkpoint_bytes=0)
    batch = Batch()
    batch.extend([1, 2, 3], 0, seqs=0)
    context.decode(batch)
    context.save(io.BytesIO())


def test_the_overwritten_file_is_another_model(path: Path) -> None:
    state, batch = io.BytesIO(), Batch()
    batch.extend([1, 2, 3], 0, seqs=0)
    context = Model.load(path, 1).context(checkpoint_bytes=0)
    context.decode(batch)
    overwrite(path)
    context.save(state)
    state.seek(0)
    other = Model.load(path, 1).context(checkpoint_bytes=0)
    with pytest.raises(StateFileError, match="weights"):
        other.restore(state)
