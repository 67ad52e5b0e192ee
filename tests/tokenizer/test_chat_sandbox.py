"""The process that renders chat templates: kept, replaced, never left behind."""

import gc
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from motet.errors import TokenizerError
from motet.tokenizer import sandbox
from motet.tokenizer.sandbox import TemplateSandbox

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
LARGE = "{{ 'a' * 10 ** 9 }}"
HELLO = "hello {{ messages }}"


@pytest.fixture
def templates(monkeypatch: pytest.MonkeyPatch) -> TemplateSandbox:
    monkeypatch.setattr(sandbox, "SECONDS", 0.3)
    return TemplateSandbox()


def hello(templates: TemplateSandbox, name: str = "you") -> None:
    assert templates.render(HELLO, name) == f"hello {name}"


def children() -> dict[int, str]:
    """Pid -> state ("Z": a zombie) of the processes that this one began to render templates."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rsplit(")", 1)[1].split()[:2]
            command = path.with_name("cmdline").read_text()
        except OSError:  # it ended meanwhile
            continue
        if int(parent) == os.getpid() and (state == "Z" or "sandbox_process" in command):
            found[int(path.parent.name)] = state
    return found


def begun(templates: TemplateSandbox) -> int:
    """The one process of ``templates``, which is begun if need be."""
    before = children()
    hello(templates)
    (pid,) = children().keys() - before.keys()
    return pid


def within(seconds: float, happens: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def run_script(script: str, *args: str, **options: object) -> subprocess.CompletedProcess:
    head = "from motet.tokenizer.sandbox import TemplateSandbox\n"
    return subprocess.run(
        [sys.executable, "-c", head + script, *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def test_one_process_is_kept(templates: TemplateSandbox) -> None:
    before = children()
    for name in "abc":
        hello(templates, name)
        with pytest.raises(TokenizerError, match="refuses this conversation: no"):
            templates.render("{{ raise_exception('no') }}", [])
    assert len(children().keys() - before.keys()) == 1


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (ENDLESS, r"takes more than 0\.3 seconds of processor time"),
        (LARGE, "takes more than 128 MB of memory"),
        ("{{ 'a' * 9999999 }}", "makes more than 1 MB of text"),
    ],
)
def test_what_takes_too_much_ends_it(
    templates: TemplateSandbox, template: str, problem: str
) -> None:
    before = children()
    for _ in range(2):
        with pytest.raises(TokenizerError, match=f"the chat template {problem}"):
            templates.render(template, [])
        assert children().keys() <= before.keys(), "it is waited for"
        hello(templates)


def test_one_that_was_killed_is_replaced(templates: TemplateSandbox) -> None:
    pid = begun(templates)
    os.kill(pid, signal.SIGKILL)
    assert within(10, lambda: children()[pid] == "Z")
    hello(templates)
    assert pid not in children()


def test_one_killed_while_it_renders(templates: TemplateSandbox, monkeypatch) -> None:
    """One that had rendered before gets a second try, a new one does not."""
    monkeypatch.setattr(sandbox, "SECONDS", 60)
    others, over = children().keys(), threading.Event()
    begun(templates)

    def kill() -> None:
        while not over.wait(0.2):
            for pid in children().keys() - others:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(TokenizerError, match="ended with code -9"):
            templates.render(ENDLESS, [])
    finally:
        over.set()
        killer.join()
    hello(templates)


def test_one_that_stands_still_is_given_up(templates: TemplateSandbox, monkeypatch) -> None:
    pid = begun(templates)
    monkeypatch.setattr(sandbox, "SECONDS", 0.01)
    monkeypatch.setattr(sandbox, "WAIT", 0.1)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(TokenizerError, match="stands still"):
        templates.render(HELLO, "you")
    assert pid not in children()


def test_it_ends_with_its_owner() -> None:
    owner = TemplateSandbox()
    pid = begun(owner)
    del owner
    gc.collect()
    assert pid not in children()


PID = "import os, time\nt = TemplateSandbox()\nt.render('', [])\n" + (
    "print(t._worker._idle._popen.pid, flush=True)\n"
)


@pytest.mark.parametrize("end", ["", "os._exit(3)", "os.kill(os.getpid(), 9)", "raise SystemExit"])
def test_it_ends_with_the_interpreter(end: str) -> None:
    done = run_script(PID + end)
    assert done.stderr == ""
    stat = Path("/proc") / done.stdout.strip() / "stat"
    assert within(10, lambda: not stat.exists() or ") Z " in stat.read_text())


def test_threads_take_turns(templates: TemplateSandbox) -> None:
    before, problems = children(), []

    def chat(name: str) -> None:
        for turn in range(10):
            try:
                hello(templates, name)
                if name == "7" and turn % 5 == 0:
                    with pytest.raises(TokenizerError, match="takes more than"):
                        templates.render(LARGE if turn else ENDLESS, [])
            except BaseException as error:
                problems.append(error)

    threads = [threading.Thread(target=chat, args=(str(n),)) for n in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(children().keys() - before.keys()) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_has_its_own(templates: TemplateSandbox) -> None:
    """Also when a thread that the fork does not have was rendering."""
    begun(templates)
    over = threading.Event()

    def busy() -> None:
        while not over.is_set():
            hello(templates)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(10):
            fork = os.fork()
            if not fork:
                signal.alarm(60)
                try:
                    hello(templates, "fork")
                    os._exit(0 if len(children()) == 1 else 1)
                finally:
                    os._exit(9)
            assert os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]) == 0
    finally:
        over.set()
        thread.join()
    hello(templates)


def rendered_elsewhere(name: str) -> str:
    return TemplateSandbox().render(HELLO, name)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_of_multiprocessing(method: str) -> None:
    """They are daemons, which may have no children of multiprocessing's."""
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(rendered_elsewhere, "ab") == ["hello a", "hello b"]


