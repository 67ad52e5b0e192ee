import io
import sys

import pytest

from motet.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_one_line_on_a_terminal_that_goes_away(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress() as show:
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
    with pytest.raises(KeyboardInterrupt), progress() as show:
        show(1, 4, "50 %")
        raise KeyboardInterrupt
    assert sys.stderr.getvalue().endswith(": 50 %\r\x1b[K")  # type: ignore[attr-defined]


def test_a_line_each_in_a_file(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with progress() as show:
        show(1, 4, "50 %")
        show(4, 4, "25 %")
    assert sys.stderr.getvalue() == "1 of 4: 50 %\n4 of 4: 25 %\n"  # type: ignore[attr-defined]
