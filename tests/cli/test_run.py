"""``motet run`` on the shipped model: what goes where, and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict, fields, replace

import pytest
from click.testing import CliRunner, Result

from motet.cli import main
from motet.cli.demo import shipped_model
from motet.llm import LLM
from motet.model import Model
from motet.sampling import Sampler, Sampling
from motet.sampling.recommended import FIELDS

TINY = str(shipped_model())
PROMPT = "Once upon a time"


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["run", TINY, *arguments], input=text)


@pytest.fixture(scope="module")
def expected():
    with LLM(TINY) as llm:
        return llm.generate(PROMPT, max_tokens=20, seed=5)


def test_the_answer_alone_is_on_standard_output(expected):
    result = run("-p", PROMPT, "--max-tokens", "20", "--seed", "5")
    assert result.exit_code == 0
    assert result.stdout == expected.text + "\n"
    assert "tokens/s" in result.stderr
    assert re.search(r"memory [\d.]+ [MG]iB", result.stderr)
    assert "first token" in result.stderr


def test_the_prompt_from_standard_input_or_a_file(expected, tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text(PROMPT + "\n")
    options = ("--max-tokens", "20", "--seed", "5")
    assert run(*options, text=PROMPT).stdout == expected.text + "\n"
    assert run(*options, "-f", str(file)).stdout == expected.text + "\n"
    assert run(*options, "-f", "-", text=PROMPT).stdout == expected.text + "\n"


def test_only_the_final_newline_of_a_piped_prompt_is_left_out(monkeypatch):
    seen = []
    generate = LLM.generate

    def spy(self, prompt, *positional, **options):
        seen.append(prompt)
        return generate(self, prompt, *positional, **options)

    monkeypatch.setattr(LLM, "generate", spy)
    for text in ("a\r\n\n", "a \n", "a"):
        run("--max-tokens", "1", text=text)
    run("--max-tokens", "1", "-p", "a\n")
    assert seen == ["a\r\n", "a ", "a", "a\n"]


def test_an_answer_that_the_context_ends_says_so():
    result = run("-p", PROMPT, "--max-tokens", "500", "--ctx", "20")
    assert result.exit_code == 0
    assert "the context of 20 is full" in result.stderr
    assert "full" not in run("-p", PROMPT, "--max-tokens", "5", "--ctx", "20").stderr


def test_json(expected):
    result = run("-p", PROMPT, "--max-tokens", "20", "--seed", "5", "--json")
    facts = json.loads(result.stdout)
    assert facts["text"] == expected.text
    assert tuple(facts["tokens"]) == expected.tokens
    assert facts["finish_reason"] == "length"
    assert facts["seed"] == 5
    assert facts["usage"]["prompt_tokens"] == expected.usage.prompt_tokens
    assert facts["timings"]["tokens_per_second"] > 0


def test_every_field_of_sampling_is_an_option(monkeypatch):
    """And what is given reaches the sampler, whatever its type."""
    seen = []

    def spy(sampling, prompt):
        seen.append(sampling)
        return Sampler(sampling, prompt)

    monkeypatch.setattr("motet.engine.request.Sampler", spy)
    given = {
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.6,
        "min_p": 0.01,
        "typical_p": 0.9,
        "repeat_penalty": 1.2,
        "repeat_last_n": -1,
        "frequency_penalty": 0.3,
        "presence_penalty": 0.4,
        "seed": 11,
        "generator": "mt19937",
    }
    assert given.keys() == {f.name for f in fields(Sampling)} - {"logit_bias"}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    assert run("-p", "x", "--max-tokens", "3", *arguments).exit_code == 0
    assert run("-p", "x", "--max-tokens", "3", "--typical", "0.9").exit_code == 0
    every, typical = (asdict(replace(sampling, logit_bias={})) for sampling in seen)
    assert every == asdict(Sampling(**given))
    assert typical == asdict(Sampling(typical_p=0.9, seed=typical["seed"]))


def test_help_has_the_defaults_of_sampling():
    text = " ".join(CliRunner().invoke(main, ["run", "--help"], terminal_width=200).stdout.split())
    for field in fields(Sampling):
        if field.name == "logit_bias":
            continue
        model = "the model's, else " if field.name in FIELDS.values() else ""
        default = "" if field.default is None else f" [default: ({model}{field.default})]"
        assert f"{field.metadata['help']}{default}" in text


def test_stop_strings_and_length_reach_the_engine(monkeypatch):
    seen = {}
    generate = LLM.generate

    def spy(self, prompt, *positional, **options):
        seen.update(options)
        return generate(self, prompt, *positional, **options)

    monkeypatch.setattr(LLM, "generate", spy)
    assert run("-p", "x", "--max-tokens", "3", "--stop", "a", "--stop", "b").exit_code == 0
    assert (seen["max_tokens"], seen["stop"]) == (3, ("a", "b"))


def test_a_stop_string_ends_the_answer():
    whole = run("-p", PROMPT, "--temperature", "0", "--max-tokens", "40").stdout
    word = whole.split()[5]
    cut = run("-p", PROMPT, "--temperature", "0", "--max-tokens", "40", "--stop", word)
    assert cut.stdout == whole[: whole.index(word)] + "\n"


@pytest.mark.parametrize(
    ("text", "count"), [("9", 9), ("500M", 500 << 20), ("2g", 2 << 30), ("1GiB", 1 << 30)]
)
def test_bytes_for_the_cache(text, count, monkeypatch):
    seen = []
    make = Model.context

    def spy(self, *, kv_bytes, **options):
        seen.append(kv_bytes)
        return make(self, **options)

    monkeypatch.setattr(Model, "context", spy)
    assert run("Once", "-n", "1", "--kv-bytes", text).exit_code == 0
    assert seen == [count]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-p", "x", "-f", "/no/where"], 2, "No such file"),
        (["x", "-p", "y"], 2, "the prompt is given twice: 'x' and -p 'y'"),
        (["x", "y"], 2, "unexpected extra argument"),
        (["-m", "other.gguf", "x"], 2, "MODEL is given twice"),
        (["x", "--kv-bytes", "1"], 1, "--kv-bytes"),
        (["x", "--kv-bytes", "2.5G"], 2, "'2.5G' is not a number of bytes, as in 500M or 2G"),
        (["-f", "/nowhere/at/all"], 2, "No such file"),
        (["-p", "x", "--temperature", "-1"], 2, "temperature is -1"),
        (["-p", "x", "--top-k", "many"], 2, "top-k"),
        (["-p", "x", "--stop", ""], 2, "stop string"),
        (["-p", "x", "--ctx", "100000"], 2, "trained for"),
        (["-p", "x", "--threads", "0"], 2, "threads"),
        (["-p", "x", "--system", "y"], 2, "--system needs a chat template"),
        (["-p", "x", "--chat"], 1, "no chat template"),
        (["-p", "word " * 300], 1, "the context holds 256"),
    ],
)
def test_bad_use_and_failures(arguments, status, message):
    result = run(*arguments)
    assert result.exit_code == status
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_prompt_that_is_no_text(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"abc\xff")
    result = run("-f", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "not UTF-8 at byte 3" in result.stderr


def test_ctrl_c_ends_with_status_130():
    process = subprocess.Popen(
        [sys.executable, "-m", "motet.cli", "run", TINY, "-p", PROMPT, "--max-tokens", "200"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    first = process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert first
    # The answer may have been complete before the signal came.
    assert process.returncode == 130 or (process.returncode == 0 and b"tokens/s" in errors)
    assert b"Traceback" not in errors
    assert rest.endswith(b"\n")


def test_what_was_proposed_stands_below_the_answer():
    result = run("Once upon a time", "-n", "8", "--speculate", TINY)
    assert re.search(r"tokens/s, (\d+) of \1 proposed accepted\)", result.stderr)
    result = run("Once upon a time", "-n", "8", "--speculate", "none")
    assert "proposed" not in result.stderr
