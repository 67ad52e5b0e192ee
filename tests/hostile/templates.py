"""Chat templates that would hang or exhaust a machine: the known ones, and random ones.

python -m tests.hostile.templates --count 1000
"""

import re
import resource
from collections.abc import Sequence

import numpy as np

from motet.tokenizer import chat, sandbox
from tests.hostile.harness import main
from tests.hostile.template_attacks import ATTACKS
from tests.tokenizer.vocabularies import made, spm_metadata

MEMORY = 200 << 20
"""Bytes that a process which renders may ever have held, itself included."""
TOKENIZER = made(spm_metadata())
TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hello <s> é 😀"},
    {"role": "assistant", "content": "a\nb\tc"},
]
_WIDTHS = (0, 1, 2, 3, 7, 64, 999, 4096, 99_999, -3)
_GREAT_WIDTHS = (10**6, 10**8, 2**31 - 1, 2**31, 2**63, 10**30)
_LITERALS = (
    "a",
    "",
    "ab",
    " ",
    "\\t",
    "\\n",
    "😀",
    "ß",
    "%9d",
    "%s",
    "%r",
    "{:99}",
    "{0!r}",
    "{0}",
)
_LITERALS += ("{", "0", "9", "1e9", "&<", "__class__", "http://a.b ", "%*d", "%.99f", "role", "<a")

# @s stands for text, @l a list, @d a dictionary, @n a number, @b a truth, @w a width, @v any value,
# @q a literal, @g what grows, @t a statement, @u some. The first two of a kind end the recursion.
_FORMS = {
    "s": """ns.s#'@q'#bos_token#messages[1].content#(@s ~ @v)#(@s + @s)#(@s * @w)
        ('@q' % @v)#(@v | string)#(@v | tojson)#(@v | tojson(indent=@w))#(@l | join)#@s.join(@d)
        (@l | join(@s))#(@s | replace(@s, @s))#(@s | indent(@w))#(@s | indent(@s, true))
        (@s | center(@w))#(@s | truncate(@w, true, @s))#(@s | wordwrap(@w))#(@s | urlize)
        (@s | striptags)#(@s | title)#(@s | upper)#(@s | trim(@s))#(@v | pprint)#(@v | urlencode)
        (@d | xmlattr)#(@s | forceescape)#(@s | reverse)#(@v | format(@v))#('@q' | format(@v))
        (@n | filesizeformat)#(@s | escape)#@s.upper()#@s.casefold()#@s.title()#@s.expandtabs(@w)
        @s.center(@w)#@s.ljust(@w, '@q')#@s.zfill(@w)#@s.replace(@s, @s)#@s.strip(@s)
        @s.format(@v, @v)#'@q'.format(@v)#@s.format_map(@d)#@s.translate({97: @s, 98: @s})
        @s.join(@l)#@s[@w:]#@s[:@w]#@s[::-1]#@s[@w]#(@s if @b else @s)#strftime_now(@s)#v
        lipsum(n=@w)#cycler(@s, @s).next()#joiner(@s)()#@s.removeprefix(@s)#('@q' * @w)
        @s.encode().hex()#@s.swapcase()#(@v ~ @v)#(@s | default(@v))#(x | default(@s))""",
    "l": """ns.l#messages#[@v]#[@v, @v]#(@v, @v)#[ns.l, ns.l]#(ns.l, ns.l)#(@l + @l)#(@l * @w)
        range(@w)#(range(@w) | list)#(@s | list)#(@l | list)#@s.split(@s)#@s.splitlines()
        @s.rsplit(@s, @w)#@s.partition(@s)#(@l | batch(@w) | list)#(@l | slice(@w) | list)
        (@l | batch(@w, @v) | list)#(@l | slice(@w, @v) | list)#(@d | dictsort)#(@l | sort)
        (@l | unique | list)#(@l | groupby('role'))#(@l | map('string') | list)
        (@l | map('tojson') | list)#(@l | map('list') | list)#(@l | map('indent', @w) | list)
        (@l | map(attribute='role') | list)#(@l | select('eq', @v) | list)
        (@l | reject('in', @l) | list)#(@l | selectattr('role', 'eq', @v) | list)
        (@d.items() | list)#(@d.keys() | list)#(@d.values() | list)#@l[@w:]#@l[::-1]#@l[:@w]
        (@l | reverse | list)#(@l | sum(start=[]))#(@l if @b else @l)#[@s] * @w#(@l | map('string'))
        [v, v]#dict(a=@v).items()#dict.fromkeys(@l).keys()#(@l | sort(attribute='role'))""",
    "d": """ns.d#messages[0]#{'a': @v}#{'a': @v, 'b': @v}#{@s: @v}#{@n: @v, @s: @v}#dict(@d, a=@v)
        dict(@d, **@d)#dict.fromkeys(@l, @v)#@d.copy()#(@d if @b else @d)#{'a': ns.d, 'b': ns.d}
        dict(@d | items)#namespace(a=@v, b=@v)""",
    "n": """ns.n#@w#(@n + @n)#(@n * @n)#(@n - @n)#(@n // @n)#(@n % @n)#(@n ** @n)#(@n ** @w)
        (@n / @n)#(@v | length)#(@s | int)#(@s | int(base=36))#(@s | float)#(@n | abs)#-@n
        (@n | round(@w))#(@n | round(@w, 'ceil'))#(@n | round(@w, 'floor'))#@s.count(@s)
        @s.rfind(@s)#@s.find(@s)#@n.bit_length()#(@l | sum)#(@l | map('length') | sum)#(@l | max)
        (@l | min)#(@s | wordcount)#@l.index(@v)#@l.count(@v)#(ns.n * ns.n)#(@n if @b else @n)
        (@n | int).to_bytes(@w, 'big')[0]#(@l | random)#(@v | first)#(@l | last)""",
    "b": """true#ns.l#@l == @l#@d == @d#@s == @s#@n < @n#@v in @l#@s in @s#@v in @d#@l < @l
        (@v is eq @v)#(@v is in @l)#@s.startswith(@s)#not @b#(@b and @b)#(@b or @b)#(@v is mapping)
        (@n is divisibleby @n)#(@v is sameas @v)#(@v is iterable)#ns.l == ns.l
        ns.l == [@l]#@s.isalnum()""",
    "v": "ns.l#ns.s#@s#@l#@d#@n#@b#ns.d",
    "t": """{{ @v }}#{% set ns.s = @s %}#{% set ns.l = @l %}#{% set ns.d = @d %}#{% set ns.n = @n %}
        {% for v in @l %}@u{% endfor %}#{% for v in range(@w) %}@u{% endfor %}
        {% for v in range(64) %}@t{% endfor %}#{% for v in range(@w) if @b %}@t{% endfor %}
        {% for v in @l %}{{ loop.changed(v) }}{{ loop.cycle(@v, @v) }}{% endfor %}
        {% for v in [[[1]]] recursive %}@t{{ loop(v) if v != 1 }}{% endfor %}
        {% for k, v in @d.items() %}@u{% endfor %}#{% if @b %}@u{% else %}@t{% endif %}
        {% macro f(v=9) %}@u{{ (f(v - 1) ~ f(v - 1)) if v > 0 }}{% endmacro %}{{ f(@w) }}
        {% macro f(v=9) %}@u{{ caller(v) }}{% endmacro %}{% call(v) f(@v) %}@u{% endcall %}
        {% set ns.s %}@u{% endset %}#{% filter replace(@s, @s) %}@u{% endfilter %}
        {% filter indent(@w) %}@u{% endfilter %}#{% with v = @v %}@u{% endwith %}
        {% generation %}@u{% endgeneration %}#{{ raise_exception(@v) if not @b }}
        {% autoescape true %}@u{% endautoescape %}""",
    "u": "@t#{{ @s }}#@t@t#@t@t@t",
    "g": """s = ns.s ~ ns.s#s = ns.s + ns.s#l = [ns.l, ns.l]#l = (ns.l, ns.l)#l = ns.l + ns.l
        d = {'a': ns.d, 'b': ns.d}#d = dict(ns.d, **{ns.s: ns.d})#n = ns.n * ns.n#s = ns.s | tojson
        s = ns.s | replace('a', ns.s)#l = [ns.l | string]#s = @s ~ ns.s#l = [@v, ns.l]#n = @n""",
}
_CHOICES = {kind: re.split(r"#|\n\s+", forms) for kind, forms in _FORMS.items()}


