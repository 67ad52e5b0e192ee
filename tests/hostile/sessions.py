"""Session files that are broken, foreign or forged, chats that a signal ends, processes that want
the same file.

Wrong are a traceback, an undocumented status, a file that a failure changed, a turn that had been
answered and is lost, and something left behind.
"""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from motet.cli import main as motet
from motet.cli.conversation import ChatOptions, Conversation
from motet.cli.demo import shipped_model
from motet.llm import LLM
from motet.model import Model
from motet.sampling import Sampling
from motet.state import look
from tests.cli.terminal import READS, Terminal
from tests.hostile.harness import main

TINY = str(shipped_model())
OTHER = str(shipped_model().with_name("motet-tiny-mamba.gguf"))
SHORT = ("-n", "6")
_NOTE = "motet.conversation"

Random = np.random.Generator


def case(random: Random) -> None:
    """One of the attacks, mostly a cheap one."""
    attack = random.choice(np.array([damaged, killed, contended]), p=[0.8, 0.15, 0.05])
    with tempfile.TemporaryDirectory() as name:
        attack(random, Path(name))


def damaged(random: Random, folder: Path) -> None:
    """Go on with a file that is not as it should be."""
    file = folder / "talk.motet"
    kinds = list(_DAMAGE)
    kind = kinds[random.integers(len(kinds))]
    _DAMAGE[kind](random, file)
    options = [(), ("--self-extend", "auto"), ("--kv-type", "q8_0"), ("-c", "100"), ("--json",)]
    given = options[random.integers(len(options))]
    before = _contents(file)
    result = CliRunner().invoke(motet, ["run", TINY, "--session", str(file), "Hi", *SHORT, *given])
    at = f"{kind}, {given}: {result.exit_code}, {result.stderr!r}"
    if not isinstance(result.exception, SystemExit | None):
        raise AssertionError(at) from result.exception
    assert result.exit_code in (0, 1, 2), at
    if result.exit_code:
        assert re.fullmatch(r"error: [^\n]+\n", result.stderr), at
        assert _contents(file) == before, at
    else:
        assert _turns(file) >= 1, at
    assert not _left_behind(folder), at


def killed(random: Random, folder: Path) -> None:
    """Answer some turns, and end the chat by a signal at any moment after."""
    file, turns = folder / "talk.motet", int(random.integers(1, 4))
    if random.integers(2):
        _good(file, turns=1)
    before = _turns(file)
    chat = ("-m", "motet.cli", "run", TINY, "--session", str(file), *SHORT)
    terminal = Terminal(*chat, PROMPT_TOOLKIT_NO_CPR="1", XDG_STATE_HOME=str(folder / "state"))
    at = terminal.wait_for(READS)
    for _ in range(turns):
        terminal.type("Once upon\r")
        at = terminal.wait_for(READS, at)
    if random.integers(2):
        terminal.type("One day\r")
    time.sleep(float(random.choice([0, 0.005, 0.02, 0.1])))
    ends = [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, None]
    end = ends[random.integers(len(ends))]
    if end is None:
        terminal.hang_up()
    else:
        os.kill(terminal.process, end)
    status = terminal.status()
    seen = f"{end}: status {status}, {terminal.shown!r}"
    assert "Traceback" not in terminal.shown, seen
    expected = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9, None: 129}[end]
    assert status == expected or (end is None and status == 1), seen  # 1: it saw the terminal go
    found = _turns(file)
    assert before + turns <= found <= before + turns + 1, f"{found} turns; {seen}"
    left = _left_behind(folder) - ({".talk.motet.lock"} if end == signal.SIGKILL else set())
    assert not left, f"{left} is left behind; {seen}"
    after = CliRunner().invoke(motet, ["run", TINY, "--session", str(file), "Hi", *SHORT])
    assert after.exit_code == 0, after.stderr
    assert _turns(file) == found + 1


def contended(random: Random, folder: Path) -> None:
    """Several processes on one file: each is told who has it, or takes its turn."""
    file, count = folder / "talk.motet", int(random.integers(2, 5))
    command = [sys.executable, "-m", "motet.cli", "run", TINY, "--session", str(file), "Hi", *SHORT]
    path = os.pathsep.join(filter(None, sys.path))
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for _ in range(count)
    ]
    told = [process.communicate()[1] for process in processes]
    for process, errors in zip(processes, told, strict=True):
        assert process.returncode in (0, 1), errors
        assert process.returncode == 0 or "is in use by " in errors, errors
    done = sum(process.returncode == 0 for process in processes)
    assert done >= 1 and _turns(file) == done, told
    assert not _left_behind(folder)


