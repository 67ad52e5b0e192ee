"""The tokens of a directory's vocabulary, by id, on their way to GGUF's metadata."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from motet.errors import TokenizerError, UnsupportedError, shown
from motet.huggingface.tokenizer.added_tokens import AddedToken
from motet.tokenizer.spm import SPACE
from motet.tokenizer.types import TokenType

_NO_SCORE = -10000.0
"""Of ids that no token has; llama.cpp's converter has the same numbers."""
_ADDED_SCORE = -1000.0
_SPECIAL = "<pad>", "<mask>", "<2mass>", "[@BOS@]"
"""Tokens that are special, though some files say that they are not (DeepSeek Coder, Gemma)."""
_BRACKETS = ("<|", "|>"), ("<｜", "｜>"), ("<unused", ">")


@dataclass
class TokenTable:
    """``tokens``, ``types`` (TokenType), ``scores``: by id, as many as the model has rows.

    ``where``: the file that they come from, for errors.
    """

    where: str
    tokens: list[str]
    types: list[int]
    scores: list[float]

    @classmethod
    def empty(cls, where: str, n_vocab: int) -> "TokenTable":
        """A table in which every id is unused."""
        tokens = [f"[PAD{index}]" for index in range(n_vocab)]
        return cls(where, tokens, [int(TokenType.UNUSED)] * n_vocab, [_NO_SCORE] * n_vocab)

    def fill(self, tokens: Iterable[tuple[int, str, float, int]]) -> None:
        """Ids with their text, score and type. Raises TokenizerError for an id twice or too large.

        Ids that nothing is said of stay unused.
        """
        seen = bytearray(len(self.tokens))
        for index, text, score, kind in tokens:
            if not 0 <= index < len(seen):
                raise self.error(
                    f"has {shown(text)} at id {index}, but the model has {len(seen)} tokens"
                )
            if seen[index]:
                raise self.error(f"has {shown(self.tokens[index])} and {shown(text)} at id {index}")
            seen[index] = 1
            self.tokens[index], self.scores[index], self.types[index] = text, score, kind

    def add(self, added: Mapping[int, AddedToken]) -> None:
        """Put added tokens in their places; those beyond the model's last id cannot be met."""
        for index, token in added.items():
            if index >= len(self.tokens):
                continue
            if token.single_word:
                raise UnsupportedError(
                    f"{self.where}: the added token {shown(token.content)} counts only as a word "
                    "of its own (single_word), which is not supported"
                )
            text, kind = token.content, TokenType.CONTROL
            if not (token.special or looks_special(text)):
                text, kind = text.replace(SPACE, " "), TokenType.USER_DEFINED
            unknown = self.types[index] == TokenType.UNKNOWN and self.tokens[index] == token.content
            self.tokens[index] = text
            self.types[index] = int(TokenType.UNKNOWN if unknown else kind)
            self.scores[index] = _ADDED_SCORE

    def ids(self) -> dict[str, int]:
        """Text -> id. Raises TokenizerError for a text that two ids have, or that isn't Unicode."""
        ids = dict(zip(self.tokens, range(len(self.tokens)), strict=True))
        if len(ids) != len(self.tokens):
            index = next(i for i, text in enumerate(self.tokens) if ids[text] != i)
            again = ids[self.tokens[index]]
            raise self.error(f"has {shown(self.tokens[index])} at both {index} and {again}")
        try:
            "".join(self.tokens).encode()
        except UnicodeEncodeError as error:
            wrong = error.object[error.start]
            index = next(index for index, text in enumerate(self.tokens) if wrong in text)
            raise self.error(f"has a lone surrogate in the token at id {index}") from None
        return ids

    def error(self, problem: str) -> TokenizerError:
        return TokenizerError(f"{self.where} {problem}", hint="fetch the directory again")


def looks_special(text: str) -> bool:
    """Whether an added token is a control token whatever the file says, as in llama.cpp."""
    return text in _SPECIAL or any(
        text.startswith(start) and text.endswith(end) for start, end in _BRACKETS
    )