def test_interrupted_it_is_replaced(templates: TemplateSandbox, monkeypatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 60)
    pid = begun(templates)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            templates.render(ENDLESS, [])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert pid not in children()
    hello(templates)


def test_an_interrupt_of_the_terminal_is_not_for_it(templates: TemplateSandbox) -> None:
    pid = begun(templates)
    assert os.getsid(pid) != os.getsid(0) and os.getpgid(pid) != os.getpgid(0)


@pytest.fixture
def signals() -> Iterator[None]:
    kinds = (signal.SIGCHLD, signal.SIGPIPE, signal.SIGPROF)
    before = [signal.getsignal(kind) for kind in kinds]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for kind, handler in zip(kinds, before, strict=True):
        signal.signal(kind, handler)


def test_signals_that_others_have_ignored_or_blocked(
    templates: TemplateSandbox, signals: None
) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # then exit codes are lost
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})
    os.kill(begun(templates), signal.SIGKILL)
    hello(templates)
    with pytest.raises(TokenizerError, match="takes more than"):
        templates.render(ENDLESS, [])
    hello(templates)


LIMITED = """
import resource, sys
from motet.errors import MotetError
import multiprocessing.spawn, socket, subprocess
kind, limit = sys.argv[1:]
resource.setrlimit(getattr(resource, kind), (int(limit), int(limit)))
try:
    print(TemplateSandbox().render("{{ 1 + 1 }}", []))
except MotetError as error:
    print(error)
"""


def test_under_limits() -> None:
    assert run_script(LIMITED, "RLIMIT_NOFILE", "20").stdout == "2\n"
    refused = run_script(LIMITED, "RLIMIT_NOFILE", "4")
    assert "no process can be started" in refused.stdout and "open files" in refused.stdout
    assert run_script(LIMITED, "RLIMIT_AS", str(1 << 30)).stdout == "2\n"
    assert run_script(LIMITED, "RLIMIT_FSIZE", "0").stdout == "2\n"
    assert run_script(LIMITED, "RLIMIT_CORE", "0").stdout == "2\n"


def test_a_limit_of_the_system_holds_too() -> None:
    script = LIMITED.replace("1 + 1", "('a' * 50000000) | length")
    assert run_script(script, "RLIMIT_AS", str(1 << 30)).stdout == "50000000\n"
    none = run_script(script, "RLIMIT_AS", "1").stdout
    assert "ended with code" in none and "it needs 30 MB of memory" in none


def test_where_there_is_no_python(templates: TemplateSandbox, monkeypatch) -> None:
    monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda: "/nonexistent/python")
    with pytest.raises(TokenizerError, match="no process can be started"):
        templates.render(HELLO, [])
    monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda: "/bin/false")
    with pytest.raises(TokenizerError, match="ended with code 1"):
        templates.render(HELLO, [])
    assert "Z" not in children().values()


def test_without_standard_streams() -> None:
    script = "import os, sys\nfor n in range(3): os.close(n)\n" + (
        "text = TemplateSandbox().render('{{ 1 + 1 }}', [])\nos._exit(text != '2')"
    )
    assert run_script(script).returncode == 0


def test_it_can_open_no_file_and_start_no_process(templates: TemplateSandbox) -> None:
    pid = begun(templates)
    for kind, most in ((resource.RLIMIT_NOFILE, 3), (resource.RLIMIT_NPROC, 0)):
        assert resource.prlimit(pid, kind) == (most, most)
    with pytest.raises(TokenizerError, match="Too many open files"):
        templates.render("{{ 'a'.encode('cp037') }}", [])  # would read the codec's file


def test_given_what_json_says(templates: TemplateSandbox) -> None:
    value = [1, 2.5, None, True, "é😀\ud800\0", {"a": [], "b": {}}, float("inf"), 10**40]
    assert templates.render("{{ messages }}", value) == str(value)
    for wrong in (b"a", {1, 2}, object(), {(1,): 2}, 10**9999):
        with pytest.raises(TokenizerError, match="what JSON cannot say"):
            templates.render("", wrong)
    loop: list = []
    loop.append(loop)
    with pytest.raises(TokenizerError, match="what JSON cannot say"):
        templates.render("", loop)


def test_long_conversations_may_take_more(templates: TemplateSandbox) -> None:
    words = ["word " * 20000] * 300
    assert len(templates.render("{{ messages | join }}", words)) == 30_000_000


def test_memory_of_the_process_is_bounded(templates: TemplateSandbox) -> None:
    """Whatever came before: what is left of earlier renderings counts too."""
    status = Path("/proc") / str(begun(templates)) / "status"
    for _ in range(20):
        templates.render("{{ ('a' * 40000000) | length }}{{ range(99999) | list | length }}", [])
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) << 10 < 200 << 20
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 3  # ours are as they were
