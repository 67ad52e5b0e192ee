"""Log probabilities of tokens in the form of OpenAI's APIs."""

from typing import Any

from motet.sampling import TokenLogprob
from motet.tokenizer import Tokenizer

_LEAST = -9999.0
"""What the API says for a probability of zero."""


def token_entry(entry: TokenLogprob, tokenizer: Tokenizer) -> dict[str, Any]:
    """A token's, and those of the most probable ones at its place."""
    top = [_of(token, logprob, tokenizer) for token, logprob in entry.top]
    return {**_of(entry.token, entry.logprob, tokenizer), "top_logprobs": top}


def _of(token: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    piece = tokenizer.piece(token)
    return {
        "token": piece.decode("utf-8", "replace"),
        "bytes": list(piece),
        "logprob": max(logprob, _LEAST),
    }
