"""``motet tokenize``."""

import json

from click.testing import CliRunner, Result

from motet.cli.tokenize import command
from tests.shared import SHARED, needs_shared

MODEL = str(SHARED / "stories260K" / "stories260K-F32.gguf")
LLAMA3 = str(SHARED / "tokenizers" / "ggml-vocab-llama-bpe.gguf")

pytestmark = needs_shared


def run(*arguments: str, text: str | bytes | None = None) -> Result:
    return CliRunner().invoke(command, arguments, input=text)


def test_a_table() -> None:
    result = run(MODEL, "Once upon")
    assert result.exit_code == 0
    assert result.stdout == '  1  "<s>"\n403  " Once"\n407  " upon"\n'


def test_ids_alone() -> None:
    assert run(MODEL, "Once upon", "--ids").stdout == "1 403 407\n"
    assert run(MODEL, "Once upon", "--ids", "--no-special").stdout == "403 407\n"


def test_text_from_standard_input_is_taken_as_it_is() -> None:
    assert run(MODEL, "--ids", text="Once upon\n").stdout == "1 403 407 13\n"


def test_control_tokens_only_on_demand() -> None:
    assert run(LLAMA3, "<|eot_id|>", "--ids", "--parse-special").stdout == "128000 128009\n"
    assert len(run(LLAMA3, "<|eot_id|>", "--ids").stdout.split()) > 2


def test_json_tells_half_characters_by_their_bytes() -> None:
    answer = json.loads(run(LLAMA3, "é🦙", "--json", "--no-special").stdout)
    assert "".join(piece["hex"] for piece in answer["pieces"]) == "é🦙".encode().hex()
    assert len(answer["ids"]) == len(answer["pieces"])


def test_what_would_steer_the_terminal_is_escaped() -> None:
    lines = run(LLAMA3, "\x1b[31m🦙", "--no-special").stdout
    assert "\x1b" not in lines and r"\x1b" in lines and r"\xf0\x9f" in lines


def test_bad_use() -> None:
    assert run(MODEL, "a", "--ids", "--json").exit_code == 2
    result = run(MODEL, text=b"a\xff")
    assert result.exit_code == 2
    assert "standard input is not UTF-8 at byte 1" in result.stderr
