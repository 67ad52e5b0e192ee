"""Schemas and grammars made to take long, much memory or the stack, one after the other.

Run as a program: a line each with its name, the seconds it took and what is said of it.
"""

import resource
from collections.abc import Callable
from time import perf_counter
from typing import Any

from motet.errors import OptionError
from motet.grammar import GrammarCompiler
from tests.grammar.bytewise import compiler


def chain(count: int, link: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """A schema of definitions that refer each to the next."""
    definitions = {f"a{i}": link({"$ref": f"#/$defs/a{i + 1}"}) for i in range(count)}
    return {"$defs": {**definitions, f"a{count}": {"type": "integer"}}, "$ref": "#/$defs/a0"}


def doubled(times: int, twice: Callable[[Any], Any]) -> Any:
    schema: Any = {"type": "object"}
    for _ in range(times):
        schema = twice(schema)
    return schema


def within_itself() -> dict[str, Any]:
    schema: dict[str, Any] = {}
    schema["items"] = schema
    return schema


def schemas() -> dict[str, Any]:
    either = {"anyOf": [{"type": "object"}, {"type": "null"}]}
    return {
        "chain of references": chain(9000, lambda link: link),
        "chain of lists": chain(4500, lambda link: {"type": "array", "items": link}),
        "doubling": doubled(9, lambda part: {"allOf": [{"anyOf": [part, {}]}, {"anyOf": [part]}]}),
        "doubling references": chain(30, lambda link: {"allOf": [link, {"anyOf": [link, either]}]}),
        "shared parts": doubled(60, lambda part: {"anyOf": [part, part]}),
        "a schema within itself": within_itself(),
        "deep text": "[" * 100_000,
        "long text": {"const": "a" * 3_000_000},
        "a long number": '{"maximum": 1' + "0" * 5000 + "}",
        "many values": {"enum": [f"v{i}" for i in range(20_000)]},
        "many properties": {"properties": {f"p{i}": {"type": "string"} for i in range(9000)}},
        "many items": {"type": "array", "minItems": 10**9},
        "a long string": {"type": "string", "minLength": 10**6, "maxLength": 10**9},
        "a pattern": {"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}b((.*)x){1,50}$"},
    }


def grammars() -> dict[str, str]:
    return {
        "chain of rules": "start: a0\n" + "".join(f"a{i}: a{i + 1}\n" for i in range(4900)),
        "doubling rules": "root ::= a0\n"
        + "".join(f"a{i} ::= a{i + 1} a{i + 1}\n" for i in range(60)),
        "deep groups": "root ::= " + "(" * 90_000 + '"a"' + ")" * 90_000,
        "deep groups of Lark": "start: " + "(" * 90_000 + '"a"' + ")" * 90_000,
        "rules of nothing else": "start: start",
    }


def patterns() -> dict[str, str]:
    return {
        "deep pattern": "(" * 49_000 + "a" + ")" * 49_000,
        "repeated repetitions": "((((a{1,1000}){1,1000}){1,1000}){1,1000})x",
        "far alternatives": "(.*a.{150}b.*|.*c.{140}d.*){3}",
        "long pattern": "ab?" * 33_000,
    }


def attempt(name: str, compiled: Callable[[], object]) -> None:
    started = perf_counter()
    try:
        compiled()
        said = "compiled"
    except OptionError as error:
        said = str(error)
    assert len(said) < 700
    print(f"{name}: {perf_counter() - started:.2f} s: {said}", flush=True)


def main(grammar: GrammarCompiler) -> None:
    for name, schema in schemas().items():
        attempt(name, lambda schema=schema: grammar.json_schema(schema))
    for name, text in grammars().items():
        whole = text + ('a4900: "x"' if ": a1" in text else 'a60 ::= "x"' if "a60" in text else "")
        attempt(name, lambda whole=whole: grammar.gbnf_or_lark(whole))
    for name, pattern in patterns().items():
        attempt(name, lambda pattern=pattern: grammar.regex(pattern))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    main(compiler())
    print("done")
