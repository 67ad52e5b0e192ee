import io
import sys
import time

from motet.cli import patience


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def wait_until_shown(stream: io.StringIO, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert text in stream.getvalue()


def test_what_takes_long_says_how_far_it_has_come(monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    done = 0.25
    with patience.waiting("loading", lambda: done) as stop:
        wait_until_shown(sys.stderr, "\rloading  25 %")  # type: ignore[arg-type]
        done = 0.5
        wait_until_shown(sys.stderr, "\rloading  50 %")  # type: ignore[arg-type]
        stop()
        assert sys.stderr.getvalue().endswith("\r\x1b[K")  # type: ignore[attr-defined]


def test_where_nobody_knows_how_far_it_is_there_is_no_number(monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with patience.waiting("saving"):
        wait_until_shown(sys.stderr, "\rsaving…")  # type: ignore[arg-type]


def test_what_is_quick_says_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with patience.waiting("loading", lambda: 0.5):
        pass
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_nothing_is_said_where_nobody_looks(monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with patience.waiting("loading", lambda: 0.5):
        time.sleep(0.05)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
