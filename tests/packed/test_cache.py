"""Models kept packed in a directory: made once, found again, made anew when the model changes."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from motet.cli.demo import shipped_model
from motet.errors import ModelFileError, OptionError
from motet.model import Model
from motet.packed import PackedFile
from motet.packing import pack
from tests.models import tiny
from tests.packed.test_round_trip import same


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny.write(tmp_path / "m.gguf", tiny.metadata("llama", embedding_length=32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_made_once_and_found_again(model: Path, folder: Path) -> None:
    plain = Model.load(model, 1)
    first = Model.load(model, 1, packed_cache=folder)
    (entry,) = entries(folder)
    before = entry.stat()
    again = Model.load(model, 1, packed_cache=folder)
    for each in (first, again):
        assert isinstance(each.file, PackedFile) and each.name == "m.gguf"
        same(plain, each)
    after = entry.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_types_have_entries_of_their_own(model: Path, folder: Path) -> None:
    same(Model.load(model, 1, type="q8_0"), Model.load(model, 1, type="q8_0", packed_cache=folder))
    same(Model.load(model, 1), Model.load(model, 1, packed_cache=folder))
    assert len(entries(folder)) == 2


def test_a_changed_model_is_packed_again(model: Path, folder: Path) -> None:
    Model.load(model, 1, packed_cache=folder)
    tiny.write(model, tiny.metadata("llama", embedding_length=64))
    same(Model.load(model, 1), Model.load(model, 1, packed_cache=folder))
    assert len(entries(folder)) == 2


def test_a_damaged_entry_is_made_anew(
    model: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Model.load(model, 1, packed_cache=folder)
    (entry,) = entries(folder)
    sound = entry.read_bytes()
    for data in (sound[:200], sound[:100] + bytes([sound[100] ^ 1]) + sound[101:]):
        entry.write_bytes(data)
        with caplog.at_level(logging.WARNING, "motet"):
            same(Model.load(model, 1), Model.load(model, 1, packed_cache=folder))
        assert "is removed" in caplog.text
        assert not entries(folder)
        Model.load(model, 1, packed_cache=folder)
        assert entry.read_bytes() == sound


def test_the_least_recently_used_goes(tmp_path: Path, folder: Path) -> None:
    models = [
        tiny.write(tmp_path / f"{i}.gguf", tiny.metadata("llama", embedding_length=32))
        for i in range(3)
    ]
    Model.load(models[0], 1, packed_cache=folder)
    (first,) = entries(folder)
    most = int(2.5 * first.stat().st_size)
    Model.load(models[1], 1, packed_cache=folder, packed_cache_bytes=most)
    (second,) = set(entries(folder)) - {first}
    os.utime(second, ns=(1, second.stat().st_mtime_ns))
    Model.load(models[0], 1, packed_cache=folder, packed_cache_bytes=most)
    (folder / "mine.txt").write_text("stays")
    Model.load(models[2], 1, packed_cache=folder, packed_cache_bytes=most)
    left = entries(folder)
    assert first in left and second not in left and len(left) == 3


def test_what_can_t_be_kept_is_loaded_as_it_is(
    model: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = Model.load(model, 1)
    small = Model.load(model, 1, packed_cache=folder, packed_cache_bytes=1000)
    assert "more than the packed cache's 1000" in caplog.text and not entries(folder)
    (folder / "file").write_text("")
    nowhere = Model.load(model, 1, packed_cache=folder / "file" / "cache")
    assert "is not kept in the packed cache" in caplog.text
    for each in (small, nowhere):
        assert not isinstance(each.file, PackedFile)
        same(plain, each)


def test_a_link_in_an_entrys_place_is_not_written_through(model: Path, folder: Path) -> None:
    Model.load(model, 1, packed_cache=folder)
    (entry,) = entries(folder)
    for target in (folder.parent / "elsewhere", entry):
        entry.unlink()
        entry.symlink_to(target)
        assert isinstance(Model.load(model, 1, packed_cache=folder).file, PackedFile)
        assert entry.is_file() and not entry.is_symlink()
        assert not (folder.parent / "elsewhere").exists()


def test_a_name_that_can_t_be_fails_no_load(model: Path, folder: Path) -> None:
    for name in ("a\0b", "\ud800"):
        found = Model.load(model, 1, packed_cache=folder / name)
        assert not isinstance(found.file, PackedFile)
        with pytest.raises(OptionError, match="cannot be written"):
            pack(model, folder / name)


def test_errors_are_those_of_the_model(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no such file"):
        Model.load(tmp_path / "no.gguf", packed_cache=folder)
    with pytest.raises(OptionError, match="type"):
        Model.load(shipped_model(), type="q99", packed_cache=folder)
    with pytest.raises(OptionError, match="packed_cache_bytes is -1"):
        Model.load(shipped_model(), packed_cache=folder, packed_cache_bytes=-1)
    with pytest.raises(OptionError, match="packed_cache is 3"):
        Model.load(shipped_model(), packed_cache=3)  # pyright: ignore[reportArgumentType]


def test_processes_share_a_cache(model: Path, folder: Path) -> None:
    """Three at once: one packs, all have the same bits."""
    code = (
        "import sys, motet, numpy as np\n"
        "model = motet.Model.load(sys.argv[1], 1, packed_cache=sys.argv[2])\n"
        "batch = motet.Batch(); batch.extend([1, 2, 3], 0, logits='all')\n"
        "print(type(model.file).__name__, model.context().decode(batch).logits.tobytes().hex())\n"
    )
    command = [sys.executable, "-c", code, str(model), str(folder)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate()[0].split() for process in running]
    assert all(name == "PackedFile" for name, _ in said) and len({bits for _, bits in said}) == 1
    assert np.isfinite(np.frombuffer(bytes.fromhex(said[0][1]), np.float32)).all()
    assert len(entries(folder)) == 1


def test_a_size_without_a_cache_is_refused(model: Path) -> None:
    with pytest.raises(OptionError, match="packed_cache_bytes is 5, and there is no packed_cache"):
        Model.load(model, 1, packed_cache_bytes=5)
