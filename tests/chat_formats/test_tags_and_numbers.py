"""GLM's arguments between tags, Kimi's names with numbers, and what comes before their calls."""

import json
from typing import Any

import numpy as np
import pytest

from motet.chat_formats import Thought, chat_format, read_tools
from motet.chat_formats.feed import OPEN
from tests.chat_formats.templates import (
    CASES,
    GLM,
    GLM_UNBROKEN,
    HERMES,
    KIMI,
    KIMI_IDS,
    PARIS,
    TOOLS,
)
from tests.chat_formats.test_reader import PLAIN, VOCABULARIES, Read, as_seen, called, read

TAGS = (GLM, GLM_UNBROKEN)
BEGIN, END = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"


def tagged(template: str, name: str, **arguments: str) -> str:
    """A call as GLM writes it."""
    line = "\n" if template is GLM else ""
    pairs = "".join(
        f"<arg_key>{key}</arg_key>{line}<arg_value>{value}</arg_value>{line}"
        for key, value in arguments.items()
    )
    return f"<tool_call>{name}{line}{pairs}</tool_call>"


def numbered(name: str, arguments: str) -> str:
    """A call as Kimi writes it."""
    return f"<|tool_call_begin|>{name}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"


def cut_anywhere(template: str, seen: str, vocabulary: str = "plain") -> Read:
    """What is read of a text, however it comes."""
    tokenizer, rng = VOCABULARIES[vocabulary], np.random.default_rng(len(seen))
    whole = read(template, [seen], tokenizer)
    for _ in range(30):
        cuts = sorted(rng.integers(0, len(seen) + 1, rng.integers(1, 9)).tolist())
        pieces = [seen[a:b] for a, b in zip([0, *cuts], [*cuts, len(seen)], strict=True)]
        assert read(template, pieces, tokenizer) == whole, pieces
    return whole


@pytest.mark.parametrize("template", TAGS)
def test_values_that_look_like_tags(template: str) -> None:
    """Of a text everything up to what closes it belongs to it."""
    for value in (
        "<tool_call>",
        "</tool_call>\n",
        "<arg_key>b</arg_key>",
        '"\\ \n',
        "</arg_value",
        "",
    ):
        text = tagged(template, "weather", city=value) + " and so on"
        content, _, calls = cut_anywhere(template, text)
        assert called(calls) == [("weather", json.dumps({"city": value}))]
        assert content == " and so on"


@pytest.mark.parametrize("template", TAGS)
def test_tags_that_are_no_tokens_are_text(template: str) -> None:
    """Where the vocabulary has them as control tokens."""
    tokenizer = VOCABULARIES["control"]
    mark = "\0"  # in place of what spells a tag and is none
    text = as_seen(tagged(template, "weather", city=f"a{mark}b"), tokenizer)
    for spelt in ("</arg_value>\n", "</arg_value><arg_key>x</arg_key>", "</tool_call>"):
        content, _, calls = cut_anywhere(template, text.replace(mark, spelt), "control")
        assert called(calls) == [("weather", json.dumps({"city": f"a{spelt}b"}))] and not content


@pytest.mark.parametrize("template", TAGS)
def test_values_by_their_schema(template: str) -> None:
    """Texts as they are, others as JSON, and as texts where they are none."""
    near = '[{"name": "a</arg_key>"}]'
    text = tagged(template, "weather", city="3", days="3", at="soon", unit="C", near=near, x="7")
    ((_, arguments),) = called(cut_anywhere(template, text)[2])
    for word in ("NaN", "-Infinity", "[1, NaN]"):
        ((_, said),) = called(cut_anywhere(template, tagged(template, "weather", days=word))[2])
        assert said == json.dumps({"days": word})
    expected = {"city": "3", "days": 3, "at": "soon", "unit": "C", "near": json.loads(near), "x": 7}
    assert json.loads(arguments) == expected


