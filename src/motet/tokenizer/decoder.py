"""Ids back to text, one at a time."""

import codecs
from typing import Protocol


class _Pieces(Protocol):
    def piece(self, token: int) -> bytes: ...

    def opens_text(self, token: int | None) -> bool: ...


class IncrementalDecoder:
    """Text from ids that come one by one, never half a character.

    The pushes and the final flush, put together, are ``tokenizer.decode`` of the ids. A byte that
    can no longer become part of a character is U+FFFD at once, an unfinished one at ``flush``.
    """

    def __init__(
        self, tokenizer: _Pieces, previous: int | None = None, *, spaces_count: bool = False
    ) -> None:
        """``previous``: the id before the first one pushed, so the last of a prompt; None if the
        text starts here. It decides whether a leading space is one that the vocabulary adds.
        ``spaces_count``: none is; the text is what the tokens stand for, put together.
        """
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._spaces_count = spaces_count
        self._starts = tokenizer.opens_text(previous)

    def push(self, token: int) -> str:
        """What ``token`` completes; "" as long as a character is unfinished."""
        piece = self._tokenizer.piece(token)
        opens = self._tokenizer.opens_text(token)
        if self._starts and not opens and not self._spaces_count:
            piece = piece.removeprefix(b" ")
        self._starts = opens
        return self._utf8.decode(piece)

    def flush(self) -> str:
        """What is left at the end: U+FFFD for an unfinished character, else ""."""
        return self._utf8.decode(b"", final=True)
