"""``local_path`` against a small hub: whole, interrupted, damaged, forbidden, out of reach."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import motet
from motet.errors import CapacityError, HubError, OptionError
from motet.hub import local_path
from tests.hub.server import Repo, SmallHub

DATA = Path(motet.__file__).parent / "data"
BIG = bytes(range(256)) * 4096
FILES = {"a-Q4_K_M.gguf": BIG, "a-Q8_0.gguf": BIG[::-1], "README.md": b"read"}
DIRECTORY = {
    "config.json": b"{}",
    "tokenizer.json": b'{"a": 1}',
    "model.safetensors": BIG,
    "pytorch_model.bin": b"pickle",
    "run.py": b"x",
    "empty.jinja": b"",
}


@pytest.fixture
def repo(hub: SmallHub) -> Repo:
    hub.repos["org/name"] = Repo({"main": dict(FILES), "v1": {"a-Q4_K_M.gguf": BIG[:9999]}})
    return hub.repos["org/name"]


def test_a_model_is_fetched_once_and_loaded(hub: SmallHub) -> None:
    data = (DATA / "motet-tiny.gguf").read_bytes()
    hub.repos["org/tiny-GGUF"] = Repo({"main": {"tiny-F16.gguf": data}})
    model = motet.Model.load("hf://org/tiny-GGUF")
    assert model.name == "tiny-F16.gguf"
    again = motet.Model.load(Path("hf://org/tiny-GGUF:f16"))
    assert again.fingerprint == model.fingerprint
    with motet.LLM("hf://org/tiny-GGUF") as llm:
        assert llm.generate("One", max_tokens=2, temperature=0).text
    assert hub.files_asked() == [("tiny-F16.gguf", None)]


def test_other_paths_pass() -> None:
    thing = object()
    assert local_path(thing) is thing
    assert local_path("model.gguf") == "model.gguf"
    assert local_path(path := Path("hf/x")) is path


def test_wrong_arguments(hub: SmallHub) -> None:
    wrong: list[dict[str, Any]] = [
        {"progress": 3},
        {"revision": 1},
        {"token": 1},
        {"offline": "yes"},
        {"revison": "v1"},
    ]
    for each in wrong:
        with pytest.raises(OptionError):
            local_path("hf://org/name", **each)
    assert not hub.requests


def test_the_cache_is_that_of_the_library(hub: SmallHub, repo: Repo, cache: Path) -> None:
    from huggingface_hub import hf_hub_download, scan_cache_dir

    path = local_path("hf://org/name")
    main = hub.commit("org/name")
    assert path == str(cache / f"models--org--name/snapshots/{main}/a-Q4_K_M.gguf")
    assert Path(path).read_bytes() == BIG
    assert (cache / "models--org--name/refs/main").read_text() == main
    assert Path(path).resolve().name == hashlib.sha256(BIG).hexdigest()
    assert (
        hf_hub_download("org/name", "a-Q4_K_M.gguf", cache_dir=cache, local_files_only=True) == path
    )
    info = scan_cache_dir(cache)
    assert not info.warnings
    assert info.size_on_disk == len(BIG)


def test_what_the_library_fetched_is_used(hub: SmallHub, repo: Repo, cache: Path) -> None:
    from huggingface_hub import hf_hub_download

    repo.revisions["main"]["tiny.gguf"] = b"small"
    theirs = hf_hub_download("org/name", "tiny.gguf", cache_dir=cache, endpoint=hub.endpoint)
    hub.requests.clear()
    ours = local_path("hf://org/name:tiny.gguf")
    assert Path(ours) == Path(theirs)
    assert Path(ours).read_bytes() == b"small"
    assert not hub.files_asked()


def test_a_directory_has_what_it_needs_and_no_more(hub: SmallHub) -> None:
    hub.repos["org/st"] = Repo({"main": dict(DIRECTORY)})
    path = Path(local_path("hf://org/st"))
    found = {file.name: file.read_bytes() for file in path.iterdir()}
    wanted = ("config.json", "tokenizer.json", "model.safetensors", "empty.jinja")
    assert found == {name: DIRECTORY[name] for name in wanted}
    assert not list(path.parents[1].glob("blobs/*.incomplete"))


def test_progress_ends_at_all(hub: SmallHub) -> None:
    hub.repos["org/st"] = Repo({"main": dict(DIRECTORY)})
    seen: list[tuple[int, int]] = []
    local_path("hf://org/st", progress=lambda done, total: seen.append((done, total)))
    total = sum(len(DIRECTORY[n]) for n in ("config.json", "tokenizer.json", "model.safetensors"))
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


def test_revisions(hub: SmallHub, repo: Repo, cache: Path) -> None:
    v1 = local_path("hf://org/name@v1")
    assert Path(v1).stat().st_size == 9999
    assert local_path("hf://org/name", revision="v1") == v1
    commit = hub.commit("org/name", "v1")
    hub.requests.clear()
    assert local_path(f"hf://org/name@{commit}:Q4_K_M") == v1  # a commit does not change
    assert not hub.requests
    assert local_path(f"hf://org/name@{commit}") == v1
    with pytest.raises(HubError, match="has no revision v2"):
        local_path("hf://org/name@v2")
    assert not (cache / "models--org--name/refs" / commit).exists()


def test_a_branch_that_moved_is_followed(hub: SmallHub, repo: Repo) -> None:
    old = Path(local_path("hf://org/name:Q8_0"))
    repo.revisions["main"] = {"a-Q8_0.gguf": b"new", "a-Q4_K_M.gguf": BIG}
    assert Path(local_path("hf://org/name:Q8_0", offline=True)) == old
    new = Path(local_path("hf://org/name:Q8_0"))
    assert new.read_bytes() == b"new"
    assert Path(local_path("hf://org/name:Q8_0", offline=True)) == new
    assert old.read_bytes() == BIG[::-1]
    pinned = f"hf://org/name:Q8_0@{old.parent.name}"
    assert Path(local_path(pinned)) == old


def test_a_broken_connection_is_taken_up(hub: SmallHub, repo: Repo) -> None:
    repo.broken["a-Q4_K_M.gguf"] = [300_000]
    try:
        path = local_path("hf://org/name")
    except HubError:  # of a library that does not try again itself
        path = local_path("hf://org/name")
    assert Path(path).read_bytes() == BIG
    first, second = hub.files_asked()
    assert first == ("a-Q4_K_M.gguf", None)
    start = int((second[1] or "")[6:-1])
    assert 0 < start <= 300_000


def test_an_interrupted_download_goes_on_in_the_next_process(
    hub: SmallHub, repo: Repo, cache: Path
) -> None:
    repo.broken["a-Q4_K_M.gguf"] = [500_000, *[0] * 20]
    with pytest.raises(HubError, match=r"is there up to byte \d+ of 1048576.*next try goes on"):
        local_path("hf://org/name")
    partial = next(cache.glob("models--org--name/blobs/*.incomplete"))
    kept = partial.stat().st_size
    assert 0 < kept <= 500_000
    assert not (cache / "models--org--name/snapshots").exists()
    repo.broken.clear()
    hub.requests.clear()
    seen: list[int] = []
    path = local_path("hf://org/name", progress=lambda done, _: seen.append(done))
    assert Path(path).read_bytes() == BIG
    assert hub.files_asked() == [("a-Q4_K_M.gguf", f"bytes={kept}-")]
    assert min(seen) > kept


def test_a_partial_file_that_is_wrong_is_fetched_anew(
    hub: SmallHub, repo: Repo, cache: Path
) -> None:
    blobs = cache / "models--org--name/blobs"
    blobs.mkdir(parents=True)
    partial = blobs / f"{hashlib.sha256(BIG).hexdigest()}.incomplete"
    for wrong in (b"x" * 1000, b"x" * len(BIG), b"x" * (len(BIG) + 1)):
        partial.write_bytes(wrong)
        assert Path(local_path("hf://org/name")).read_bytes() == BIG
        shutil.rmtree(cache / "models--org--name/snapshots")
        (blobs / partial.stem).unlink()


def test_a_wrong_checksum_leaves_nothing(hub: SmallHub, repo: Repo, cache: Path) -> None:
    wrong: tuple[dict[str, object], ...] = (
        {"lfs": {"size": len(BIG), "sha256": "0" * 64, "pointerSize": 1}},
        {"lfs": None, "blobId": "0" * 40},
    )
    for claimed in wrong:
        repo.claimed = {"a-Q4_K_M.gguf": claimed}
        with pytest.raises(HubError, match=r"a-Q4_K_M.gguf came with another checksum"):
            local_path("hf://org/name")
        assert not list(cache.glob("models--org--name/blobs/*"))


def test_a_server_that_sends_more_than_it_says(hub: SmallHub, repo: Repo, cache: Path) -> None:
    repo.claimed = {"a-Q4_K_M.gguf": {"lfs": {"size": 5, "sha256": "0" * 64, "pointerSize": 1}}}
    with pytest.raises(HubError, match=r"more of a-Q4_K_M.gguf than the 5 bytes"):
        local_path("hf://org/name")
    assert not list(cache.glob("models--org--name/blobs/*"))


@pytest.mark.parametrize(
    "name", ["../../x.gguf", "/x.gguf", "a/../../x.gguf", "a//x.gguf", "a\\x", ""]
)
def test_hostile_names(hub: SmallHub, repo: Repo, tmp_path: Path, name: str) -> None:
    repo.revisions["main"][name] = b"x"
    with pytest.raises(HubError, match="which is no name of a file in it"):
        local_path("hf://org/name")
    assert not list(tmp_path.rglob("x*"))


@pytest.mark.parametrize(
    "claimed",
    [
        {"a-Q4_K_M.gguf": {"size": -1, "lfs": None}},
        {"a-Q4_K_M.gguf": {"size": None, "lfs": None}},
        {"a-Q4_K_M.gguf": {"lfs": None, "blobId": "../../x"}},
        {"a-Q4_K_M.gguf": {"lfs": {"size": "9", "sha256": "0" * 64, "pointerSize": 1}}},
        {"a-Q4_K_M.gguf": {"lfs": {"size": 9, "sha256": "../x", "pointerSize": 1}}},
        {"a-Q4_K_M.gguf": {"lfs": 3}},
        {"a-Q4_K_M.gguf": {"rfilename": 3}},
        {"": {"sha": "../../x"}},
        {"": {"sha": None}},
        {"": {"siblings": 3}},
        {"": {"siblings": [[]]}},
        {"": {"siblings": [{"rfilename": f"{k}"} for k in range(50_001)]}},
    ],
)
def test_hostile_listings(repo: Repo, cache: Path, claimed: dict[str, dict[str, object]]) -> None:
    repo.claimed = claimed
    with pytest.raises(HubError):
        local_path("hf://org/name")
    assert not cache.exists()


def test_a_gated_model(hub: SmallHub, repo: Repo, cache: Path, monkeypatch: Any) -> None:
    repo.gated = True
    with pytest.raises(HubError, match=r"only to those who accepted its terms.*HF_TOKEN"):
        local_path("hf://org/name")
    with pytest.raises(HubError, match="accepted its terms"):
        local_path("hf://org/name", token="hf_wrong")
    assert Path(local_path("hf://org/name", token="hf_right")).read_bytes() == BIG
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert Path(local_path("hf://org/name:Q8_0")).read_bytes() == BIG[::-1]


def test_a_token_does_not_follow_to_another_server(hub: SmallHub, repo: Repo) -> None:
    store = SmallHub()  # as the hub's own, with large files
    store.repos["org/name"] = Repo(dict(repo.revisions))
    repo.elsewhere, repo.private = store.endpoint, True
    assert Path(local_path("hf://org/name", token="hf_right")).read_bytes() == BIG
    store.stop()
    assert set(hub.tokens) == {"Bearer hf_right"}
    assert store.tokens == [None]


def test_ranges_may_be_ignored(repo: Repo, cache: Path) -> None:
    repo.ignores_ranges = True
    blobs = cache / "models--org--name/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(BIG).hexdigest()}.incomplete").write_bytes(BIG[:5000])
    assert Path(local_path("hf://org/name")).read_bytes() == BIG


def test_nothing_is_written_where_all_is_there(
    repo: Repo, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = local_path("hf://org/name")
    before = sorted((each, each.lstat().st_mtime_ns) for each in cache.rglob("*"))
    assert local_path("hf://org/name") == path
    assert sorted((each, each.lstat().st_mtime_ns) for each in cache.rglob("*")) == before


def test_a_private_or_unknown_model(hub: SmallHub, repo: Repo) -> None:
    with pytest.raises(HubError, match="there is no model org/none"):
        local_path("hf://org/none")
    repo.private = True
    with pytest.raises(HubError, match="or it is private"):
        local_path("hf://org/name")
    assert local_path("hf://org/name", token="hf_right")


def test_out_of_reach(hub: SmallHub, repo: Repo, caplog: pytest.LogCaptureFixture) -> None:
    path = local_path("hf://org/name:Q8_0")
    assert not caplog.messages
    hub.stop()
    assert local_path("hf://org/name:Q8_0") == path
    assert "cannot be reached" in caplog.text
    assert "what the cache has of hf://org/name:Q8_0 is used" in caplog.text
    assert local_path("hf://org/name") == path  # what there is
    with pytest.raises(
        HubError, match=r"cannot be reached.*does not have hf://org/name:Q4_K_M whole"
    ):
        local_path("hf://org/name:Q4_K_M")
    with pytest.raises(HubError, match=r"cannot be reached.*nothing of hf://org/other is in it"):
        local_path("hf://org/other")


def test_a_server_in_trouble(hub: SmallHub, repo: Repo) -> None:
    path = local_path("hf://org/name")
    for status in (500, 503, 429):
        hub.status = status
        assert local_path("hf://org/name") == path
        with pytest.raises(HubError, match=f"answers with status {status}"):
            local_path("hf://org/name@v1")
    hub.status = 403
    with pytest.raises(HubError, match="refuses hf://org/name with status 403"):
        local_path("hf://org/name@v1")


def test_offline(hub: SmallHub, repo: Repo, monkeypatch: Any) -> None:
    from huggingface_hub import constants

    with pytest.raises(HubError, match="nothing of hf://org/name is in it"):
        local_path("hf://org/name", offline=True)
    assert not hub.requests
    path = local_path("hf://org/name")
    hub.requests.clear()
    assert local_path("hf://org/name", offline=True) == path
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert local_path("hf://org/name") == path
    assert not hub.requests


def test_a_directory_offline_has_to_be_whole(hub: SmallHub) -> None:
    shards = {f"model-0000{k}-of-00002.safetensors": BIG[k:] for k in (1, 2)}
    index = json.dumps({"weight_map": {f"tensor.{name}": name for name in shards}}).encode()
    hub.repos["org/st"] = Repo(
        {"main": {"config.json": b"{}", "model.safetensors.index.json": index} | shards}
    )
    path = Path(local_path("hf://org/st"))
    assert local_path("hf://org/st", offline=True) == str(path)
    (path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(HubError, match="1 of 2 files of safetensors are missing"):
        local_path("hf://org/st", offline=True)
    assert local_path("hf://org/st") == str(path)
    (path / "model.safetensors.index.json").unlink()
    for damaged in (b"{", b"[]", b'{"weight_map": 3}', b'{"weight_map": {"a": []}}', b"[" * 10**5):
        (path / "model.safetensors.index.json").write_bytes(damaged)
        with pytest.raises(HubError, match="is damaged"):
            local_path("hf://org/st", offline=True)


def test_a_full_disk(hub: SmallHub, repo: Repo, cache: Path, monkeypatch: Any) -> None:
    usage = shutil.disk_usage(cache.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(
        CapacityError, match=r"takes 1048576 bytes more.*has 1000 left.*HF_HUB_CACHE"
    ):
        local_path("hf://org/name")
    assert not hub.files_asked()


def test_a_cache_that_cannot_be_written(repo: Repo, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(HubError, match="HF_HUB_CACHE or HF_HOME"):
        local_path("hf://org/name")


def test_a_disk_without_links(hub: SmallHub, repo: Repo, cache: Path, monkeypatch: Any) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    path = Path(local_path("hf://org/name"))
    assert path.read_bytes() == BIG
    assert not path.is_symlink()
    assert local_path("hf://org/name") == str(path)
    assert len(hub.files_asked()) == 1


def test_two_at_once_fetch_once(hub: SmallHub, repo: Repo) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: local_path("hf://org/name"), range(4)))
    assert len(set(paths)) == 1
    assert len(hub.files_asked()) == 1