@pytest.mark.parametrize("template", TAGS)
@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>weather</arg_key>",
        "<tool_call>weather <b>",
        "<tool_call>weather<tool_call>now</tool_call>",
        "<tool_call>" + "x" * 600,
        "<tool_call></tool_callx",
        tagged(GLM, "weather", city="a").replace("</tool_call>", "</tool>"),
    ],
)
def test_tags_that_are_malformed_are_text(template: str, text: str) -> None:
    content, _, calls = cut_anywhere(template, f"a{text}")
    assert content.startswith("a") and "now" not in [name for name, _ in called(calls)]
    assert all(name.strip() == "weather" for name, _ in called(calls))


def test_names_and_numbers() -> None:
    for number in ("0", "17"):
        text = BEGIN + numbered(f"functions.weather:{number}", PARIS) + END
        (call,) = cut_anywhere(KIMI, text)[2]
        assert (call.name, call.id) == ("weather", f"functions.weather:{number}")
        assert call.arguments == PARIS
    twice = BEGIN + numbered("functions.now:0", "{}") * 2 + END
    first, second = cut_anywhere(KIMI, twice)[2]
    assert first.id == "functions.now:0" and second.id.startswith("call_")
    colons = numbered("functions.a.b:c:1", "{}")
    assert called(cut_anywhere(KIMI, BEGIN + colons + END)[2]) == [("a.b:c", "{}")]


@pytest.mark.parametrize(
    "name", ["weather:0", "functions.weather", "functions.:1", "functions.a:b", ""]
)
def test_names_without_their_number_are_text(name: str) -> None:
    content, _, calls = cut_anywhere(KIMI, f"a{BEGIN}{numbered(name, PARIS)}{END}")
    assert not calls and content.startswith("a") and PARIS in content


def test_arguments_that_spell_marks() -> None:
    said = json.dumps({"city": f"<|tool_call_end|>{END}"})
    text = BEGIN + numbered("functions.weather:0", said) + END
    assert called(cut_anywhere(KIMI, text)[2]) == [("weather", said)]
    tokens = as_seen(BEGIN + numbered("functions.weather:0", "@") + END, VOCABULARIES["control"])
    assert OPEN in tokens
    calls = cut_anywhere(KIMI, tokens.replace("@", said), "control")[2]
    assert called(calls) == [("weather", said)]


def test_which_form_a_template_shows() -> None:
    forms = {chat_format(each, PLAIN).form for each in (*TAGS, KIMI)}
    assert len(forms) == 3 and None not in forms
    assert chat_format(KIMI_IDS, PLAIN).form == chat_format(KIMI, PLAIN).form
    for other in ("</arg_key> <arg_value>", "<arg_key>", BEGIN):
        assert chat_format(f'{{{{ "<tool_call>{other}" }}}}', PLAIN).form is None
    example = chat_format(KIMI, PLAIN).require_calls().example("now", "{}")
    assert example == BEGIN + numbered("functions.now:0", "{}") + END


def test_a_prompt_that_ends_with_a_thoughts_end() -> None:
    """The answer may begin with the line break that other templates write themselves."""
    found = chat_format(HERMES, PLAIN)
    assert found.thought("[assistant]<think></think>") is Thought.OVER
    assert found.thought("[assistant]<think>\n\n</think>\n\n") is Thought.NONE
    silent = found.without_thought("[assistant]")
    assert found.thought(silent) is Thought.OVER and found.without_thought(silent) == silent
    for thought, expected in ((Thought.OVER, "Well\n"), (Thought.NONE, "\n\nWell\n")):
        for pieces in (["\n\nWell\n"], list("\n\nWell\n")):
            assert read(HERMES, pieces, thought=thought) == (expected, "", ())
    text = f"\n{CASES['glm'].text}"
    content, reasoning, calls = read(GLM, [text], thought=Thought.OVER)
    assert (content, reasoning, len(calls)) == ("", "", 2)


@pytest.fixture(scope="module")
def accepts() -> Any:
    """Whether the grammar allows a text, whatever the vocabulary."""
    pytest.importorskip("llguidance", reason="needs llguidance, the extra motet[grammar]")
    from tests.chat_formats.test_grammar import _WIDE, COMPILERS, _accepts

    wide = read_tools(
        [{**TOOLS[0], "function": {**TOOLS[0]["function"], "parameters": _WIDE}}, TOOLS[1]]
    )

    def accepts(template: str, text: str, choice: Any = "auto", **options: Any) -> bool:
        given = {"thought": Thought.NONE, "tools": wide, **options}
        of = given.pop("tools")
        found = {
            _accepts(chat_format(template, tokenizer), COMPILERS[name], text, of, choice, **given)
            for name, tokenizer in VOCABULARIES.items()
        }
        assert len(found) == 1, text
        return found.pop()

    return accepts