def attack(random: np.random.Generator) -> None:
    """One template, known or random, is refused or rendered within the limits."""
    sandbox.SECONDS = 0.5  # so that more of them can be tried
    template = _one(random, tuple(ATTACKS.values())) if random.random() < 0.2 else drawn(random)
    try:
        chat.render(template, TALK, TOKENIZER)
    finally:
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
        assert most < MEMORY, f"{most >> 20} MB: {template[:500]}"


def drawn(random: np.random.Generator) -> str:
    """A template whose values grow from turn to turn."""
    start = "{% set v = 'v' %}{% set ns = namespace(s='ab', l=[1], d={'a': 1}, n=3) %}"
    growth = "{% for v in range(@w) %}{% set ns.@g %}{% endfor %}"
    return start + _filled(growth + "@u" * 3, random, 6)


def _filled(form: str, random: np.random.Generator, depth: int) -> str:
    def part(match: re.Match) -> str:
        kind = match[1]
        if kind == "w":
            return str(_one(random, _WIDTHS if random.random() < 0.95 else _GREAT_WIDTHS))
        if kind == "q":
            return _one(random, _LITERALS)
        choices = _CHOICES[kind]
        if depth <= 0 or (kind not in "tu" and random.random() < 0.3):
            choices = choices[:2]
        return _filled(_one(random, choices), random, depth - 1)

    return re.sub(r"@(\w)", part, form)


def _one(random: np.random.Generator, choices: Sequence) -> str:
    return choices[int(random.integers(len(choices)))]


if __name__ == "__main__":
    main(attack, "Hostile chat templates.", memory=1 << 28)
