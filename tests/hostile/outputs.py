"""Every command where its output cannot go: a full disk, a reader that has left, closed streams, a
limit on the size of files, an encoding that lacks characters.

A case is a command and such a place, drawn at random. Wrong are a traceback, a status other than
the documented ones, a success that lost what it should have written, and more than one line of
complaint.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motet.cli.demo import shipped_model
from tests.hostile.harness import main

TINY = str(shipped_model())
STORY = "Once upon a time there was a little dog. He went to the park and saw a red ball. " * 12
TASK = "The dog saw a ball and\n0\nran.\nwas a small green house.\nslept.\nate it.\n"
_NEEDLE = ("needle", TINY, "--lengths", "130", "--depths", "1", "--seeds", "1")
_CURVES = ("perplexity", TINY, "-f", "{text}", "--by-position", "-c", "64", "--chunks", "1")
_BENCH = ("bench", TINY, "--lengths", "8", "-n", "2", "--parallel", "1", "--repeat", "1")

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("--help",),
    ("--version",),
    ("run", "--help"),
    ("run", TINY, "-p", "Once upon a time", "-n", "30"),
    ("run", TINY, "-p", "Once upon a time", "-n", "30", "--json"),
    ("run", TINY, "-p", "Once upon a time", "-n", "9", "--session", "{new}.motet"),
    ("show", TINY),
    ("show", TINY, "--json", "--tensors", "--metadata"),
    ("show", TINY, "--tensors", "--metadata"),
    ("tokenize", TINY, STORY),
    ("tokenize", TINY, STORY, "--ids"),
    ("tokenize", TINY, STORY, "--json"),
    ("perplexity", TINY, "-f", "{text}", "-c", "64"),
    ("perplexity", TINY, "-f", "{text}", "-c", "64", "--json"),
    _CURVES,
    (*_CURVES, "--plot", "{new}.svg"),
    ("hellaswag", TINY, "-f", "{tasks}"),
    ("hellaswag", TINY, "-f", "{tasks}", "--json"),
    _NEEDLE,
    (*_NEEDLE, "--json"),
    (*_NEEDLE, "--results", "{new}.jsonl"),
    (*_NEEDLE, "--plot", "{new}.png"),
    (*_NEEDLE, "--plot", "{new}.pdf"),
    _BENCH,
    ("demo", "-n", "4"),
)
"""In curly brackets: files that are there, or that a command may make."""


@dataclass(frozen=True)
class Place:
    """Where output goes. ``lost``: whether a command that prints anything has to fail."""

    redirection: str
    lost: bool
    quiet: bool = False
    encoding: str = "utf-8"
    kibibytes: int | None = None  # a limit on files


PLACES = (
    Place(">/dev/full", lost=True),
    Place("2>/dev/full", lost=False, quiet=True),
    Place(">/dev/full 2>&1", lost=True, quiet=True),
    Place(">&-", lost=True),
    Place("2>&-", lost=False, quiet=True),
    Place("<&- >&- 2>&-", lost=True, quiet=True),
    Place("| true", lost=False, quiet=True),
    Place("| head -n 1", lost=False, quiet=True),
    Place("| head -c 1", lost=False, quiet=True),
    Place(">out", lost=False, kibibytes=1),
    Place("| cat", lost=False, kibibytes=0),
    Place("| cat", lost=False, encoding="ascii"),
    Place("| cat", lost=False, encoding="latin-1"),
)
"""``| true``: the reader has left, or will before all is written."""


def case(random: np.random.Generator) -> None:
    """A command and a place, drawn at random."""
    command = COMMANDS[random.integers(len(COMMANDS))]
    check(command, PLACES[random.integers(len(PLACES))])


def check(command: tuple[str, ...], place: Place) -> None:
    """Run ``command`` with its output at ``place``. Raises AssertionError for what is wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text.txt").write_text(STORY)
        (folder / "tasks.txt").write_text(TASK)
        files = {"text": "text.txt", "tasks": "tasks.txt", "new": "new"}
        arguments = [part.format(**files) if part in _FILES else part for part in command]
        status, errors = _run(arguments, place, folder)
        at = f"{command} {place}: status {status}, {errors!r}"
        assert "Traceback" not in errors and "Exception ignored" not in errors, at
        assert status in (0, 1), at
        assert status == 1 or not place.lost, at
        complaints = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert len(complaints) == (0 if place.quiet else status), at
        left = {path.name for path in folder.iterdir()} - {"text.txt", "tasks.txt", "out", "status"}
        assert all(not file.endswith((".tmp", ".lock")) for file in left), f"{at}: {left}"
        if status == 1:  # what could not be written whole is not there at all
            assert not left & {"new.svg", "new.png", "new.pdf"} or place.kibibytes is None, at


MEMORY = 64 << 30
"""Address space: a context sets aside more than it uses."""
_FILES = {part for command in COMMANDS for part in command if part.startswith("{")}


def _run(arguments: list[str], place: Place, folder: Path) -> tuple[int, str]:
    """Status of the command alone, and what it wrote to standard error."""
    limit = "" if place.kibibytes is None else f"ulimit -S -f {place.kibibytes}; "
    script = f'( {limit}exec "$@" ) {place.redirection}; echo ${{PIPESTATUS[0]}} >status'
    outer = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-m", "motet.cli", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=_environment(place.encoding),
        check=False,
    )
    return int((folder / "status").read_text()), outer.stderr


def _environment(encoding: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), *sys.path]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": encoding}


if __name__ == "__main__":
    main(case, __doc__ or "", seconds=60, memory=MEMORY)
