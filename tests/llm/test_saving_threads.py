"""Who reads and writes state files: the caller's thread, while the engine goes on."""

import io
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

from motet.engine import engine
from motet.errors import CapacityError, MotetError, OptionError, StateFileError
from motet.llm import LLM
from motet.model import Model
from motet.state import file_objects
from motet.weights import fingerprint
from tests.models import tiny

PROMPTS = [[1, 2, 3, 4, 5] * 9, [1, 2, 3, 4, 5] * 4 + [7] * 30, [9, 8, 7] * 8]


@pytest.fixture(scope="module", params=["llama", "gemma3", "mamba", "jamba"])
def model(request, tmp_path_factory):
    return tiny.load(tmp_path_factory.mktemp("models"), request.param)


def ask(llm: LLM, prompt: list[int], count: int = 8):
    return llm.generate(prompt, max_tokens=count, seed=1)


class Recording(io.BytesIO):
    """Notes the threads that use it."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(data)
        self.threads = set[int]()

    def _note(self) -> None:
        self.threads.add(threading.get_ident())

    def write(self, data) -> int:
        self._note()
        return super().write(data)

    def readinto(self, buffer) -> int:
        self._note()
        return super().readinto(buffer)

    def tell(self) -> int:
        self._note()
        return super().tell()

    def seek(self, *where) -> int:
        self._note()
        return super().seek(*where)


def test_files_and_fingerprints_are_the_callers_work(model, monkeypatch):
    threads: list[int] = []
    own = fingerprint.fingerprint_of

    def noted(file, digests):
        threads.append(threading.get_ident())
        return own(file, digests)

    monkeypatch.setattr("motet.model.fingerprint_of", noted)
    here = threading.get_ident()
    uses: list[Callable[[LLM, Recording], object]] = [
        lambda llm, file: llm.save(file, {"a": "b"}),
        lambda llm, file: llm.restore(file),
        lambda llm, file: llm.restore(file, adopt_self_extend=True),
        lambda llm, file: llm.notes(file),
    ]
    data = b""
    for use in uses:
        model._fingerprint = None
        file = Recording(data)
        with LLM(model, max_sequences=3) as llm:
            ask(llm, PROMPTS[0])
            use(llm, file)
        data = data or file.getvalue()
        assert file.threads == {here}
    assert set(threads) <= {here}


class Standing(io.BytesIO):
    """Waits in the call that moves byte ``at``, until it is let go."""

    def __init__(self, data: bytes, at: int) -> None:
        super().__init__(data)
        self.at, self.reached, self.go = at, threading.Event(), threading.Event()

    def _wait(self, count: int) -> None:
        if self.tell() <= self.at < self.tell() + count:
            self.reached.set()
            assert self.go.wait(60)

    def write(self, data) -> int:
        self._wait(len(data))
        return super().write(data)

    def readinto(self, buffer) -> int:
        self._wait(len(buffer))
        return super().readinto(buffer)


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_answers_go_on_while_a_file_object_stands_still(model, share):
    """Also where there is no sequence left over."""
    with LLM(model, max_sequences=2) as llm:
        expected = [ask(llm, prompt).tokens for prompt in PROMPTS]
        plain = io.BytesIO()
        llm.save(plain)
        held = llm.held()
        at = int(len(plain.getvalue()) * share)
        for use, data in ((llm.save, b""), (llm.restore, plain.getvalue())):
            file = Standing(data, at)
            thread = threading.Thread(target=use, args=(file,))
            thread.start()
            assert file.reached.wait(60)
            assert [ask(llm, prompt).tokens for prompt in PROMPTS] == expected
            file.go.set()
            thread.join(60)
            assert not thread.is_alive()
            if use == llm.save:
                assert file.getvalue() == plain.getvalue()
        assert sorted(llm.held()) == sorted(held)


def slow_writes(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Let the second write to a file wait; (it has begun, it may go on)."""
    write, began, go = file_objects.Sink.write, threading.Event(), threading.Event()
    calls: list[None] = []

    def slow(self, data) -> None:
        calls.append(None)
        if len(calls) == 2:
            began.set()
            assert go.wait(60)
        write(self, data)

    monkeypatch.setattr(file_objects.Sink, "write", slow)
    return began, go


