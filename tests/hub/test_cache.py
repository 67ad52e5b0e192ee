"""What is in the cache, and what is removed of it."""

from pathlib import Path

import pytest

from motet.errors import HubError
from motet.hub import local_path
from motet.hub.address import parse_address
from motet.hub.cache import Removal, cached_models, removal
from motet.hub.library import Hub
from tests.hub.server import Repo, SmallHub

BIG = bytes(range(256)) * 64
OTHER = BIG[::-1]


@pytest.fixture
def full(hub: SmallHub) -> Hub:
    """A cache with two quantisations of one revision, one of them in another too; a split file; a
    directory; and what Motet does not open."""
    from huggingface_hub import hf_hub_download

    hub.repos["org/gguf"] = Repo(
        {
            "main": {"a-Q4_0.gguf": BIG, "a-Q8_0.gguf": OTHER, "a.bin": b"x"},
            "v1": {"a-Q4_0.gguf": BIG, "a-Q2_K.gguf": OTHER + b"x"},
        }
    )
    parts = {f"b-Q4_K_M-0000{k}-of-00002.gguf": BIG[k:] for k in (1, 2)}
    hub.repos["org/split"] = Repo({"main": dict(parts)})
    hub.repos["org/st"] = Repo({"main": {"config.json": b"{}", "model.safetensors": BIG}})
    for address in ("hf://org/gguf:Q4_0", "hf://org/gguf:Q8_0", "hf://org/gguf:Q4_0@v1"):
        local_path(address)
    local_path("hf://org/split")
    local_path("hf://org/st")
    found = Hub.of_environment()
    hf_hub_download("org/gguf", "a.bin", cache_dir=found.cache)
    return found


def listed(hub: Hub) -> dict[str, int]:
    return {str(model.address): model.nbytes for model in cached_models(hub)}


ALL = {
    "hf://org/gguf:Q4_0": len(BIG),
    "hf://org/gguf:Q8_0": len(BIG),
    "hf://org/gguf@v1:Q4_0": len(BIG),
    "hf://org/split:Q4_K_M": 2 * len(BIG) - 3,
    "hf://org/st": len(BIG) + 2,
}


def test_list(full: Hub) -> None:
    assert listed(full) == ALL
    for model in cached_models(full):
        assert model.path == local_path(str(model.address), offline=True)
        assert model.last_used == pytest.approx(Path(model.path).stat().st_atime, abs=1e6)
        assert model.refs == ("v1",) if "v1" in str(model.address) else ("main",)
        assert Path(model.path).as_posix().count(model.commit) == 1


def test_no_cache(hub: SmallHub) -> None:
    assert cached_models(Hub.of_environment()) == []
    with pytest.raises(HubError, match=r"hf://org/none is not in the cache .motet list shows"):
        removal(Hub.of_environment(), parse_address("hf://org/none"))


def test_parts_that_are_missing_are_not_listed(full: Hub) -> None:
    path = local_path("hf://org/split", offline=True)
    Path(path.replace("00001-of", "00002-of")).unlink()
    assert "hf://org/split:Q4_K_M" not in listed(full)


def removed(hub: Hub, address: str) -> Removal:
    """What goes, once it has gone; what is freed is what the cache is smaller by."""
    going = removal(hub, parse_address(address))
    before = size(hub)
    going.execute()
    assert before - size(hub) == going.nbytes
    return going


def size(hub: Hub) -> int:
    files = [path for path in hub.cache.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_size for path in files if "blobs" in path.parts)


def test_a_quantisation_is_removed_and_others_stay(full: Hub) -> None:
    assert removed(full, "hf://org/gguf:q8_0").files == ("a-Q8_0.gguf",)
    assert listed(full) == {name: n for name, n in ALL.items() if "Q8_0" not in name}
    assert Path(local_path("hf://org/gguf:Q4_0", offline=True)).read_bytes() == BIG
    with pytest.raises(HubError, match=r"Q8_0 is not in the cache .it has hf://org/gguf:Q4_0, hf:"):
        removal(full, parse_address("hf://org/gguf:Q8_0"))


def test_what_another_revision_has_stays(full: Hub) -> None:
    assert removed(full, "hf://org/gguf@v1").nbytes == 0
    assert removed(full, "hf://org/gguf@main:Q4_0").nbytes == len(BIG)
    assert "hf://org/gguf:Q8_0" in listed(full)


def test_one_revision_of_a_file_is_removed(full: Hub) -> None:
    assert removed(full, "hf://org/gguf@main:Q4_0").nbytes == 0
    assert Path(local_path("hf://org/gguf@v1", offline=True)).read_bytes() == BIG


def test_without_a_revision_it_goes_from_all(full: Hub) -> None:
    assert removed(full, "hf://org/gguf:Q4_0").nbytes == len(BIG)
    assert set(listed(full)) == {"hf://org/gguf:Q8_0", "hf://org/split:Q4_K_M", "hf://org/st"}


def test_a_repository_is_removed(full: Hub) -> None:
    blobs = full.folder("org/gguf") / "blobs"
    (blobs / f"{'0' * 64}.incomplete").write_bytes(b"begun")
    going = removed(full, "hf://org/gguf")
    assert going.files == ("a-Q4_0.gguf", "a-Q8_0.gguf", "a.bin")
    assert not full.folder("org/gguf").exists()
    removed(full, "hf://org/st:safetensors")
    removed(full, "hf://org/split:Q4_K_M")
    assert cached_models(full) == []
    assert size(full) == 0


def test_what_was_only_begun_is_removed(full: Hub, hub: SmallHub) -> None:
    hub.repos["org/begun"] = Repo({"main": {"a.gguf": BIG}}, broken={"a.gguf": [5000, *[0] * 9]})
    with pytest.raises(HubError, match="is there up to byte 5000"):
        local_path("hf://org/begun")
    going = removed(full, "hf://org/begun")
    assert (going.files, going.nbytes) == ((), 5000)
    assert listed(full) == ALL


def test_an_unknown_revision(full: Hub) -> None:
    with pytest.raises(HubError, match=r"does not have this revision .it has main, v1"):
        removal(full, parse_address("hf://org/gguf@v2"))
