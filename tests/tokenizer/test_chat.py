"""Chat templates."""

import json

import pytest

from motet.errors import TokenizerError
from motet.tokenizer import chat
from tests.tokenizer.vocabularies import CONTROL, made, rwkv_metadata, spm_metadata

USER, MODEL = "<start_of_turn>user\n", "<start_of_turn>model\n"
GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}
{{ raise_exception('System role not supported') }}{% endif %}
{% for message in messages %}
    {% if message['role'] == 'assistant' %}
        {% set role = 'model' %}
    {% else %}
        {% set role = message['role'] %}
    {% endif %}
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
TOKENIZER = made(
    spm_metadata(("<start_of_turn>", 0, CONTROL), ("<end_of_turn>", 0, CONTROL))
    | {
        "tokenizer.chat_template": GEMMA,
        "tokenizer.chat_templates": ["rag"],
        "tokenizer.chat_template.rag": "rag: {{ messages[0].content }}",
    }
)
TALK = [
    {"role": "user", "content": "hello "},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "the"},
]


def rendered(template: str, content: str = "hello") -> str:
    return chat.render(template, [{"role": "user", "content": content}], TOKENIZER)


def test_a_conversation() -> None:
    text = chat.render(chat.select(TOKENIZER), TALK, TOKENIZER)
    assert text == (
        f"<s>{USER}hello<end_of_turn>\n{MODEL}a<end_of_turn>\n{USER}the<end_of_turn>\n{MODEL}"
    )
    without = chat.render(chat.select(TOKENIZER), TALK, TOKENIZER, add_generation_prompt=False)
    assert text == without + MODEL


def test_its_ids_have_bos_once() -> None:
    text = chat.render(chat.select(TOKENIZER), TALK, TOKENIZER)
    ids = chat.encode(text, TOKENIZER)
    assert ids[0] == TOKENIZER.bos and TOKENIZER.bos not in ids[1:]
    assert chat.encode(text.removeprefix("<s>"), TOKENIZER) == ids
    assert ids[1] == TOKENIZER.n_vocab - 2
    assert TOKENIZER.decode(ids) == text


def test_a_template_of_before_there_were_tools() -> None:
    template = "{{ 'Functions:' + functions + datetime }}"
    messages = [{"role": "user", "content": "hello"}]
    tools = [{"type": "function", "function": {"name": "now", "parameters": {}}}]
    told = {"datetime": "today"}
    text = chat.render(template, messages, TOKENIZER, options=told)
    assert text == "Functions:today"
    text = chat.render(template, messages, TOKENIZER, tools=tools, options=told)
    listed = text.removeprefix("Functions:").removesuffix("today")
    assert json.loads(listed) == [tools[0]["function"]]
    assert len(chat.render(template, messages, TOKENIZER)) == len("Functions:Jan 01 2026")
    for known in (
        "{{ functions is defined }}",
        "{# tools + functions #}{{ functions is defined }}",
    ):
        assert chat.render(known, messages, TOKENIZER) == "False"


def test_rwkvs_template_is_known_by_its_name() -> None:
    tokenizer = made(rwkv_metadata() | {"tokenizer.chat_template": "rwkv-world"})
    text = chat.render(chat.select(tokenizer), TALK, tokenizer)
    assert text == "<s>User: hello\n\nAssistant: a\n\nUser: the\n\nAssistant:"
    assert chat.encode(text, tokenizer)[0] == 0


def test_templates_by_name() -> None:
    assert TOKENIZER.chat_template == GEMMA
    assert list(TOKENIZER.chat_templates) == ["default", "rag"]
    assert rendered(chat.select(TOKENIZER, "rag")) == "rag: hello"
    with pytest.raises(TokenizerError, match=r"no chat template 'tools'.*it has default, rag"):
        chat.select(TOKENIZER, "tools")
    with pytest.raises(TokenizerError, match=r"no chat template 'default'.*plain text"):
        chat.select(made(spm_metadata()))


def test_a_template_that_is_named_must_be_there() -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.chat_templates.*'rag'"):
        made(spm_metadata() | {"tokenizer.chat_templates": ["rag"]})


def test_what_the_template_raises() -> None:
    with pytest.raises(TokenizerError, match="refuses this conversation: System role not supp"):
        chat.render(GEMMA, [{"role": "system", "content": "be brief"}], TOKENIZER)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("hello", "message 1 is a str"),
        ({"content": "a"}, "message 1 has no 'role'"),
        ({"role": "user"}, "message 1 has no 'content'"),
        ({"role": "", "content": "a"}, "message 1 has '' for its 'role'"),
        ({"role": "user", "content": ["a"]}, "message 1 has .* for its 'content'"),
        ({"role": 3, "content": "a"}, "message 1 has '3' for its 'role'"),
    ],
)
def test_malformed_messages(message: dict, problem: str) -> None:
    with pytest.raises(TokenizerError, match=problem):
        chat.render(GEMMA, [TALK[0], message], TOKENIZER)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ messages | tojson }}", '[{"role": "user", "content": "<é>"}]'),
        ("{{ messages[0] | tojson(indent=1) }}", '{\n "role": "user",\n "content": "<é>"\n}'),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}", "<é>"),
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{{ tools is none }} {{ documents is none }} {{ unk_token }} {{ pad_token }}|", None),
        ("{{ '**%s** 5%% 12345' % 'x' }}{{ '{} {{}}'.format(1) }}", "**x** 5% 123451 {}"),
        ("{% set ns = namespace(n=1) %}{% set ns.n = ns.n + 1 %}{{ ns.n ~ 'a' }}", "2a"),
        ("{{ dict(context=1, self=2).self }}{{ namespace(self=3).self }}", "23"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{{ messages | map(attribute='role') | join(', ') }}", "user"),
        ("a\n{% if true %}\n  b\n{% endif %}\nc\n", "a\n  b\nc"),
    ],
)
def test_what_templates_use(template: str, text: str | None) -> None:
    """As transformers renders them."""
    assert rendered(template, "<é>") == (text or "True True <unk> |")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% for %}", "is malformed, line 1"),
        ("\n{{ 1 | frob }}", "is malformed, line 2: No filter named 'frob'"),
        ("{{ foo.bar }}", "'foo' is undefined"),
        ("{{ 'a' + none }}", "can only concatenate str"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% include 'x' %}", "no loader"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nests too deeply"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nests too deeply"),
        ("x" * (1 << 18), "characters"),
    ],
)
def test_templates_that_fail(template: str, problem: str) -> None:
    with pytest.raises(TokenizerError, match=f"chat template .*{problem}") as caught:
        rendered(template)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ("reasoning_content", "thinking", "reasoning"))
def test_what_the_model_thought_by_any_of_its_names(name: str) -> None:
    message = {"role": "assistant", "content": "a", name: "hm", "tool_calls": None}
    template = (
        "{% set m = messages[0] %}{{ m.reasoning_content }}|{{ m.thinking }}|{{ m.tool_calls }}|"
    )
    assert chat.render(template, [message], TOKENIZER) == "hm|hm||"


def test_messages_that_json_cannot_say() -> None:
    with pytest.raises(TokenizerError, match=r"what JSON cannot say: .*bytes"):
        chat.render(GEMMA, [{"role": "user", "content": "a", "image": b"a"}], TOKENIZER)


def test_a_long_conversation_is_not_too_much() -> None:
    talk = [{"role": "user", "content": "hello " * 2000}] * 2000
    text = chat.render(GEMMA, talk, TOKENIZER)
    assert len(text) > 2000 * 12_000
