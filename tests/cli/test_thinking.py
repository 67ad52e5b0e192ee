"""What a model thinks, as ``motet run`` shows it."""

import sys

import pytest

from motet.cli.output import print_stream
from tests.chat_formats.templates import HERMES
from tests.llm.making import make
from tests.scripted import ByteTokenizer, ScriptedModel, saying


@pytest.mark.parametrize("terminal", (True, False))
def test_thoughts_come_first_and_on_terminals_alone(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    rule = saying("<think>\nhm \x1b\n</think>\n\nFine.")
    with make(ScriptedModel(rule, ByteTokenizer(HERMES))) as llm:
        asked = [{"role": "user", "content": "How"}]
        completion = print_stream(llm.chat(asked, temperature=0, stream=True))
    shown = capsys.readouterr().out
    assert completion.text == "Fine."
    if terminal:
        assert shown.count("\x1b[2m") > 0 and "hm" in shown.replace("\x1b[2m", "").replace(
            "\x1b[0m", ""
        )
        assert shown.endswith("\n\nFine.") and "\x1b\x1b" not in shown
    else:
        assert shown == "Fine."
