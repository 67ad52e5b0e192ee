"""Conversations, and small templates that do what the models' own do.

What transformers makes of them is in ``chat_goldens.json``, by ``chat_oracle.py``.
"""

from typing import Any

_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Today's weather, <now> & here",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "in any spelling: é"},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["city"],
        },
    },
}
_SYSTEM = {"role": "system", "content": "Be brief."}
_ASKED = {"role": "user", "content": " How's the <weather>? é😀\n"}
_AGAIN = {"role": "user", "content": "Sure?"}
_THOUGHT = {"thinking": "hm", "role": "assistant", "content": "Fine.", "reasoning_content": "hm"}
_ANSWER = {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": "22"}
_PARTS = [{"type": "text", "text": "Hello"}, {"type": "image"}, {"type": "text", "text": "you"}]


def _call(arguments: object) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    calls = [{"id": "abcdefghi", "type": "function", "function": function}]
    return {"role": "assistant", "content": "", "tool_calls": calls}


TALKS: list[list[dict[str, Any]]] = [
    [_ASKED],
    [_SYSTEM, _ASKED],
    [_SYSTEM, _ASKED, {"role": "assistant", "content": "<think>hm</think>Fine.\n"}, _AGAIN],
    [_ASKED, _THOUGHT, _AGAIN],
    [_ASKED, _call({"city": "Paris", "unit": "C"}), _ANSWER],
    [_ASKED, _call('{"city": "Paris"}'), _ANSWER, {"role": "assistant", "content": "22"}, _AGAIN],
    [{"role": "user", "content": _PARTS}],
    [_AGAIN, _AGAIN],
]


def cases() -> list[dict[str, Any]]:
    """What templates are rendered with: each conversation, with tools and without."""
    return [
        {
            "messages": talk,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": generation,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "date_string": "26 Jul 2024",
        }
        | ({"enable_thinking": bool(number % 3)} if number % 2 else {})
        for number, talk in enumerate(TALKS)
        for tools in (None, [_TOOL])
        for generation in (True, False)
    ]


def few_cases() -> list[dict[str, Any]]:
    """Of each conversation at least one, with tools or without."""
    return cases()[::3]


TEMPLATES = {
    "llama": """{{- bos_token }}
{%- if custom_tools is defined %}{% set tools = custom_tools %}{% endif %}
{%- if not date_string is defined %}{% set date_string = strftime_now("%d %b %Y") %}{% endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start|>system<|end|>\\n\\n" + "Today: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{%- endif %}
{{- system_message }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start|>' + message['role'] + '<|end|>\\n\\n'
            + message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model takes one call at a time!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", ' }}{{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}{{- "}" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant<|end|>\\n\\n' }}{%- endif %}
""",
    "qwen": """{%- set ns = namespace(multi_step_tool=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string
        and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning_content =
                content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or reasoning_content) %}
            {{- '<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- for tool_call in message.tool_calls %}
            {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
            {%- if tool_call.function %}{% set tool_call = tool_call.function %}{% endif %}
            {{- '{"name": "' ~ tool_call.name ~ '", "arguments": ' }}
            {%- if tool_call.arguments is string %}
                {{- tool_call.arguments }}
            {%- else %}
                {{- tool_call.arguments | tojson }}
            {%- endif %}
            {{- '}' }}
        {%- endfor %}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool>\\n' + content + '\\n</tool>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '|\\n' }}{%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and
        message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("user and assistant must take turns") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[TOOLS][" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}{{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}{{- '"' + key + '": "' + val + '"' }}
                    {%- else %}{{- '"' + key + '": ' + val|tojson }}{%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}{{- "}}" }}
                {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}{{- "[/TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {%- for call in message.tool_calls %}
            {%- set out = call.function|tojson %}{{- out[:-1] }}
            {%- if not call.id is defined or call.id|length != 9 %}
                {{- raise_exception("ids have 9 characters") }}
            {%- endif %}{{- ', "id": "' + call.id + '"}' }}
        {%- endfor %}{{- eos_token }}
    {%- elif message["role"] == "assistant" %}{{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}{%- set content = message.content %}{%- endif %}
        {{- '[R]{"content": ' + content|string + ', "id": "' + message.tool_call_id + '"}[/R]' }}
    {%- else %}{{- raise_exception("role " + message["role"]) }}{%- endif %}
{%- endfor %}
""",
    "macros": """{%- macro kind(spec, inner=false) -%}
    {%- if spec.type == 'array' -%}{{ kind(spec['items'], true) }}[]
    {%- elif spec.enum is defined and spec.enum|length > 0 -%}
        {%- for value in spec.enum -%}"{{ value }}"{% if not loop.last %} | {% endif %}{%- endfor %}
    {%- elif spec.type == 'object' -%}
        {
        {%- for name, param in spec.properties|dictsort %}
            {{ name }}{{ '' if name in (spec.required or []) else '?' }}: {{ kind(param) }}
            {%- if not loop.last -%}, {% endif %}
        {%- endfor %} }
    {%- else -%}{{ spec.type | default('any') }}{% if inner %}!{% endif %}{%- endif -%}
{%- endmacro -%}
{% macro wrapped(name) %}<{{ name }}>{{ caller(name | upper) }}</{{ name }}>{% endmacro %}
{%- for tool in tools or [] %}{{ tool.function.name }}({{ kind(tool.function.parameters) }})
{% endfor %}
{%- for role in messages | map(attribute='role') | unique %}
{% call(up) wrapped(role) %}{{ up }}: {{ messages | selectattr('role', 'eq', role) | list | count }}
{% endcall %}
{% endfor %}
{%- for message in messages recursive %}{{ loop.depth }}{{ loop.cycle('a', 'b') }}{% endfor %}""",
    "statements": """{# comment #}
{% for message in messages %}
    {% if loop.index > 2 %}{% break %}{% endif %}
    {% if message.role == 'system' %}{% continue %}{% endif %}
  {% generation %}
    {{ message.role | capitalize }}{{ loop.index }}/{{ loop.length }}{{ loop.revindex0 }}
    {% endgeneration %}
    {{ loop.changed(message.role) }} {{ loop.previtem.role if loop.previtem }}
    {{ loop.nextitem is defined }}
{% else %}
    none
{% endfor %}
{% set text %}{{ messages[0].role }} {{ messages[-1]['content'][:5] }}{% endset %}
{% filter upper | trim %}  {{ text }} {% endfilter %}
{% with a = 1, b = [1, 2.5, none, true, 'x"y'] %}{{ a + 1 }} {{ b }} {{ b | tojson }}{% endwith %}
{% raw %}{{ raw }}{% endraw %}
  {%- set d = dict(a=1, **{'b': 2}) %}
{{ d }} {{ d | items | list }} {{ d.get('c', 'no') }} {{ 'a' in d }} {{ d.items() | list }}
{{ messages | tojson }}{{ tools | tojson(indent=2, sort_keys=true, separators=(',', ' : ')) }}
""",
    "expressions": """{{ 7 // 2 }} {{ 7 % 3 }} {{ -7 / 2 }} {{ 2 ** 10 }} {{ 1 if 0 else 2 }}
{{ 1 < 2 < 3 }} {{ not 1 or 2 and 3 }} {{ 'a' * 3 ~ 4 ~ none }} {{ [1] + [2] }} {{ (1, 'b') }}
{{ 'a,b,c'.split(',')[1:] }} {{ ' x '.strip() }}| {{ 'abc'[::-1] }} {{ 'Ab'.lower() }}
{{ '%s is %d, %5.2f%%' % ('a', 3, 1.5) }} {{ '{} {x!r:>5}'.format(1, x='y') }}
{{ 'a\\tb\\n' | tojson }} {{ '<a href="x">é</a>' | escape }}
{{ '<b>é' | tojson(ensure_ascii=true) }} {{ 'a b c' | replace('b', 'x') | title }}
{{ 'word ' * 3 | int }}
{{ 3.7 | int }} {{ '12' | int + 1 }} {{ [3, 1, 2] | sort | join(', ') }}
{{ [1, 2, 3] | sum }} {{ [[1, 2], [3]] | map('first') | list }}
{{ undefined_name }}|{{ undefined_name or 'u' }}|{{ messages[0].nothing }}|
{{ messages[0].role is in ['user', 'system'] }} {{ 4 is divisibleby 2 }} {{ none is none }}
{{ 1 is number }} {{ 'x' is string }} {{ [] is sequence }} {{ {} is mapping }} {{ true is boolean }}
{{ 1.0 is float }} {{ 5 is integer }} {{ raise_exception is callable }} {{ 'a' is lower }}
{{ range(2, 9, 3) | list }} {{ [1, 2, 3, 4, 5] | batch(2, 0) | list }} {{ 'é' | urlencode }}
{{ 'long text to wrap and cut' | truncate(12) }} {{ 'a\\nb' | indent(2, true) }}
{{ 'x' | center(5) }}| {{ [1, [2, {'a': 'é'}]] | string }} {{ [1, 1, 2] | unique | list }}
{{ 1e3 }} {{ 0.1 + 0.2 }}
{{ 'a-b_c'.replace('-', '_').split('_') | reverse | list }} {{ 'x'.join(['1', '2']) }}
{{ messages | selectattr('role', 'in', ['user']) | map(attribute='content') | list | length }}
{{ {'a': {'b': [10, 20]}}.a.b[-1] }} {{ 'abc'.find('c') }} {{ 'a'.isalpha() }} {{ 'ß'.upper() }}
{{ namespace(a=1).a }} {{ 'x' | default('y') }} {{ '' | default('y', true) }}
{{ none | default('z') }} {{ messages | groupby('role') | map('first') | list }}
{{ 'A' | lower ~ 'b' | upper }}
{{ '<p>a</p> b' | striptags }} {{ 'one two' | wordcount }} {{ 1234567 | filesizeformat }}
{{ strftime_now('%%') }} {{ 'b' | pprint }} {{ 'a b' | wordwrap(1) }}
{{ [1, 2] | random in [1, 2] }} {{ joiner('x')() }}{{ cycler('c', 'd').next() }}
{{ lipsum(n=1) | length > 9 }}""",
    "refuses": """{{ raise_exception('no: ' ~ messages[0].role) }}""",
    "fails": """{{ messages[0].role + 1 }}""",
}
