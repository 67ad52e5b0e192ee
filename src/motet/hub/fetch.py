"""From an address to a path: what is missing is fetched, what is there is used."""

import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast, overload

from motet import checks
from motet.errors import CapacityError, HubError, MotetError, OptionError
from motet.hub.address import DEFAULT_REVISION, Address, is_address, parse_address
from motet.hub.choose import INDEX, Chosen, choose
from motet.hub.download import download, missing_bytes
from motet.hub.failures import Unreachable, explained
from motet.hub.library import MOST_FILES, Hub, HubFile, Listing, is_commit

Other = TypeVar("Other")
Progress = Callable[[int, int], None]

_LOGGER = logging.getLogger(__name__)

_MOST_INDEX = 64 << 20
"""Bytes of an index of safetensors."""
_KEPT_FREE = 64 << 20
"""Bytes of the disk that are left."""


@overload
def local_path(
    path: str,
    *,
    progress: Progress | None = None,
    revision: str | None = None,
    token: str | None = None,
    offline: bool = False,
) -> str: ...


@overload
def local_path(
    path: Other,
    *,
    progress: Progress | None = None,
    revision: str | None = None,
    token: str | None = None,
    offline: bool = False,
) -> Other | str: ...


@checks.named
def local_path(
    path: object,
    *,
    progress: Progress | None = None,
    revision: str | None = None,
    token: str | None = None,
    offline: bool = False,
) -> object:
    """The path of the model at ``path``, an ``hf://`` address; anything else comes back as it is.

    That of a GGUF file (the first of a split one) or of a directory with safetensors, in the
    hub's cache. What is not there yet is fetched, after what is there of it, and its checksums are
    compared with those that the hub gives. ``revision``: a branch, a tag or a commit, if the
    address has none. ``token``: None for HF_TOKEN, or that of ``hf auth login``. ``offline``: the
    hub is not asked, as with HF_HUB_OFFLINE=1. Where it can't be reached, what the cache has is
    used, with a warning in the log. ``progress`` is called with the bytes that are there and
    the bytes in all.

    Raises OptionError for a malformed address, HubError where the model can't be had, and
    CapacityError where the disk has no room for it.
    """
    if progress is not None:
        checks.function("progress", progress, "the bytes done and the bytes in all")
    revision = None if revision is None else checks.text("revision", revision)
    token = None if token is None else _sound_token(token)
    offline = checks.flag("offline", offline)
    if not is_address(path):
        return path
    from huggingface_hub import constants

    address = parse_address(path).at(revision)
    hub = Hub.of_environment(token)
    if offline or constants.HF_HUB_OFFLINE:
        return _cached(hub, address, "the hub is not asked (offline)")
    if is_commit(address.revision or "") and (address.quantisation or address.file):
        with suppress(HubError):
            return _cached(hub, address, "")
    try:
        listing = hub.listing(address.repo, address.revision or DEFAULT_REVISION)
    except Unreachable as error:
        found = _cached(hub, address, error.message)
        _LOGGER.warning("%s; what the cache has of %s is used", error.message, address)
        return found
    chosen = choose(listing.files, address)
    _fetch(hub, address, listing, chosen, progress)
    return _opened(hub, address, listing.commit, chosen)


def _sound_token(token: object) -> str:
    """Without the line break of a file. Its text is in no error."""
    text = checks.text("token", token).strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise OptionError("token is not one word of letters and digits", hint="it begins with hf_")
    return text


def _fetch(
    hub: Hub, address: Address, listing: Listing, chosen: Chosen, progress: Progress | None
) -> None:
    """Have the cache hold what was chosen, the branch or tag leading to its commit."""
    files = [listing.files[name] for name in chosen.files]
    _require_room(hub, address, listing.commit, files)
    total, done = sum(file.nbytes for file in files), 0
    for file in files:
        before = done

        def report(so_far: int, before: int = before) -> None:
            if progress is not None:
                progress(before + so_far, total)

        download(hub, address.repo, listing.commit, file, report)
        done += file.nbytes
        report(file.nbytes)
    revision = address.revision or DEFAULT_REVISION
    if revision != listing.commit:
        with explained(hub.endpoint, address.repo):
            ref = hub.folder(address.repo) / "refs" / revision
            if ref.is_file() and ref.read_text() == listing.commit:
                return
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(listing.commit)


def _require_room(hub: Hub, address: Address, commit: str, files: list[HubFile]) -> None:
    """Raise CapacityError, before anything is fetched, where the disk is too small for it."""
    needed = sum(missing_bytes(hub, address.repo, commit, file) for file in files)
    place = next(each for each in (hub.cache, *hub.cache.parents) if each.exists())
    free = shutil.disk_usage(place).free
    if needed and needed + _KEPT_FREE > free:
        raise CapacityError(
            f"{address} takes {needed} bytes more, and the disk of the hub's cache ({hub.cache})"
            f" has {free} left",
            hint="free some of it (motet list, motet rm), take a smaller quantisation, or set"
            " HF_HUB_CACHE to another place",
        )


def _cached(hub: Hub, address: Address, why: str) -> str:
    """What the cache has. Raises HubError where that is not all of it, which says ``why`` it would
    have to be."""
    folder = hub.folder(address.repo)
    with explained(hub.endpoint, address.repo):
        commit = _cached_commit(folder, address.revision or DEFAULT_REVISION)
        names = snapshot_files(folder / "snapshots" / commit) if commit else []
    try:
        if not commit or not names:
            raise HubError(f"nothing of hf://{address.repo} is in it")
        chosen = choose(names, address)
        if chosen.entry is None:
            _require_shards(folder / "snapshots" / commit, names)
    except MotetError as error:
        raise HubError(
            f"{why}, and the cache at {hub.cache} does not have {address} whole",
            hint=error.message,
        ) from error
    return _opened(hub, address, commit, chosen)


def _cached_commit(folder: Path, revision: str) -> str:
    """What a revision stands for in the cache; "" for one that it has not."""
    if (folder / "snapshots" / revision).is_dir():
        return revision
    ref = folder / "refs" / revision
    commit = ref.read_text()[:100].strip() if ref.is_file() else ""
    return commit if is_commit(commit) else ""


def snapshot_files(snapshot: Path) -> list[str]:
    """Names of the files in a snapshot, without links that lead nowhere."""
    names: list[str] = []
    for folder, _, files in os.walk(snapshot):
        for file in files:
            path = Path(folder, file)
            if path.is_file():
                names.append(path.relative_to(snapshot).as_posix())
        if len(names) > MOST_FILES:
            break
    return names


def _require_shards(snapshot: Path, names: list[str]) -> None:
    """Raise HubError where files that the index of safetensors names are missing."""
    index = snapshot / INDEX
    if not index.is_file():
        return
    try:
        if index.stat().st_size > _MOST_INDEX:
            raise ValueError
        wanted = set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HubError(f"{INDEX} is damaged") from error
    if missing := wanted.difference(cast("list[object]", names)):
        raise HubError(f"{len(missing)} of {len(wanted)} files of safetensors are missing")


def _opened(hub: Hub, address: Address, commit: str, chosen: Chosen) -> str:
    snapshot = hub.folder(address.repo) / "snapshots" / commit
    return str(snapshot / chosen.entry if chosen.entry else snapshot)