def test_what_is_written_to_a_path_stays_until_it_is(model, tmp_path, monkeypatch):
    """Other requests take what is left, or wait; prefixes can be gone on from."""
    with LLM(model, max_sequences=3) as llm:
        expected = [ask(llm, prompt, 20) for prompt in PROMPTS]
        llm.forget()
        for prompt in PROMPTS[:2]:
            ask(llm, prompt)
        llm.save(tmp_path / "plain")
        began, go = slow_writes(monkeypatch)
        saving = threading.Thread(target=llm.save, args=(tmp_path / "slow",))
        saving.start()
        assert began.wait(60)
        assert llm.held() == [len(PROMPTS[0]) + 7, len(PROMPTS[1]) + 7]
        for prompt, answer in zip(PROMPTS, expected, strict=True):
            again = ask(llm, prompt, 20)
            assert again.tokens == answer.tokens
            assert again.usage.cached_tokens == (len(prompt) - 1) * (prompt != PROMPTS[2])
        llm.save(tmp_path / "meanwhile")
        with pytest.raises(CapacityError, match=r"3 conversations .* 1 sequences are free"):
            llm.restore(tmp_path / "meanwhile")
        two = llm.generate(PROMPTS[0], n=2, max_tokens=20, seed=1, stream=True)
        cancelled = llm.generate(PROMPTS[0], n=3, max_tokens=20, stream=True)
        time.sleep(0.2)
        assert two.prompt_progress == 0
        cancelled.close()
        llm.forget()
        assert llm.held() == []
        go.set()
        saving.join(60)
        tokens = {chunk.index: chunk.completion.tokens for chunk in two if chunk.completion}
        assert tokens[0] == expected[0].tokens
        assert (tmp_path / "slow").read_bytes() == (tmp_path / "plain").read_bytes()
        llm.forget()
        llm.restore(tmp_path / "meanwhile")
        assert len(llm.held()) == 3


def test_closed_or_changed_while_a_file_is_written(model, tmp_path, monkeypatch):
    llm = LLM(model, max_sequences=3)
    ask(llm, PROMPTS[0])
    llm.save(tmp_path / "plain")
    began, go = slow_writes(monkeypatch)
    saving = threading.Thread(target=llm.save, args=(tmp_path / "slow",))
    saving.start()
    assert began.wait(60)
    llm.close()
    go.set()
    saving.join(60)
    assert (tmp_path / "slow").read_bytes() == (tmp_path / "plain").read_bytes()


@pytest.mark.parametrize("model", ["llama"], indirect=True)
def test_the_context_is_changed_while_a_file_is_written(model, tmp_path, monkeypatch):
    with LLM(model, max_sequences=3) as llm:
        ask(llm, PROMPTS[0])
        llm.save(tmp_path / "plain")
        began, go = slow_writes(monkeypatch)
        saving = threading.Thread(target=llm.save, args=(tmp_path / "slow",))
        saving.start()
        assert began.wait(60)
        llm.self_extend = "auto"
        ask(llm, PROMPTS[1])
        go.set()
        saving.join(60)
        assert (tmp_path / "slow").read_bytes() == (tmp_path / "plain").read_bytes()
        assert len(llm.held()) == 1


class Unable:
    """A file object that can read and write a while, and then ``acts``."""

    def __init__(self, data: bytes, after: int, acts: Callable[[Any], Any], calls: str) -> None:
        self._file, self._after, self._acts = io.BytesIO(data), after, acts
        if calls == "readinto":
            self.readinto = self._readinto

    def _readinto(self, buffer) -> Any:
        if self._file.tell() >= self._after:
            return self._acts(buffer)
        return self._file.readinto(buffer[:1000])

    def read(self, count: int) -> Any:
        if self._file.tell() >= self._after:
            return self._acts(bytes(count))
        return self._file.read(min(count, 1000))

    def write(self, data) -> Any:
        if self._file.tell() >= self._after:
            return self._acts(data)
        return self._file.write(data[:1000])

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, at: int) -> int:
        return self._file.seek(at)


def raising(error: BaseException) -> Callable[[Any], Any]:
    def act(data) -> Any:
        raise error

    return act


MISDEEDS: dict[str, tuple[Callable[[Any], Any], type[BaseException] | None]] = {
    "none": (lambda data: None, None),
    "zero": (lambda data: 0, None),
    "minus one": (lambda data: -1, None),
    "more than asked": (lambda data: len(data) + 1, None),
    "far more": (lambda data: 1 << 80, None),
    "a string": (lambda data: "all", None),
    "too many bytes": (lambda data: bytes(len(data) + 1), None),
    "no bytes": (lambda data: b"", None),
    "a float": (lambda data: 1.0, None),
    "nan": (lambda data: float("nan"), None),
    "a list": (lambda data: [1], None),
    "an error": (raising(ValueError("mine")), ValueError),
    "Ctrl-C": (raising(KeyboardInterrupt()), KeyboardInterrupt),
    "the end": (raising(SystemExit()), SystemExit),
    "a generator's end": (raising(GeneratorExit()), GeneratorExit),
    "no more of an iterator": (raising(StopIteration()), OptionError),
    "memory": (raising(MemoryError()), MemoryError),
    "its own": (raising(StateFileError("mine")), StateFileError),
}


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """An LLM with two sequences, and its state."""
    model = tiny.load(tmp_path_factory.mktemp("models"), "jamba")
    with LLM(model, max_sequences=2) as llm:
        answer, file = ask(llm, PROMPTS[0]), io.BytesIO()
        llm.save(file)
        yield llm, file.getvalue(), answer.tokens