@pytest.mark.parametrize("template", TAGS)
def test_what_tags_may_hold(accepts: Any, template: str) -> None:
    def call(**arguments: str) -> str:
        return tagged(template, "weather", **arguments)

    assert accepts(template, call(city="Paris {<b>} </arg"))
    assert accepts(template, call(city="", days="-3"), "required")
    assert accepts(template, call(city="a\nb") + "\n" * (template is GLM) + tagged(template, "now"))
    for wrong in (call(), call(days="3"), call(city="a", days="3.5"), call(days="3", city="a")):
        assert not accepts(template, wrong)
    assert not accepts(template, call(city="a", other="b"))
    assert not accepts(template, call(city="a").removesuffix("</tool_call>"))
    assert not accepts(template, call(city="a") + " and so on")


@pytest.mark.parametrize("template", TAGS)
def test_values_that_are_no_texts(accepts: Any, template: str) -> None:
    schema = {
        "type": "object",
        "properties": {
            "unit": {"enum": ["C", "F\n"]},
            "on": {"type": "boolean"},
            "near": {"$ref": "#/$defs/places"},
        },
        "required": ["unit"],
        "$defs": {
            "places": {"type": "array", "items": {"type": "object", "required": ["name"]}},
        },
    }
    tools = read_tools([{"type": "function", "function": {"name": "f", "parameters": schema}}])

    def allowed(**arguments: str) -> bool:
        return accepts(template, tagged(template, "f", **arguments), "required", tools=tools)

    assert allowed(unit="C") and allowed(unit="F\n", on="true")
    assert allowed(unit="C", near='[{"name": "a", "x": [1, {}]}]')
    assert not allowed(unit="K") and not allowed(unit='"C"') and not allowed(unit="C", on="True")
    assert not allowed(unit="C", near="[{}]") and not allowed(unit="C", near='{"name": "a"}')


@pytest.mark.parametrize("template", [KIMI, KIMI_IDS])
def test_what_numbered_calls_may_be(accepts: Any, template: str) -> None:
    for number in ("0", "12"):
        call = numbered(f"functions.weather:{number}", PARIS)
        assert accepts(template, f"Well.{BEGIN}{call}{END}")
        assert accepts(template, f"{BEGIN}{call}{END}", "required")
        assert accepts(template, f"{BEGIN}{call * 3}{END}") and not accepts(template, BEGIN + END)
        assert not accepts(template, f"{BEGIN}{call * 2}{END}", parallel=False)
    for wrong in ("weather:0", "functions.weather:", "functions.weather", "functions.weather:a"):
        assert not accepts(template, BEGIN + numbered(wrong, PARIS) + END)
    assert not accepts(template, f"{BEGIN}{call}")


def test_line_breaks_before_thoughts_and_calls(accepts: Any) -> None:
    """As GLM's template writes them."""
    call = CASES["glm"].text
    for choice in ("auto", "required"):
        assert accepts(GLM, f"\n<think>so</think>\n{call}", choice, thought=Thought.POSSIBLE)
        assert accepts(GLM, f"<think>so</think>\n{call}", choice, thought=Thought.POSSIBLE)
        assert accepts(GLM, f"\n{call}", choice, thought=Thought.OVER)
        assert accepts(GLM, call, choice, thought=Thought.OVER)
    assert accepts(GLM, "\nNo.", thought=Thought.OVER)
    assert accepts(GLM, "\n<think>so</think>\nNo.", thought=Thought.POSSIBLE)
    assert not accepts(GLM, "\n\n\n" + call, "required", thought=Thought.OVER)
    assert not accepts(GLM, f"\nNo.\n{call}", "required", thought=Thought.OVER)
