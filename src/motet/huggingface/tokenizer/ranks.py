"""tiktoken's lists of tokens by rank, as Kimi's models have them, in byte-level BPE's terms.

Of neighbours in a piece, those are merged that make the token of the lowest rank, whichever parts
it is made of; a piece that is a token is that token (``tiktoken`` of OpenAI).
"""

import binascii
from base64 import b64decode
from collections.abc import Iterator, Mapping

from motet.huggingface.tokenizer.added_tokens import AddedToken
from motet.huggingface.tokenizer.description import Draft
from motet.huggingface.tokenizer.files import TokenizerFiles
from motet.huggingface.tokenizer.token_table import TokenTable
from motet.tokenizer.bpe import BYTE_OF
from motet.tokenizer.types import TokenType

RANKS = "tiktoken.model"
KIMI = "TikTokenTokenizer"
"""The class of Kimi's tokenizers, which is code of the models' own; it does what is done here."""
_PRE = "kimi-k2"
_LONGEST = 1 << 10
"""Bytes of a token; Kimi's longest has 128."""
_CHAR_OF = {byte: char for char, byte in BYTE_OF.items()}


def read_ranks(files: TokenizerFiles, n_vocab: int, added: Mapping[int, AddedToken]) -> Draft:
    """Kimi's vocabulary: the list, and after it special tokens, which have a name where none is
    given. Raises TokenizerError for a list that is damaged, or longer than ``n_vocab``."""
    tokens = [*_tokens(files)]
    if len(tokens) > n_vocab:
        raise files.error(RANKS, f"has {len(tokens)} tokens, but the model has {n_vocab}")
    ranks = {token: rank for rank, token in enumerate(tokens)}
    lacking = next((byte for byte in range(256) if bytes((byte,)) not in ranks), None)
    if len(ranks) < len(tokens) or lacking is not None:
        what = "a token twice" if lacking is None else f"no token for the byte 0x{lacking:02X}"
        raise files.error(RANKS, f"has {what}")
    texts = ["".join(map(_CHAR_OF.__getitem__, token)) for token in tokens]
    table = TokenTable.empty(files.where(RANKS), n_vocab)
    table.fill((rank, text, 0.0, TokenType.NORMAL) for rank, text in enumerate(texts))
    reserved = (index for index in range(len(tokens), n_vocab) if index not in added)
    table.add({i: AddedToken(f"<|reserved_token_{i}|>", special=True) for i in reserved})
    return Draft("gpt2", table, keys={"pre": _PRE, "merges": [*_merges(tokens, texts, ranks)]})


def _tokens(files: TokenizerFiles) -> Iterator[bytes]:
    """The tokens in order, from lines of one in base64 and its rank."""
    for number, line in enumerate(filter(None, files.directory.data(RANKS).split(b"\n"))):
        text, _, rank = line.partition(b" ")
        try:
            token = b64decode(text, validate=True)
        except binascii.Error:
            token = b""
        if rank.strip() != str(number).encode() or not 0 < len(token) <= _LONGEST:
            raise files.error(
                RANKS,
                f"has {line[:60]!r} at line {number + 1}, which must be a token of up to"
                f" {_LONGEST} bytes in base64 and the rank {number}",
            )
        yield token


def _merges(tokens: list[bytes], texts: list[str], ranks: Mapping[bytes, int]) -> Iterator[str]:
    """All pairs that make a token, in order of its rank.

    Of one token's, which count alike in the list, those first whose left part is longer: what
    is merged from the left on has grown there.
    """
    for token, text in zip(tokens, texts, strict=True):
        for cut in range(len(token) - 1, 0, -1):
            if token[:cut] in ranks and token[cut:] in ranks:
                yield f"{text[:cut]} {text[cut:]}"
