"""What an answer may say: JSON of a schema, a regular expression, a grammar, as masks of tokens.

The languages and the masks are llguidance's (https://github.com/guidance-ai/llguidance), the extra
``motet[grammar]``; nothing here imports it before a grammar is compiled.
"""

from motet.grammar.compiler import Grammar, GrammarCompiler
from motet.grammar.lookahead import Lookahead
from motet.grammar.matcher import MaskComputer, Matcher
from motet.grammar.schemas import schema_text

__all__ = ["Grammar", "GrammarCompiler", "Lookahead", "MaskComputer", "Matcher", "schema_text"]
