"""A vocabulary as llguidance wants it: the bytes of each token, as decoding gives them."""

from typing import TYPE_CHECKING

from motet.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_MARK = b"\xff"


class _Tokens:
    """What ``LLTokenizer`` reads of a tokenizer.

    Special tokens are matched by name (``<|im_end|>``) or number (``<[5]>``) alone, never by the
    text that spells them. A token without bytes is never allowed: those that the model has beyond
    its vocabulary, and bytes that no text has and llguidance marks special tokens with.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, n_vocab: int) -> None:
        pieces = map(tokenizer.piece, range(tokenizer.n_vocab))
        self.tokens = [b"" if piece.startswith(_MARK) else piece for piece in pieces]
        self.tokens += [b""] * (n_vocab - tokenizer.n_vocab)
        self.special_token_ids = sorted(tokenizer.special)
        self.eog = sorted(tokenizer.eog)
        if not self.eog:  # one that the model does not have: nothing but the grammar ends an answer
            self.eog = [len(self.tokens)]
            self.tokens.append(b"")
        self.eos_token_id = self.eog[0]

    def __call__(self, text: object) -> list[int]:
        """Tokens are for the model to choose, also where the grammar leaves one text alone."""
        raise NotImplementedError


def masked_vocabulary(tokenizer: Tokenizer, n_vocab: int) -> "LLTokenizer":
    """What masks of ``n_vocab`` tokens are computed from; takes a second for 262,144 of them."""
    from llguidance import LLTokenizer

    tokens = _Tokens(tokenizer, n_vocab)
    return LLTokenizer(tokens, eos_token=tokens.eog)  # pyright: ignore[reportArgumentType]
