"""Log probabilities in the form of completions, which is older than that of chats."""

from collections.abc import Sequence
from typing import Any

from motet.sampling import TokenLogprob
from motet.tokenizer import Tokenizer

_LEAST = -9999.0
"""For minus infinity, which JSON has not."""


class OfCompletion:
    """``logprobs`` of one choice, in parts that follow each other."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._offset = 0
        """Characters so far."""

    def begun(self, first: int) -> dict[str, Any]:
        """The prompt's first token, which nothing precedes."""
        return self._form([(first, None, None)])

    def part(self, found: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Of the tokens that come next."""
        return self._form([(each.token, each.logprob, each.top) for each in found])

    def _form(
        self, rows: Sequence[tuple[int, float | None, Sequence[tuple[int, float]] | None]]
    ) -> dict[str, Any]:
        tokens, offsets = list[str](), list[int]()
        for token, _, _ in rows:
            tokens.append(_text(self._tokenizer.piece(token)))
            offsets.append(self._offset)
            self._offset += len(tokens[-1])
        return {
            "tokens": tokens,
            "token_logprobs": [None if lp is None else max(lp, _LEAST) for _, lp, _ in rows],
            "top_logprobs": [None if top is None else self._best(top) for _, _, top in rows],
            "text_offset": offsets,
        }

    def _best(self, top: Sequence[tuple[int, float]]) -> dict[str, float]:
        """By text. Of tokens that share one the most probable counts, which is the first."""
        found: dict[str, float] = {}
        for token, value in top:
            found.setdefault(_text(self._tokenizer.piece(token)), max(value, _LEAST))
        return found


def joined(*parts: dict[str, Any]) -> dict[str, Any]:
    """Parts of one choice, put together."""
    return {name: [each for part in parts for each in part[name]] for name in parts[0]}


def _text(piece: bytes) -> str:
    """A token's text; of a part of a character its bytes, as OpenAI writes them."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
