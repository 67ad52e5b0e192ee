"""What ``motet show`` says of positions and of Self-Extend."""

import re
from pathlib import Path

import pytest

from motet.self_extend import AutoExtend, relative_positions
from tests.cli.test_show import LLAMA, facts, model, show
from tests.models import tiny
from tests.parity.test_goldens import FOLDER


def shown_rows(path: Path) -> tuple[str, str]:
    """The two rows of the table."""
    text = show(path).stdout
    rows = [re.search(rf"{name} +(.*)", text) for name in ("positional encoding", "Self-Extend")]
    encoding, auto = (row.group(1).strip() for row in rows if row)
    return encoding, auto.removeprefix("auto").strip()


def test_what_auto_would_choose(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.gguf", tiny.metadata("llama"))
    positions = facts(path)["positions"]
    assert positions == {
        "encoding": "rotary, base 10000",
        "auto": [
            {"tokens": tokens, "group": group, "window": 64}
            for tokens, group in ((512, 8), (1024, 16), (2048, 32), (4096, 64))
        ],
    }
    for choice in positions["auto"]:
        farthest = relative_positions(choice["tokens"], choice["group"], choice["window"])[-1, 0]
        assert farthest <= 256 * 2 / 3 + 1
        assert choice["window"] == AutoExtend().window_of(256)
    assert shown_rows(path) == (
        "rotary, base 10000",
        "window 64; groups of 8 at 512 tokens, 16 at 1024, 32 at 2048, 64 at 4096",
    )


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("gemma2", "rotary, base 10000"),
        ("gemma3", "rotary, base 1000, linear scaling by 8; in sliding layers base 100"),
        ("llama_yarn", "rotary, base 100, yarn scaling by 4"),
        ("starcoder2", "rotary, base 1000"),
        ("mpt", "ALiBi"),
    ],
)
def test_encodings(name: str, encoding: str) -> None:
    assert shown_rows(FOLDER / f"{name}.gguf")[0] == encoding


def test_partial_rotation(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.gguf", tiny.metadata("llama", rope__dimension_count=2))
    assert shown_rows(path)[0] == "rotary, base 10000, 2 of 4 channels"


@pytest.mark.parametrize(
    ("name", "encoding", "why"),
    [
        ("mistral", "rotary", "has sliding layers alone, whose window bounds every distance"),
        ("jamba", "none", "attends without positions (a longer context needs nothing)"),
        ("gpt2", "learned, a vector for each", "has a learned vector for each place"),
        ("mamba2", "none", "is recurrent: it has no positions"),
        ("rwkv6", "none", "is recurrent: it has no positions"),
    ],
)
def test_why_it_means_nothing(name: str, encoding: str, why: str) -> None:
    path = FOLDER / f"{name}.gguf"
    assert encoding in shown_rows(path)[0]
    assert shown_rows(path)[1].startswith("no: ") and why in shown_rows(path)[1]
    assert why in facts(path)["positions"]["no_self_extend"]


def test_an_architecture_that_motet_does_not_run(tmp_path: Path) -> None:
    keys = {
        name.replace("llama.", "unheard-of."): value
        for name, value in tiny.metadata("llama").items()
    }
    keys["general.architecture"] = "unheard-of"
    tensors = {"token_embd.weight": (40, 16)}
    path = tiny.write(tmp_path / "m.gguf", keys, tensors)
    assert shown_rows(path) == ("–", "no: Motet does not run this architecture")


def test_files_that_say_too_little_or_nonsense(tmp_path: Path) -> None:
    keys = {key: value for key, value in LLAMA.items() if "epsilon" not in key}
    shown = facts(model(tmp_path / "a.gguf", "llama", keys))["positions"]
    assert shown["encoding"] is None and "layer_norm_rms_epsilon" in shown["no_self_extend"]
    assert facts(model(tmp_path / "b.gguf", "what", {}))["positions"]["encoding"] is None
    shown = facts(model(tmp_path / "d.gguf", "llama", LLAMA | {"logit_scale": 2}))["positions"]
    assert shown["encoding"] is None and "llama.logit_scale = 2" in shown["no_self_extend"]
    path = tiny.write(tmp_path / "c.gguf", tiny.metadata("llama", context_length=1))
    assert "window is 1" in facts(path)["positions"]["no_self_extend"]
