import io
import sys
import time

import pytest

from motet.cli import progress
from motet.cli.progress import delayed_progress, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def wait_until_shown(stream: io.StringIO, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in stream.getvalue() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert text in stream.getvalue()


def test_a_slow_step_shows_its_percentage(monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    done = 0.25
    with delayed_progress("loading", lambda: done) as stop:
        wait_until_shown(sys.stderr, "\rloading  25 %")  # type: ignore[arg-type]
        done = 0.5
        wait_until_shown(sys.stderr, "\rloading  50 %")  # type: ignore[arg-type]
        stop()
        assert sys.stderr.getvalue().endswith("\r\x1b[K")  # type: ignore[attr-defined]


def test_without_a_fraction_there_is_no_percentage(monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with delayed_progress("saving"):
        wait_until_shown(sys.stderr, "\rsaving…")  # type: ignore[arg-type]


def test_a_quick_step_shows_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with delayed_progress("loading", lambda: 0.5):
        pass
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_nothing_is_shown_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with delayed_progress("loading", lambda: 0.5):
        time.sleep(0.05)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_one_line_on_a_terminal_that_goes_away(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar() as show:
        show(1, 4, "50 %")
        show(4, 4, "25 %")
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "\n" not in said
    first, second, last = said.removeprefix("\r\x1b[K").split("\r\x1b[K")
    assert first.count("━") * 4 == second.count("━") > 0
    assert first.endswith(" 1 of 4: 50 %") and second.endswith(" 4 of 4: 25 %")
    assert len(first) == len(second)
    assert last == ""


def test_it_goes_away_when_something_fails(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyboardInterrupt), progress_bar() as show:
        show(1, 4, "50 %")
        raise KeyboardInterrupt
    assert sys.stderr.getvalue().endswith(": 50 %\r\x1b[K")  # type: ignore[attr-defined]


def test_a_line_each_in_a_file(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress_bar() as show:
        show(1, 4, "50 %")
        show(4, 4, "25 %")
    assert sys.stderr.getvalue() == "1 of 4: 50 %\n4 of 4: 25 %\n"  # type: ignore[attr-defined]
