"""Addresses of models on the hub: ``hf://org/name@revision:what``."""

import re
from dataclasses import dataclass, replace
from os import PathLike

from motet.checks import shown
from motet.errors import OptionError

SAFETENSORS = "safetensors"
"""What asks for the directory where a repository has GGUF files too."""
DEFAULT_REVISION = "main"

_SCHEME = re.compile(r"hf:/{1,2}")
"""A path object makes one slash of two."""
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
_REVISION = r"refs/(?:pr|convert)/[A-Za-z0-9_.-]+|[A-Za-z0-9_.-]+"
_ADDRESS = re.compile(
    rf"(?P<repo>{_NAME}/{_NAME})(?:@(?P<before>{_REVISION}))?"
    rf"(?:(?P<mark>[:/])(?P<what>[^@:]{{1,1000}}))?(?:@(?P<after>{_REVISION}))?"
)
_QUANTISATION = re.compile(r"[A-Za-z0-9_-]{1,40}")
_FORMS = (
    "as in hf://org/name, hf://org/name:Q4_K_M, hf://org/name:file.gguf, hf://org/name@revision"
)


@dataclass(frozen=True)
class Address:
    """A model on the hub.

    ``repo``: "org/name". ``revision``: a branch, a tag or a commit; None for the main branch.
    ``quantisation``: of a GGUF file, in capitals, or ``SAFETENSORS``. ``file``: a GGUF file's name.
    """

    repo: str
    revision: str | None = None
    quantisation: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        what = self.quantisation or self.file
        return f"hf://{self.repo}{revision}{f':{what}' if what else ''}"

    def at(self, revision: str | None) -> "Address":
        """The same at ``revision``, if one is given. Raises OptionError where it has another."""
        if revision is None or revision == self.revision:
            return self
        if self.revision is not None:
            raise OptionError(f"revision is {shown(revision)}", hint=f"{self} names another one")
        _check_revision(revision)
        return replace(self, revision=revision)

    def named(self, file: str) -> "Address":
        """That of one file in the same repository."""
        return Address(self.repo, self.revision, file=file)


def is_address(path: object) -> bool:
    """Whether it is text, or a path object, that begins as an address does."""
    return isinstance(path, str | PathLike) and _SCHEME.match(str(path)) is not None


def parse_address(path: object) -> Address:
    """Raises OptionError for what is no address."""
    text = str(path)
    scheme = _SCHEME.match(text)
    found = _ADDRESS.fullmatch(text, scheme.end()) if scheme else None
    if found is None:
        raise _malformed(text)
    repo, before, what, after = found.group("repo", "before", "what", "after")
    if ".." in repo or "--" in repo or (before and after) or repo.endswith((".git", "-", ".")):
        raise _malformed(text)
    revision = before or after
    if revision is not None:
        _check_revision(revision)
    if what is None:
        return Address(repo, revision)
    if what.lower().endswith(".gguf"):
        if not is_safe_name(what):
            raise _malformed(text)
        return Address(repo, revision, file=what)
    if found["mark"] == "/" or not _QUANTISATION.fullmatch(what):
        raise _malformed(text)
    if what.lower() == SAFETENSORS:
        return Address(repo, revision, SAFETENSORS)
    return Address(repo, revision, what.upper())


def is_safe_name(name: str) -> bool:
    """Whether a file's name in a repository leads to a place inside of it, and to no other."""
    parts = name.split("/")
    return (
        len(name) <= 1000
        and "\\" not in name
        and "\0" not in name
        and not any(part in ("", ".", "..") or len(part) > 255 for part in parts)
    )


def _check_revision(revision: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_./-]{1,250}", revision) or not is_safe_name(revision):
        raise OptionError(
            f"revision is {shown(revision)}", hint="use the name of a branch or a tag, or a commit"
        )


def meant(text: str) -> str | None:
    """The address that was meant by a name or a page's; None where there is none in it."""
    plain = re.sub(r"^(https?://)?(www\.)?(huggingface\.co|hf\.co)/", "", text)
    found = re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", plain, re.ASCII)
    return f"hf://{plain}" if found else None


def _malformed(text: str) -> OptionError:
    return OptionError(f"{shown(text)} is no address of a model", hint=_FORMS)
