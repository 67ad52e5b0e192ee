"""What the hub's cache has that Motet can open, and how it goes away."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from motet.errors import HubError
from motet.hub.address import DEFAULT_REVISION, SAFETENSORS, Address
from motet.hub.choose import GGUFModel, gguf_models, is_directory, matching
from motet.hub.failures import explained
from motet.hub.library import Hub

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, CachedRevisionInfo, HFCacheInfo
    from huggingface_hub.utils import CachedFileInfo, DeleteCacheStrategy

    Files = dict[str, CachedFileInfo]


@dataclass(frozen=True)
class CachedModel:
    """``last_used``: in seconds since 1970, as the file system says. ``refs``: the branches and
    tags that lead to ``commit``."""

    address: Address
    path: str
    nbytes: int
    last_used: float
    commit: str
    refs: tuple[str, ...]


@dataclass(frozen=True)
class Removal:
    """What would go. ``files``: their names. ``nbytes``: what that frees; files that another
    revision has too are not freed."""

    files: tuple[str, ...]
    nbytes: int
    _strategy: "DeleteCacheStrategy"

    def execute(self) -> None:
        """Remove it."""
        self._strategy.execute()


def cached_models(hub: Hub) -> list[CachedModel]:
    """By address. Raises HubError where the cache can't be read."""
    found = [
        model
        for repo in _models(_scan(hub))
        for revision in repo.revisions
        for model in _models_of(repo, revision)
    ]
    return sorted(found, key=lambda model: str(model.address))


def removal(hub: Hub, address: Address) -> Removal:
    """Of all that the cache has of a repository, or of what ``address`` names in it.

    Without a revision, from every one that is there. Raises HubError where there is no such thing.
    """
    info, folder = _scan(hub), hub.folder(address.repo)
    repo = next((each for each in _models(info) if each.repo_id == address.repo), None)
    if info is not None and folder.is_dir() and address == Address(address.repo):
        return _whole_folder(info, folder, repo)
    if info is None or repo is None:
        raise HubError(f"hf://{address.repo} is not in the cache", hint="motet list shows what is")
    revisions = [each for each in repo.revisions if _is_at(each, address.revision)]
    if not revisions:
        known = sorted(ref for each in repo.revisions for ref in (each.refs or {each.commit_hash}))
        raise HubError(
            f"{address}: the cache does not have this revision", hint=f"it has {', '.join(known)}"
        )
    going = {each: _going(each, address) for each in revisions}
    names = sorted({name for files in going.values() for name in files})
    if not names:
        offered = sorted(
            {str(model.address) for each in revisions for model in _models_of(repo, each)}
        )
        raise HubError(
            f"{address} is not in the cache",
            hint=f"it has {', '.join(offered) or 'no model of this repository'}",
        )
    whole = [each.commit_hash for each in revisions if len(going[each]) == len(each.files)]
    strategy = info.delete_revisions(*whole)
    if len(whole) < len(revisions):
        strategy = _with_files(strategy, repo, going)
    return Removal(tuple(names), strategy.expected_freed_size, strategy)


def _whole_folder(info: "HFCacheInfo", folder: Path, repo: "CachedRepoInfo | None") -> Removal:
    """Of a repository's folder, with what was begun in it and not finished, if only this."""
    names = sorted({name for each in (repo.revisions if repo else ()) for name in _files(each)})
    nbytes = sum(blob.stat().st_size for blob in (folder / "blobs").glob("*") if blob.is_file())
    strategy = replace(
        info.delete_revisions(), repos=frozenset({folder}), expected_freed_size=nbytes
    )
    return Removal(tuple(names), nbytes, strategy)


def _with_files(
    strategy: "DeleteCacheStrategy",
    repo: "CachedRepoInfo",
    going: "dict[CachedRevisionInfo, Files]",
) -> "DeleteCacheStrategy":
    """``strategy`` extended by single files of revisions that stay; a blob goes with its last."""
    pointers = {file.file_path for files in going.values() for file in files.values()}
    kept = {
        file.blob_path
        for each in repo.revisions
        for file in each.files
        if file.file_path not in pointers
    }
    blobs = {
        file.blob_path: file.size_on_disk
        for files in going.values()
        for file in files.values()
        if file.blob_path not in kept
    }
    within = tuple(strategy.snapshots)
    single = {path for path in pointers if not any(each in path.parents for each in within)}
    return replace(
        strategy,
        expected_freed_size=sum(blobs.values()),
        blobs=strategy.blobs | blobs.keys(),
        snapshots=strategy.snapshots | single,
    )


def _scan(hub: Hub) -> "HFCacheInfo | None":
    from huggingface_hub import scan_cache_dir

    if not hub.cache.is_dir():
        return None
    with explained(hub.endpoint, "cache"):
        return scan_cache_dir(hub.cache)


def _models(info: "HFCacheInfo | None") -> "list[CachedRepoInfo]":
    return [repo for repo in info.repos if repo.repo_type == "model"] if info else []


def _is_at(revision: "CachedRevisionInfo", wanted: str | None) -> bool:
    return wanted is None or wanted in revision.refs or revision.commit_hash.startswith(wanted)


def _files(revision: "CachedRevisionInfo") -> "Files":
    """By their names in the repository."""
    root: Path = revision.snapshot_path
    return {file.file_path.relative_to(root).as_posix(): file for file in revision.files}


def _going(revision: "CachedRevisionInfo", address: Address) -> "Files":
    files = _files(revision)
    if address.quantisation is None and address.file is None:
        return files
    if address.quantisation == SAFETENSORS:
        return {name: file for name, file in files.items() if not name.lower().endswith(".gguf")}
    return {name: files[name] for model in matching(files, address) for name in model.files}


def _models_of(repo: "CachedRepoInfo", revision: "CachedRevisionInfo") -> Iterator[CachedModel]:
    files = _files(revision)
    refs = tuple(sorted(revision.refs))
    named = None if DEFAULT_REVISION in refs else refs[0] if refs else revision.commit_hash
    base = Address(repo.repo_id, named)
    models = [model for model in gguf_models(files) if model.is_complete]

    def made(address: Address, path: Path, names: "list[str] | tuple[str, ...]") -> CachedModel:
        blobs = {files[name].blob_path: files[name] for name in names}.values()
        return CachedModel(
            address,
            str(path),
            sum(file.size_on_disk for file in blobs),
            max(file.blob_last_accessed for file in blobs),
            revision.commit_hash,
            refs,
        )

    for model in models:
        root: Path = revision.snapshot_path
        yield made(_address_of(model, models, base), root / model.file, model.files)
    if is_directory(files):
        others = [name for name in files if not name.lower().endswith(".gguf")]
        address = replace(base, quantisation=SAFETENSORS) if models else base
        yield made(address, revision.snapshot_path, others)


def _address_of(model: GGUFModel, models: list[GGUFModel], base: Address) -> Address:
    """By the quantisation, where no other has the same one."""
    same = [each for each in models if each.quantisation == model.quantisation]
    if model.quantisation and len(same) == 1:
        return replace(base, quantisation=model.quantisation)
    return base.named(model.file)
