"""Small templates that write calls as the models' own do, and what each makes of two calls."""

from typing import Any, NamedTuple


def _template(call: str, before: str = "", between: str = "", after: str = "") -> str:
    """``call``: of the call ``c``; ``before``, ``between`` and ``after``: around all of them."""
    return (
        "{% if tools %}[tools]{{ tools | tojson }}{% endif %}"
        "{% for m in messages %}[{{ m.role }}]"
        "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
        "{% if m.content %}{{ m.content }}{% endif %}"
        "{% if m.tool_calls %}"
        + before
        + "{% for call in m.tool_calls %}{% set c = call.function %}{% if not loop.first %}"
        + between
        + "{% endif %}"
        + call
        + "{% endfor %}"
        + after
        + "{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]?{% endif %}"
    )


JSON = "{{ c.arguments | tojson }}"
HERMES = _template(
    '{{ "<tool_call>\\n{\\"name\\": \\"" + c.name + "\\", \\"arguments\\": " }}'
    + JSON
    + '{{ "}\\n</tool_call>" }}',
    between='{{ "\\n" }}',
)
SMOL = (
    _template("")
    .replace("tools | tojson", "xml_tools | string")
    .replace("if tools", "if xml_tools")
)
SMOL += '{# <tool_call>{"name": … #}'
CODER = _template(
    '{{ "<tool_call>\\n<function=" + c.name + ">\\n" }}'
    '{% for k, v in c.arguments.items() %}{{ "<parameter=" + k + ">\\n" }}'
    "{% if v is string %}{{ v }}{% else %}{{ v | tojson }}{% endif %}"
    '{{ "\\n</parameter>\\n" }}{% endfor %}{{ "</function>\\n</tool_call>" }}',
    between='{{ "\\n" }}',
)
_TAGGED = (
    "{% for k, v in c.arguments.items() %}<arg_key>{{ k }}</arg_key>BREAK<arg_value>"
    "{% if v is string %}{{ v }}{% else %}{{ v | tojson }}{% endif %}</arg_value>BREAK{% endfor %}"
)
GLM = _template(
    '<tool_call>{{ c.name + "\\n" }}' + _TAGGED.replace("BREAK", "\n") + "</tool_call>",
    between='{{ "\\n" }}',
)
GLM_UNBROKEN = _template("<tool_call>{{ c.name }}" + _TAGGED.replace("BREAK", "") + "</tool_call>")
LFM = _template("") + "{# List of tools: [ #}"
"""Calls are written into what is said, as some models' own templates leave it to their users."""
LFM_CALLS = _template(
    "{{ c.name }}({% for k, v in c.arguments.items() %}{{ k }}={% if v is string %}'{{ v }}'"
    "{% elif v is mapping %}{{ v | tojson }}{% else %}{{ v | string }}{% endif %}"
    "{% if not loop.last %}, {% endif %}{% endfor %})",
    before="<|tool_call_start|>[",
    between=", ",
    after="]<|tool_call_end|>",
)
GRANITE = _template("") + "{# <|tool_call|> followed by a JSON list #}"
NEMOTRON = _template(
    '{{ \'{"name": "\' + c.name + \'", "arguments": \' }}' + JSON + '{{ "}" }}',
    before="<TOOLCALL>[",
    between=", ",
    after="]</TOOLCALL>",
)
_KIMI = "<|tool_call_begin|>{{ ID }}<|tool_call_argument_begin|>" + JSON + "<|tool_call_end|>"
_KIMI_MARKS = {"before": "<|tool_calls_section_begin|>", "after": "<|tool_calls_section_end|>"}
KIMI = _template(
    "{% set n.calls = n.calls + 1 %}"
    + _KIMI.replace("ID", "'functions.' + c.name + ':' + (n.calls | string)"),
    **_KIMI_MARKS,
)
KIMI = "{% set n = namespace(calls=-1) %}" + KIMI
KIMI_IDS = _template(_KIMI.replace("ID", "call['id']"), **_KIMI_MARKS)
LLAMA = _template(
    '{{ \'{"name": "\' + c.name + \'", "parameters": \' }}' + JSON + '{{ "}" }}',
    before='{# {"name": function name, "parameters": dictionary} #}'
    "{% if m.tool_calls | length > 1 %}{{ raise_exception('one at a time') }}{% endif %}",
)
MISTRAL = _template(
    '{{ \'{"name": "\' + c.name + \'", "arguments": \' }}'
    + JSON
    + "{% if call.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}"
    + "{{ ', \"id\": \"' + call.id + '\"}' }}",
    before="[TOOL_CALLS][",
    between=", ",
    after="]",
)
MISTRAL_IDS = _template("[TOOL_CALLS]{{ c.name }}[CALL_ID]{{ call.id }}[ARGS]" + JSON) + (
    "{# id|length != 9 #}"
)
MISTRAL_NAMED = _template("[TOOL_CALLS]{{ c.name + '[ARGS]' + c.arguments }}")
DEEPSEEK = _template(
    "<｜tool▁call▁begin｜>{{ c.name }}<｜tool▁sep｜>" + JSON + "<｜tool▁call▁end｜>",
    before="<｜tool▁calls▁begin｜>",
    after="<｜tool▁calls▁end｜>",
)
R1 = _template(
    '<｜tool▁call▁begin｜>function<｜tool▁sep｜>{{ c.name + "\\n```json\\n" }}'
    + JSON
    + '{{ "\\n```" }}<｜tool▁call▁end｜>',
    before="<｜tool▁calls▁begin｜>",
    between='{{ "\\n" }}',
    after="<｜tool▁calls▁end｜>",
)
GEMMA = (
    '{% macro value(v) %}{% if v is string %}<|"|>{{ v }}<|"|>{% elif v is mapping %}'
    "{{ '{' }}{% for k, x in v | dictsort %}{% if not loop.first %},{% endif %}{{ k }}:"
    "{{ value(x) }}{% endfor %}{{ '}' }}{% elif v is sequence %}[{% for x in v %}"
    "{% if not loop.first %},{% endif %}{{ value(x) }}{% endfor %}]{% else %}{{ v | tojson }}"
    "{% endif %}{% endmacro %}"
) + _template("<|tool_call>call:{{ c.name }}{{ value(c.arguments) }}<tool_call|>")


