"""llm with Motet's models, by its command and by its Python API."""

import asyncio
import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("llm.parts", reason="needs llm 0.32 or later")

import llm
from click.testing import CliRunner
from llm.cli import cli

from motet import LLM, Sampling
from motet.cli.demo import shipped_model
from motet.integrations import llm_plugin
from motet.integrations.llm_plugin import AsyncMotetModel, Loaded, MotetEmbedding, MotetModel
from tests.server.models import TEMPLATE, chatting
from tests.server.replying import replies


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Of llm's settings and logs, and of the hub's cache; the plug-in, if it is not installed."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    from llm.plugins import load_plugins, pm

    load_plugins()
    if not any(plugin is llm_plugin for plugin in pm.get_plugins()):
        pm.register(llm_plugin, "motet")


@pytest.fixture(scope="module")
def tiny() -> MotetModel:
    return MotetModel("tiny", Loaded(str(shipped_model())))


def model_of(made: LLM) -> MotetModel:
    loaded = Loaded("nowhere")
    loaded._llm = made  # pyright: ignore
    return MotetModel("made", loaded)


def run(*arguments: str, text: str | None = None) -> str:
    result = CliRunner().invoke(cli, arguments, input=text, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_answers_with_what_motet_would_say(tiny):
    wanted = tiny.loaded.llm.generate("Once upon a time", temperature=0, max_tokens=12)
    options = ("-o", "temperature", "0", "-o", "max_tokens", "12")
    assert run("-m", "motet/tiny", "Once upon a time", *options) == f"{wanted.text}\n"
    (logged,) = json.loads(run("logs", "--json"))
    assert (logged["input_tokens"], logged["output_tokens"]) == (wanted.usage.prompt_tokens, 12)
    assert run("-m", "motet/tiny", "Once upon a time", "--no-stream", *options)[:-1] == wanted.text


def test_a_chat_goes_on_and_computes_nothing_again(tiny):
    said = run("chat", "-m", "motet/tiny", "-o", "temperature", "0", "-o", "max_tokens", "5",
               text="Once upon a time\nAnd then\nquit\n")  # fmt: skip
    assert said.count("> ") >= 2
    conversation = tiny.conversation()
    first = conversation.prompt("Once upon a time there was", temperature=0, max_tokens=8)
    text = first.text()
    second = conversation.prompt("And then", temperature=0, max_tokens=4)
    whole = f"Once upon a time there was\n{text}\nAnd then"
    assert second.text() == tiny.loaded.llm.generate(whole, temperature=0, max_tokens=4).text
    assert second.usage().details["cached_tokens"] > 0


def test_vectors_are_motets():
    plain = run("embed", "-m", "motet/tiny-embedding", "-c", "A dog barks.")
    model = llm.get_embedding_model("motet/tiny-embedding")
    assert isinstance(model, MotetEmbedding)
    assert json.loads(plain) == pytest.approx(list(model.embed("A dog barks.")))
    both = [*model.embed_multi(["A dog barks.", "Rates rose."])]
    assert np.array_equal(both, model.loaded.llm.embed(["A dog barks.", "Rates rose."]))
    assert [*model.embed_multi([])] == []


def test_an_unknown_option_is_refused_by_name():
    result = CliRunner().invoke(cli, ["-m", "motet/tiny", "A", "-o", "num_beams", "2"])
    assert result.exit_code == 1
    assert "num_beams" in result.output
    result = CliRunner().invoke(cli, ["-m", "motet/tiny", "A", "-o", "top_p", "2"])
    assert result.exit_code == 1
    assert "top_p is 2.0" in result.output


def test_options_are_those_of_sampling():
    left_out = {"logit_bias", "generator"}
    known = set(llm_plugin.Options.model_fields)
    assert {*Sampling.__dataclass_fields__} - left_out < known


def test_other_models_by_names_of_ones_own(tmp_path):
    for name in ("motet/mine", "mine"):
        assert run("motet", "add", str(shipped_model()), "--name", name) == "llm -m motet/mine\n"
    assert llm.get_model("motet/mine").loaded.path == str(shipped_model())
    assert "motet/mine" in run("motet", "list")
    run("motet", "remove", "motet/mine")
    with pytest.raises(llm.UnknownModelError):
        llm.get_model("motet/mine")
    for arguments in (["remove", "mine"], ["add", str(tmp_path / "none.gguf")]):
        assert CliRunner().invoke(cli, ["motet", *arguments]).exit_code == 1


@pytest.mark.parametrize(
    "rubbish", [b"[]", b"null", b'{"a": 5}', b"\xff", b"", b"[" * 100_000, None]
)
def test_a_list_of_added_models_that_is_none(tmp_path, rubbish):
    file = tmp_path / llm_plugin.ADDED
    if rubbish is None:
        file.mkdir()
    else:
        file.write_bytes(rubbish)
    for arguments in (["models", "list"], ["motet", "list"], ["motet", "remove", "a"]):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 1 and str(file) in result.output


def test_a_chat_model_gets_its_template_and_a_system_message():
    model = model_of(chatting(TEMPLATE, max_sequences=2))
    response = model.prompt("Hello", system="Be brief.", temperature=0, max_tokens=6)
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    wanted = model.loaded.llm.chat(chat, temperature=0, max_tokens=6)
    assert response.text() == wanted.text
    assert response.usage().input == wanted.usage.prompt_tokens


def test_answers_to_a_schema_hold_to_it():
    pytest.importorskip("llguidance")
    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"],
              "additionalProperties": False}  # fmt: skip
    model = model_of(chatting(TEMPLATE, max_sequences=2))
    answer = model.prompt("A number?", schema=schema, temperature=0).text()
    assert json.loads(answer)["n"] in (1, 2)


def says(prompt: str) -> str:
    """What a scripted model says: a thought, a call, and of the call's result that it is known."""
    if prompt.endswith("[tool]8"):
        return "<think>So.</think>It is 8."
    return '<think>Hm.</think><tool_call>\n{"name": "add", "arguments": {"a": 7}}\n</tool_call>'


def test_tools_are_called_and_their_results_told():
    pytest.importorskip("llguidance")

    def add(a: int) -> int:
        """One more."""
        return a + 1

    model = model_of(replies(says)())
    chain = model.chain("Add one to seven.", tools=[add])
    assert chain.text() == "It is 8."
    first, last = chain.responses()
    (call,) = first.tool_calls()
    assert (call.name, call.arguments) == ("add", {"a": 7})
    kinds = [type(part).__name__ for message in first.messages() for part in message.parts]
    assert kinds == ["ReasoningPart", "ToolCallPart"]
    assert last.usage().details["reasoning_tokens"] > 0


def test_coroutines_get_the_same(tiny):
    model = AsyncMotetModel("tiny", tiny.loaded)

    async def answers() -> list[str]:
        asked = (model.prompt("Once", temperature=0, max_tokens=n) for n in (3, 6))
        return await asyncio.gather(*(response.text() for response in asked))

    wanted = [tiny.loaded.llm.generate("Once", temperature=0, max_tokens=n).text for n in (3, 6)]
    assert asyncio.run(answers()) == wanted


def test_llm_starts_without_loading_motet():
    code = "import sys, motet.integrations.llm_plugin; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = [name for name in found.stdout.split() if name.startswith("motet")]
    assert {*ours} == {"motet", "motet.errors", "motet.integrations", llm_plugin.__name__}
