import io
import sys

from motet.cli.progress import end_progress, show_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_one_line_on_a_terminal_that_goes_away(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    show_progress(1, 4, "50 %")
    show_progress(4, 4, "25 %")
    end_progress()
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "\n" not in said
    first, second, last = said.removeprefix("\r\x1b[K").split("\r\x1b[K")
    assert first.count("━") * 4 == second.count("━") > 0
    assert first.endswith(" 1 of 4: 50 %") and second.endswith(" 4 of 4: 25 %")
    assert last == ""


def test_a_line_each_in_a_file(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    show_progress(1, 4, "50 %")
    show_progress(4, 4, "25 %")
    end_progress()
    assert sys.stderr.getvalue() == "1 of 4: 50 %\n4 of 4: 25 %\n"  # type: ignore[attr-defined]
