"""Each key of golden models' config.json in turn holds each of some values, or is gone.

    python -m tests.hostile.configurations [NAME …]

It is read or refused by a MotetError; whatever else comes of it is printed.
"""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from motet.errors import MotetError
from motet.models.registry import declared
from motet.opening import open_model
from tests.hostile.directories import VALUES
from tests.shared import SHARED

GOLDEN = sorted(path.parent.parent.name for path in SHARED.glob("parity/*/hf/config.json"))
_GONE = object()


def golden(name: str, folder: Path) -> dict[str, Any]:
    """A golden model's directory in ``folder``, which may be changed, and its configuration."""
    shutil.copytree(SHARED / "parity" / name / "hf", folder)
    folder.chmod(0o755)
    (folder / "config.json").chmod(0o644)
    return json.loads((folder / "config.json").read_text())


def changed(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What was done, and the configuration with one value changed, in objects of it too."""
    for key, old in config.items():
        for value in (*VALUES, None, [], "", _GONE):
            other = {k: v for k, v in config.items() if k != key}
            yield f"{key}: {value!r:.40}", other if value is _GONE else other | {key: value}
            if isinstance(old, list) and old and value is not _GONE:
                yield f"{key}[0]: {value!r:.40}", other | {key: [value, *old[1:]]}
        if isinstance(old, list):
            yield f"{key} is shorter", config | {key: old[:-1]}
        if isinstance(old, dict):
            for what, inner in changed(old):
                yield f"{key}.{what}", config | {key: inner}


def main() -> None:
    failures = 0
    for name in sys.argv[1:] or GOLDEN:
        with tempfile.TemporaryDirectory() as place:
            folder, refused, read, slowest = Path(place) / "m", 0, 0, 0.0
            for what, config in changed(golden(name, folder)):
                (folder / "config.json").write_text(json.dumps(config))
                began = time.process_time()
                try:
                    with open_model(folder) as source:
                        declared(source)
                    read += 1
                except MotetError:
                    refused += 1
                except BaseException as error:
                    failures += 1
                    print(f"{name}: {what}: {type(error).__name__}: {error}"[:300], flush=True)
                slowest = max(slowest, time.process_time() - began)
            print(f"{name}: {read} read, {refused} refused, the slowest took {slowest:.2f} s")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
