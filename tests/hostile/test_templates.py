"""Hostile templates: those that once got through, and a share of the random ones."""

import pytest

from motet.errors import TokenizerError
from motet.tokenizer import chat, sandbox
from tests.hostile.harness import run
from tests.hostile.template_attacks import ATTACKS
from tests.hostile.templates import TALK, TOKENIZER, attack

ONCE_THROUGH = (
    *("compare", "in", "str in an error", "hash of tuples", "round up", "long division"),
    *("joined numbers", "tojson indent", "indent", "percent widths", "format widths"),
    *("strftime", "bytes ljust", "to_bytes", "slices at once"),
)


@pytest.mark.parametrize("name", ONCE_THROUGH)
def test_a_known_attack(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.3)
    with pytest.raises(
        TokenizerError, match=r"the chat template (takes more than|makes more than)"
    ):
        chat.render(ATTACKS[name], TALK, TOKENIZER)


def test_a_share_of_the_attacks() -> None:
    report = run(attack, range(16), seconds=60, memory=1 << 28)
    assert not report.failures, report
    assert report.answered + report.refused == 16