@pytest.mark.parametrize("calls", ["readinto", "read", "write"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("name", MISDEEDS)
def test_file_objects_that_misbehave(busy, name, share, calls):
    llm, data, tokens = busy
    acts, error = MISDEEDS[name]
    kinds = (error,) if error else (MotetError,)
    held = llm.held()
    for use in (llm.save,) if calls == "write" else (llm.restore, llm.notes):
        file = Unable(b"" if calls == "write" else data, int(len(data) * share), acts, calls)
        if (name == "none" and calls == "write") or (use == llm.notes and share):
            use(file)  # a write that says nothing takes all; notes are at the beginning
            continue
        with pytest.raises(kinds):
            use(file)
        assert llm.held() == held
    again = ask(llm, PROMPTS[0])
    assert (again.tokens, again.usage.cached_tokens) == (tokens, len(PROMPTS[0]) - 1)


@pytest.mark.parametrize("file", [None, 5, b"state", [1], object()])
def test_what_is_no_file(busy, file):
    llm, _, _ = busy
    for use in (llm.save, llm.restore, llm.notes, lambda f: llm.restore(f, adopt_self_extend=True)):
        with pytest.raises(OptionError, match="file is"):
            use(file)


@pytest.mark.parametrize("notes", [[1], "text", 5, {"a": 1}])
def test_what_are_no_notes(busy, notes):
    llm, _, _ = busy
    file = io.BytesIO()
    with pytest.raises(OptionError, match="notes"):
        llm.save(file, notes)
    assert not file.getvalue()


def test_a_restore_that_fails_leaves_the_prefix_cache(model, tmp_path):
    file = tmp_path / "state"
    with LLM(model, max_sequences=3) as llm:
        for prompt in PROMPTS:
            ask(llm, prompt)
        llm.save(file)
    data = file.read_bytes()
    with LLM(model, max_sequences=3, max_tokens=55) as llm:
        expected = [ask(llm, [5, 6, n] * 10).tokens for n in range(3)]
        held = llm.held()
        with pytest.raises(CapacityError, match="has 57 tokens and the context holds 55"):
            llm.restore(file)
        for at in (len(data) - 1, len(data) // 2):
            file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            with pytest.raises((StateFileError, CapacityError)):
                llm.restore(file)
        assert llm.held() == held
        for n in range(3):
            again = ask(llm, [5, 6, n] * 10)
            assert (again.tokens, again.usage.cached_tokens) == (expected[n], 29)


def test_a_wait_that_is_interrupted_does_nothing_later(busy, monkeypatch):
    """Ctrl-C while the engine is busy: what has not begun is not done."""
    llm, _, _ = busy
    held = llm.held()
    go = threading.Event()
    blocker = threading.Thread(target=lambda: llm._engine._between_steps(lambda: go.wait(60)))
    blocker.start()

    class Interrupted(SimpleQueue[Any]):
        def get(self, *args: Any) -> Any:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        job = engine.Job
        patch.setattr(engine, "Job", lambda work: job(work, Interrupted()))
        with pytest.raises(KeyboardInterrupt):
            llm.forget()
    go.set()
    blocker.join(60)
    assert llm.held() == held


def tight(model: Model, sequences: float) -> LLM:
    """With memory for so many sequences of 100 tokens."""
    with LLM(model, max_sequences=4) as llm:
        ask(llm, [1] * 92, 9)
        used = llm._engine._context.memory.used_bytes
    return LLM(model, max_sequences=4, kv_bytes=int(used * sequences), checkpoint_bytes=0)


@pytest.mark.parametrize("model", ["llama", "jamba"], indirect=True)
def test_a_restore_evicts_more_where_memory_is_short(model):
    """Or nothing, where that does not help."""
    with tight(model, 3.5) as llm:
        said = [[2] * 92, ask(llm, [2] * 92, 9).tokens]
        file = io.BytesIO()
        llm.save(file)
        llm.forget()
        for n in (3, 4, 5):
            ask(llm, [n] * 92, 9)
        assert llm.held() == [100] * 3
        file.seek(0)
        llm.restore(file)
        assert llm.held() == [100] * 3
        assert ask(llm, [*said[0], *said[1], 5], 1).usage.cached_tokens == 100
    with tight(model, 0.9) as llm:
        ask(llm, [2] * 20)
        file.seek(0)
        with pytest.raises(CapacityError, match="kv_bytes"):
            llm.restore(file)
        assert llm.held() == [27]


@pytest.mark.parametrize("model", ["llama", "jamba"], indirect=True)
def test_answers_wait_for_memory_that_is_being_saved(model, tmp_path, monkeypatch):
    with tight(model, 2.5) as llm:
        expected = ask(llm, [7] * 92, 9).tokens
        llm.forget()
        for n in (3, 4):
            ask(llm, [n] * 92, 9)
        began, go = slow_writes(monkeypatch)
        saving = threading.Thread(target=llm.save, args=(tmp_path / "slow",))
        saving.start()
        assert began.wait(60)
        with llm.generate([7] * 92, max_tokens=9, seed=1, stream=True) as stream:
            time.sleep(0.1)
            held = llm.held()
            go.set()
            tokens = [chunk.completion.tokens for chunk in stream if chunk.completion]
        saving.join(60)
        assert tokens == [expected]
        assert held == [100, 100]