class Case(NamedTuple):
    """``texts``: what a model writes to call weather of Paris for 3 days, and then now."""

    template: str
    texts: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.texts)


PARIS = '{"city": "Paris \\"é\\"", "days": 3}'
_KIMI_TEXTS = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>"
    f"{PARIS}<|tool_call_end|>",
    "<|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
    "<|tool_calls_section_end|>",
)
_HERMES_TEXTS = (
    f'<tool_call>\n{{"name": "weather", "arguments": {PARIS}}}\n</tool_call>',
    '\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
)
CASES = {
    "hermes": Case(HERMES, _HERMES_TEXTS),
    "smol": Case(SMOL, _HERMES_TEXTS),
    "coder": Case(
        CODER,
        (
            '<tool_call>\n<function=weather>\n<parameter=city>\nParis "é"\n</parameter>\n'
            "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
            "\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
        ),
    ),
    "glm": Case(
        GLM,
        (
            '<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris "é"</arg_value>\n'
            "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>",
            "\n<tool_call>now\n</tool_call>",
        ),
    ),
    "glm unbroken": Case(
        GLM_UNBROKEN,
        (
            '<tool_call>weather<arg_key>city</arg_key><arg_value>Paris "é"</arg_value>'
            "<arg_key>days</arg_key><arg_value>3</arg_value></tool_call>",
            "<tool_call>now</tool_call>",
        ),
    ),
    "lfm": Case(
        LFM,
        (
            '<|tool_call_start|>[weather(city="Paris \\"é\\"", days=3)',
            ", now()]<|tool_call_end|>",
        ),
    ),
    "granite": Case(
        GRANITE,
        (
            f'<|tool_call|>[{{"name": "weather", "arguments": {PARIS}}}',
            ', {"name": "now", "arguments": {}}]',
        ),
    ),
    "nemotron": Case(
        NEMOTRON,
        (
            f'<TOOLCALL>[{{"name": "weather", "arguments": {PARIS}}}',
            ', {"name": "now", "arguments": {}}]</TOOLCALL>',
        ),
    ),
    "kimi": Case(KIMI, _KIMI_TEXTS),
    "kimi ids": Case(KIMI_IDS, _KIMI_TEXTS),
    "llama": Case(LLAMA, (f'{{"name": "weather", "parameters": {PARIS}}}',)),
    "mistral": Case(
        MISTRAL,
        (
            f'[TOOL_CALLS][{{"name": "weather", "arguments": {PARIS}, "id": "abcdefghi"}}',
            ', {"name": "now", "arguments": {}, "id": "123456789"}]',
        ),
    ),
    "mistral ids": Case(
        MISTRAL_IDS,
        (
            f"[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]{PARIS}",
            "[TOOL_CALLS]now[CALL_ID]123456789[ARGS]{}",
        ),
    ),
    "mistral named": Case(
        MISTRAL_NAMED, (f"[TOOL_CALLS]weather[ARGS]{PARIS}", "[TOOL_CALLS]now[ARGS]{}")
    ),
    "deepseek": Case(
        DEEPSEEK,
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>"
            f"{PARIS}<｜tool▁call▁end｜>",
            "<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ),
    ),
    "r1": Case(
        R1,
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
            f"{PARIS}\n```<｜tool▁call▁end｜>",
            "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>"
            "<｜tool▁calls▁end｜>",
        ),
    ),
    "gemma": Case(
        GEMMA,
        (
            '<|tool_call>call:weather{city:<|"|>Paris "é"<|"|>,days:3}<tool_call|>',
            "<|tool_call>call:now{}<tool_call|>",
        ),
    ),
}
MARKS = (
    *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<think>", "</think>"),
    *("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>"),
    *("<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<|tool_call>", "<tool_call|>", '<|"|>'),
    *("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
    *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>"),
    *("<|tool_call_argument_begin|>", "<|tool_call_end|>", "<|tool_call_start|>"),
    *("<|tool_call|>", "<TOOLCALL>", "</TOOLCALL>"),
)
"""Marks that vocabularies have as tokens."""


def _function(name: str, **others: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **others}}


TOOLS = [
    _function(
        "weather",
        description="Today's",
        parameters={
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where", "maxLength": 12},
                "days": {"type": "integer", "description": "How many"},
                "at": {"type": ["number", "null"]},
                "unit": {"enum": ["C", "F"]},
                "near": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"name": {"type": "string", "maxLength": 4}},
                        "required": ["name"],
                        "additionalProperties": False,
                    },
                },
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    ),
    _function("now", description="The time"),
]