def _turns(file: Path) -> int:
    """How many the session in ``file`` has; 0 where there is none."""
    if not file.exists():
        return 0
    messages = json.loads(look(file).notes[_NOTE])["messages"]
    return sum(message["role"] == "assistant" for message in messages)


def _left_behind(folder: Path) -> set[str]:
    names = {path.name for path in folder.iterdir()}
    return {name for name in names if name.endswith((".lock", ".tmp"))}


def _contents(file: Path) -> object:
    return file.read_bytes() if file.is_file() else file.lstat().st_mode


@functools.cache
def _model(path: str) -> Model:
    return Model.load(path)


@functools.cache
def _session(path: str, turns: int, setting: str | None = None, kv_type: str = "auto") -> bytes:
    """The bytes of a session."""
    with (
        tempfile.TemporaryDirectory() as name,
        LLM(_model(path), max_sequences=1, self_extend=setting, kv_type=kv_type) as llm,
    ):
        conversation = Conversation(llm, ChatOptions(False, Sampling(seed=1), max_tokens=6))
        for _ in range(turns):
            completion = next(c.completion for c in conversation.answer("Once") if c.completion)
            conversation.add("Once", completion.text)
        conversation.save(Path(name) / "talk")
        return (Path(name) / "talk").read_bytes()


def _good(file: Path, turns: int) -> None:
    file.write_bytes(_session(TINY, turns))


def _flipped(random: Random, file: Path) -> None:
    data = np.frombuffer(_session(TINY, 2), np.uint8).copy()
    where = len(data) if random.integers(2) else 4000  # anywhere, or in the header
    for place in random.integers(where, size=random.integers(1, 5)):
        data[place] ^= 1 << int(random.integers(8))
    file.write_bytes(data.tobytes())


def _cut(random: Random, file: Path) -> None:
    data = _session(TINY, 2)
    file.write_bytes(data[: random.integers(len(data))])


def _longer(random: Random, file: Path) -> None:
    file.write_bytes(_session(TINY, 2) + random.bytes(int(random.integers(1, 99))))


def _noise(random: Random, file: Path) -> None:
    file.write_bytes(random.bytes(int(random.integers(0, 300))))


def _text(random: Random, file: Path) -> None:
    file.write_bytes("Dear diary…\n".encode()[: random.integers(14)])


def _gguf(_: Random, file: Path) -> None:
    file.write_bytes(Path(TINY).read_bytes())


def _foreign(random: Random, file: Path) -> None:
    """Of another model, or of other settings."""
    path, setting = [(OTHER, None), (TINY, "auto"), (TINY, None)][random.integers(3)]
    file.write_bytes(_session(path, 2, setting, ["auto", "f32"][random.integers(2)]))


def _forged(random: Random, file: Path) -> None:
    """A sound state file whose notes are no conversation, or one that makes little sense."""
    odd: list[Any] = [None, -1, 1 << 70, 1e300, "", "x" * 5000, [], {}, [{}], "\ud800", True]
    odd += [[{"role": "user", "content": "a"}], [{"role": "\x1b[2J", "content": "\x00"}] * 3]
    with LLM(_model(TINY), max_sequences=1) as llm:
        conversation = Conversation(llm, ChatOptions(False, Sampling(seed=1)))
        conversation.add("Once", " upon")
        conversation.save(file)
        facts = json.loads(llm.notes(file)[_NOTE])
        keys = [*facts, "more"]
        for _ in range(random.integers(1, 3)):
            facts[keys[random.integers(len(keys))]] = odd[random.integers(len(odd))]
        notes = {_NOTE: json.dumps(facts)} if random.integers(9) else {"other": "x"}
        llm.save(file, notes)


def _no_file(random: Random, file: Path) -> None:
    kind = random.integers(4)
    if kind == 0:
        file.mkdir()
    elif kind == 1:
        os.mkfifo(file)
    elif kind == 2:
        file.symlink_to(file.name)
    else:
        file.symlink_to("/dev/zero")


_DAMAGE: dict[str, Callable[[Random, Path], None]] = {
    "flipped": _flipped,
    "cut": _cut,
    "longer": _longer,
    "noise": _noise,
    "text": _text,
    "gguf": _gguf,
    "foreign": _foreign,
    "forged": _forged,
    "no file": _no_file,
}

if __name__ == "__main__":
    main(case, __doc__ or "", seconds=90, memory=64 << 30)
