"""``--json-schema``, ``--regex`` and ``--grammar``: what an answer is held to."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from motet.cli.inputs import read_text

if TYPE_CHECKING:
    from motet.grammar import Grammar, GrammarCompiler


@dataclass(frozen=True)
class Constraint:
    """One of them at most: a schema's text, a pattern, or a grammar's text."""

    json_schema: str | None = None
    regex: str | None = None
    grammar: str | None = None

    def compiled(self, grammars: "GrammarCompiler") -> "Grammar | None":
        """None where nothing is given. Raises what ``GrammarCompiler`` does."""
        if self.json_schema is not None:
            return grammars.json_schema(self.json_schema)
        if self.regex is not None:
            return grammars.regex(self.regex)
        return None if self.grammar is None else grammars.gbnf_or_lark(self.grammar)


def constraint_options(command: Callable[..., None]) -> Callable[..., None]:
    """The three options, their files read, as one ``constraint``."""

    @functools.wraps(command)
    def gathered(
        json_schema: str | None, regex: str | None, grammar: str | None, **parameters: object
    ) -> None:
        given = {"--json-schema": json_schema, "--regex": regex, "--grammar": grammar}
        named = [option for option, value in given.items() if value is not None]
        if len(named) > 1:
            raise click.UsageError(f"{' and '.join(named)}: an answer is held to one of them")
        constraint = Constraint(
            None if json_schema is None else read_text(json_schema),
            regex,
            None if grammar is None else read_text(grammar),
        )
        command(constraint=constraint, **parameters)

    options = (
        ("--json-schema", "FILE", "Answer with JSON that satisfies the schema in FILE."),
        ("--regex", "PATTERN", "Answer with text that PATTERN matches as a whole."),
        ("--grammar", "FILE", "Answer with text of the grammar in FILE, Lark or GBNF."),
    )
    for name, metavar, help in reversed(options):
        gathered = click.option(name, metavar=metavar, help=help)(gathered)
    return gathered
