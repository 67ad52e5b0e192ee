"""The hub as huggingface_hub knows it: where it is, where its cache is, what a repository has."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from motet.checks import shown
from motet.errors import HubError
from motet.hub.address import is_safe_name
from motet.hub.failures import explained

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

MOST_FILES = 50_000
"""Files of a repository; models have a few hundred at most."""
_TIMEOUT = 15.0
"""Seconds that the hub has for an answer."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """``digest``: SHA-256 of its bytes where it is a large one, else git's SHA-1 of a blob; the
    cache names it by this."""

    name: str
    nbytes: int
    digest: str


@dataclass(frozen=True)
class Listing:
    """A repository's files at a commit, by name."""

    commit: str
    files: dict[str, HubFile]


@dataclass(frozen=True)
class Hub:
    """A hub at ``endpoint``, and its cache. ``token``: None for that of the environment or of
    ``hf auth login``."""

    endpoint: str
    cache: Path
    token: str | None = field(default=None, repr=False)

    @classmethod
    def of_environment(cls, token: str | None = None) -> "Hub":
        """As HF_ENDPOINT, HF_HUB_CACHE and HF_HOME say."""
        from huggingface_hub import constants

        return cls(constants.ENDPOINT, Path(constants.HF_HUB_CACHE).expanduser(), token)

    def folder(self, repo: str) -> Path:
        """What the cache has of a repository."""
        return self.cache / self._folder_name(repo)

    def lock(self, repo: str, digest: str) -> Path:
        """The file that tools lock while they fetch what has this digest."""
        return self.cache / ".locks" / self._folder_name(repo) / f"{digest}.lock"

    def headers(self) -> dict[str, str]:
        """Of a request."""
        from huggingface_hub.utils import build_hf_headers

        from motet import __version__

        return build_hf_headers(token=self.token, library_name="motet", library_version=__version__)

    def url(self, repo: str, commit: str, name: str) -> str:
        """Of a file."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(repo, name, revision=commit, endpoint=self.endpoint)

    def listing(self, repo: str, revision: str) -> Listing:
        """What ``repo`` has.

        Raises HubError where there is none, or for names that lead outside of it, and Unreachable.
        """
        from huggingface_hub import HfApi

        with explained(self.endpoint, repo, revision):
            info = HfApi(self.endpoint, token=self.token, library_name="motet").model_info(
                repo, revision=revision, files_metadata=True, timeout=_TIMEOUT
            )
        siblings = info.siblings or []
        if len(siblings) > MOST_FILES:
            raise HubError(f"hf://{repo} has {len(siblings)} files: more than {MOST_FILES}")
        if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
            raise HubError(f"{self.endpoint} gives {shown(info.sha)} as the commit of hf://{repo}")
        return Listing(info.sha, {f.rfilename: _checked(f, repo) for f in siblings})

    @staticmethod
    def _folder_name(repo: str) -> str:
        return "--".join(["models", *repo.split("/")])


def is_commit(revision: str) -> bool:
    """Whether it is a whole commit hash, of which the files never change."""
    return _COMMIT.fullmatch(revision) is not None


def _checked(file: "RepoSibling", repo: str) -> HubFile:
    """What a server says of a file, if it can be: it names files of the cache."""
    name: object = file.rfilename
    if not isinstance(name, str) or not is_safe_name(name):
        raise HubError(f"hf://{repo} lists {shown(name)}, which is no name of a file in it")
    nbytes: object = file.lfs.size if file.lfs else file.size
    digest: object = file.lfs.sha256 if file.lfs else file.blob_id
    known = _SHA256 if file.lfs else _COMMIT
    if not isinstance(nbytes, int) or nbytes < 0:
        raise HubError(f"hf://{repo} gives {shown(nbytes)} as the size of {shown(name)}")
    if not isinstance(digest, str) or not known.fullmatch(digest):
        raise HubError(f"hf://{repo} gives {shown(digest)} as the checksum of {shown(name)}")
    return HubFile(name, nbytes, digest)
