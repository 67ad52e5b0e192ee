"""What went wrong with the hub, in words for people."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from motet.errors import CapacityError, HubError, MotetError, shown

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BEARER = re.compile(r"Bearer [^'\"]*")
"""A token, which some libraries show where they find it malformed."""
_LATER = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of a server that may answer at another time."""


class Unreachable(HubError):
    """The hub doesn't answer; what is in the cache may do."""


@contextmanager
def explained(endpoint: str, repo: str, revision: str | None = None) -> Iterator[None]:
    """Within, the library's errors and those of the system become errors of Motet.

    Raises HubError, Unreachable, or CapacityError for a full disk. Only the library's calls and
    files belong here: the HTTP library below it, which is another in each of its versions, has
    errors with nothing in common, so whatever isn't known is the network's.
    """
    try:
        yield
    except (MotetError, MemoryError):
        raise
    except Exception as error:
        raise _explained(error, endpoint, repo, revision) from error


def _explained(error: Exception, endpoint: str, repo: str, revision: str | None) -> MotetError:
    from huggingface_hub import errors

    page = f"{endpoint}/{repo}"
    match error:
        case errors.GatedRepoError():
            return HubError(
                f"hf://{repo} is open only to those who accepted its terms",
                hint=f"accept them at {page}, then `hf auth login`, or a token in HF_TOKEN or with"
                " --token; the token has to allow reading gated repositories",
            )
        case errors.RepositoryNotFoundError():
            return HubError(
                f"there is no model {repo} at {endpoint}, or it is private",
                hint="check its name; a private one needs a token: `hf auth login`, or HF_TOKEN",
            )
        case errors.RevisionNotFoundError():
            return HubError(
                f"hf://{repo} has no revision {revision}",
                hint=f"its branches and tags are at {page}/refs",
            )
        case errors.EntryNotFoundError():
            return HubError(f"hf://{repo} lists a file that it does not have", hint="try it again")
        case errors.OfflineModeIsEnabled():
            return Unreachable("the hub is not asked: offline mode (HF_HUB_OFFLINE) is on")
        case errors.HfHubHTTPError():
            return _refused(error.response.status_code, endpoint, repo)
        case OSError() if _is_of_files(error):
            return _of_files(error)
    return Unreachable(f"{endpoint} cannot be reached: {_reason(error)}")


def _refused(status: int, endpoint: str, repo: str) -> HubError:
    if status in _LATER:
        return Unreachable(f"{endpoint} answers with status {status}", hint="try it again later")
    if status in (401, 403):
        return HubError(
            f"{endpoint} refuses hf://{repo} with status {status}",
            hint="the token may be wrong, too old, or not for this: `hf auth login`, or HF_TOKEN",
        )
    return HubError(f"{endpoint} answers with status {status} for hf://{repo}")


def _is_of_files(error: OSError) -> bool:
    return error.errno in _FULL or error.filename is not None


def _of_files(error: OSError) -> MotetError:
    if error.errno in _FULL:
        return CapacityError(
            "the disk of the hub's cache is full",
            hint="free some of it (motet list, motet rm), or set HF_HUB_CACHE to another place",
        )
    return HubError(
        f"the hub's cache: {error.filename}: {error.strerror}",
        hint="HF_HUB_CACHE or HF_HOME sets where it is",
    )


def _reason(error: Exception) -> str:
    """The first line of what the library says, on one line."""
    first = _BEARER.sub("Bearer …", str(error).strip().partition("\n")[0])
    return shown(first)[1:-1] if first else type(error).__name__
