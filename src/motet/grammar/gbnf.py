"""llama.cpp's GBNF as Lark.

The form: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md. It is of characters,
while llguidance reads terminals, each as long as it can be. So that the text is what GBNF means,
every character is a terminal; or all of the grammar is one, where no rule refers to itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from motet.checks import shown
from motet.errors import OptionError

DEEPEST = 100
"""Groups within each other."""
LONGEST_REGEX = 50_000
"""Characters of a grammar as one regular expression; a longer one stays rules."""
_GBNF_RULE = re.compile(r"^[ \t]*[\w-]+\s*::=", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BLANKS = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE = re.compile(r"(?:\s|#[^\r\n]*)*")
_DEFINES = re.compile(r"::=")
_CHARACTER = re.compile(
    r"\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})|\\U([0-9A-Fa-f]{8})|\\([nrt\\\"\[\]-])|([^\\\r\n])"
)
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}
_TIMES = re.compile(r"[*+?]|\{\s*\d{1,9}\s*(,\s*(\d{1,9}\s*)?)?\}")
_TOKEN = re.compile(r"(!?)<(?:\[(\d{1,9})\]|([^<>\[\]\s]+))>")


def is_gbnf(text: str) -> bool:
    """Whether a grammar is GBNF: its rules have ``::=``."""
    return bool(_GBNF_RULE.search(text))


def gbnf_as_lark(text: str) -> str:
    """A grammar in GBNF as Lark. Raises OptionError, with the line, for one that is malformed."""
    reader = _Reader(text)
    rules = reader.rules()
    if "root" not in rules:
        raise OptionError("the grammar has no rule root", hint="begin it with root ::= …")
    for name in reader.referred.keys() - rules.keys():
        raise reader.error(f"there is no rule {name}", reader.referred[name])
    whole = _Regex(rules).of(rules["root"], ("root",))
    if whole is not None and 0 < len(whole) <= LONGEST_REGEX:
        return f"start: /{whole}/\n"
    names = {name: "start" if name == "root" else f"rule_{i}" for i, name in enumerate(rules)}
    return "".join(f"{names[name]}: {_lark(rule, names)}\n" for name, rule in rules.items())


@dataclass(frozen=True)
class _One:
    """One character: a class of a regular expression."""

    regex: str


@dataclass(frozen=True)
class _Token:
    """A token, as Lark has it."""

    lark: str


@dataclass(frozen=True)
class _Rule:
    name: str


@dataclass(frozen=True)
class _Sequence:
    parts: "tuple[_Part, ...]"


@dataclass(frozen=True)
class _Choice:
    parts: "tuple[_Part, ...]"


@dataclass(frozen=True)
class _Repeated:
    part: "_Part"
    times: str


_Part = _One | _Token | _Rule | _Sequence | _Choice | _Repeated


def _lark(part: _Part, names: Mapping[str, str]) -> str:
    match part:
        case _One(regex):
            return f"/{regex}/"
        case _Token(lark):
            return lark
        case _Rule(name):
            return names[name]
        case _Sequence(parts):
            return " ".join(_lark(each, names) for each in parts) or '""'
        case _Choice(parts):
            return f"({' | '.join(_lark(each, names) for each in parts)})"
        case _Repeated(inner, times):
            return f"({_lark(inner, names)}){times}"


class _Regex:
    """Parts as regular expressions; None for what is none, or a long one."""

    def __init__(self, rules: Mapping[str, _Part]) -> None:
        self._rules = rules
        self._known: dict[str, str | None] = {}

    def of(self, part: _Part, within: tuple[str, ...]) -> str | None:
        """``within``: the rules that the part is of."""
        match part:
            case _One(regex):
                return regex
            case _Token():
                return None
            case _Rule(name):
                return self._of_rule(name, within)
            case _Sequence(parts):
                return self._joined(parts, "", within)
            case _Choice(parts):
                joined = self._joined(parts, "|", within)
                return None if joined is None else f"(?:{joined})"
            case _Repeated(inner, times):
                found = self.of(inner, within)
                return None if found is None else f"(?:{found}){times}"

    def _of_rule(self, name: str, within: tuple[str, ...]) -> str | None:
        if name in within or len(within) > DEEPEST:
            return None
        if name not in self._known:
            self._known[name] = self.of(self._rules[name], (*within, name))
        return self._known[name]

    def _joined(self, parts: tuple[_Part, ...], by: str, within: tuple[str, ...]) -> str | None:
        found: list[str] = []
        size = 0
        for part in parts:
            regex = self.of(part, within)
            size += LONGEST_REGEX if regex is None else len(regex)
            if regex is None or size > LONGEST_REGEX:
                return None
            found.append(regex)
        return by.join(found)


class _Reader:
    """Reads a grammar from its beginning."""

    def __init__(self, text: str) -> None:
        self.referred: dict[str, int] = {}
        """Rules that others refer to, and where first."""
        self._text = text
        self._at = 0
        self._depth = 0

    def rules(self) -> dict[str, _Part]:
        rules: dict[str, _Part] = {}
        self._take(_SPACE)
        while self._at < len(self._text):
            start = self._at
            name = self._take(_NAME)
            self._take(_SPACE)
            if not name or not self._take(_DEFINES):
                raise self.error("a rule is expected, as in name ::= …", start)
            if name in rules:
                raise self.error(f"the rule {name} is there twice", start)
            self._take(_SPACE)
            rules[name] = self._choice(_BLANKS)
            here = self._at
            if not self._take(_SPACE) and here < len(self._text):
                raise self.error(f"{shown(self._text[here])} is unexpected", here)
            if "\n" not in self._text[here : self._at] and self._at < len(self._text):
                raise self.error(f"{shown(self._text[self._at])} is unexpected", self._at)
        return rules

    def error(self, problem: str, at: int) -> OptionError:
        line = self._text.count("\n", 0, at) + 1
        return OptionError(f"the grammar is no GBNF: line {line}: {problem}")

    def _choice(self, blanks: re.Pattern[str]) -> _Part:
        """``blanks``: what may stand between parts; in a group, lines end anywhere."""
        parts = [self._sequence(blanks)]
        while self._continues():
            parts.append(self._sequence(blanks))
        return parts[0] if len(parts) == 1 else _Choice(tuple(parts))

    def _continues(self) -> bool:
        """Whether another alternative follows, on this line or the next."""
        before = self._at
        self._take(_SPACE)
        if self._text.startswith("|", self._at):
            self._at += 1
            self._take(_SPACE)
            return True
        self._at = before
        return False

    def _sequence(self, blanks: re.Pattern[str]) -> _Part:
        parts: list[_Part] = []
        while (found := self._part()) is not None:
            self._take(blanks)
            times = _TIMES.match(self._text, self._at)
            if times is not None:
                self._at = times.end()
                found = _Repeated(found, "".join(times[0].split()))
                self._take(blanks)
            parts.append(found)
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts))

    def _part(self) -> _Part | None:
        """The part that stands here; None where there is none."""
        first = self._text[self._at : self._at + 1]
        if first == '"':
            return self._literal()
        if first == "[":
            return self._class()
        if first == ".":
            self._at += 1
            return _One("(?s:.)")
        if first == "(":
            return self._group()
        if first in ("<", "!") and first:
            return self._token()
        start = self._at
        name = self._take(_NAME)
        if not name:
            return None
        self.referred.setdefault(name, start)
        return _Rule(name)

    def _group(self) -> _Part:
        start = self._at
        self._at += 1
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.error(f"more than {DEEPEST} groups within each other", start)
        self._take(_SPACE)
        inner = self._choice(_SPACE)
        self._take(_SPACE)
        if not self._text.startswith(")", self._at):
            raise self.error("a group is not closed", start)
        self._at += 1
        self._depth -= 1
        return inner

    def _literal(self) -> _Part:
        start = self._at
        self._at += 1
        parts: list[_Part] = []
        while not self._text.startswith('"', self._at):
            parts.append(_One(f"[{self._character('a text is not closed', start)}]"))
        self._at += 1
        return _Sequence(tuple(parts))

    def _class(self) -> _One:
        start = self._at
        self._at += 1
        inner = ""
        if self._text.startswith("^", self._at):
            self._at += 1
            inner = "^"
        empty = inner
        while not self._text.startswith("]", self._at):
            inner += self._character("a class is not closed", start)
            after = self._text[self._at : self._at + 2]
            if after[:1] == "-" and after != "-]":
                self._at += 1
                inner += "-" + self._character("a class is not closed", start)
        self._at += 1
        if inner == empty:
            raise self.error("a class has no characters", start)
        return _One(f"[{inner}]")

    def _character(self, lacking: str, start: int) -> str:
        """A character, as regular expressions have it by its code."""
        found = _CHARACTER.match(self._text, self._at)
        if found is None:
            if self._text.startswith("\\", self._at):
                raise self.error(
                    f"{shown(self._text[self._at : self._at + 2])} is no escape", start
                )
            raise self.error(lacking, start)
        self._at = found.end()
        code = next((int(digits, 16) for digits in found.groups()[:3] if digits), None)
        if code is None:
            code = ord(_NAMED.get(found[4], found[4]) if found[4] else found[5])
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise self.error(f"U+{code:X} is no character", start)
        return f"\\x{{{code:X}}}"

    def _token(self) -> _Token:
        found = _TOKEN.match(self._text, self._at)
        if found is None or (found[1] and found[3]):
            raise self.error("a token is <[its number]> or <its name>", self._at)
        self._at = found.end()
        if found[3]:
            return _Token(f"<{found[3]}>")
        return _Token(f"<[{'^' if found[1] else ''}{found[2]}]>")

    def _take(self, pattern: re.Pattern[str]) -> str:
        """What ``pattern`` matches here, "" for nothing."""
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]
