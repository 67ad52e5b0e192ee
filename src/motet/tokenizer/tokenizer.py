"""Text to ids and back, with the vocabulary of a model file."""

import copy
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Protocol

from motet import checks
from motet.cached import cached_property
from motet.errors import TokenizerError
from motet.tokenizer.affixes import Affixes
from motet.tokenizer.decoder import IncrementalDecoder
from motet.tokenizer.sandbox import TemplateSandbox
from motet.tokenizer.split import SpecialSplitter
from motet.tokenizer.template_traits import KnownTemplates
from motet.tokenizer.types import SILENT_TYPES, SPECIAL_TYPES, TokenType
from motet.tokenizer.vocabulary import Vocabulary

_WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
"""Unicode's White_Space, as the ``tokenizers`` library strips; ``str.strip`` takes more."""


class Codec(Protocol):
    """One way to cut text into the tokens of a vocabulary."""

    @property
    def adds_space(self) -> bool:
        """Whether text that starts gets a space before it."""
        ...

    def encode(self, text: str, starts: bool) -> list[int]:
        """Ids of text in which no special token counts.

        ``starts``: it stands at the beginning or right after a special token. What has no token
        is left out, or the unknown token.
        """
        ...

    def unspelt(self, text: str) -> tuple[int, str] | None:
        """The first character, or word, that has no token, and its place; None if all have."""
        ...

    def piece(self, token: int) -> bytes:
        """What a token stands for."""
        ...


class Tokenizer:
    """The vocabulary of a model: made by ``from_gguf``, safe to share between threads.

    ``kind``: "llama" (SentencePiece), "t5" (SentencePiece, Unigram), "bert" (WordPiece), "gpt2"
    (byte-level BPE), "gemma4" or "rwkv" (longest match). ``n_vocab``: number of tokens. ``bos``
    (BERT's [CLS] too), ``eos``, ``unk``, ``sep``, ``pad``, ``eot``, ``eom``: ids, None where there
    is none. ``eog``: ids that end a generation. ``suppressed``: ids that are never to be generated.
    ``special``: ids of control and unknown tokens, which stand for no text. ``prefix``, ``suffix``:
    ids that ``encode`` adds before and after a text. ``add_bos``, ``add_eos``: whether there are
    any. ``chat_templates``: name -> Jinja source, the file's main one under "default".
    ``sandbox``: where chat templates are rendered. ``known_templates``: what they make of tools.
    """

    def __init__(
        self,
        kind: str,
        vocabulary: Vocabulary,
        codec: Codec,
        affixes: Affixes,
        chat_templates: Mapping[str, str],
    ) -> None:
        self.kind = kind
        self.n_vocab = len(vocabulary.texts)
        self.bos = vocabulary.special.bos
        self.eos = vocabulary.special.eos
        self.unk = vocabulary.special.unk
        self.sep = vocabulary.special.sep
        self.pad = vocabulary.special.pad
        self.eot = vocabulary.special.eot
        self.eom = vocabulary.special.eom
        self.eog = vocabulary.special.eog
        self.suppressed = vocabulary.special.suppressed
        self.special = frozenset(vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN))
        self.prefix = affixes.prefix
        self.suffix = affixes.suffix
        self.add_bos = bool(affixes.prefix)
        self.add_eos = bool(affixes.suffix)
        self.chat_templates = MappingProxyType(dict(chat_templates))
        self.sandbox = TemplateSandbox()
        self.known_templates = KnownTemplates(self.sandbox)
        self._vocabulary = vocabulary
        self._codec = codec
        self._affixes = affixes

    @property
    def chat_template(self) -> str | None:
        """The file's main chat template, Jinja; None if it has none."""
        return self.chat_templates.get("default")

    def with_chat_template(self, template: str) -> "Tokenizer":
        """The same vocabulary with another main chat template, a Jinja source."""
        other = copy.copy(self)
        other.chat_templates = MappingProxyType({**self.chat_templates, "default": template})
        other.sandbox = TemplateSandbox()
        return other

    @checks.named
    def encode(
        self,
        text: str,
        add_special: bool = True,
        parse_special: bool = False,
        strict: bool = False,
    ) -> list[int]:
        """The ids of ``text``.

        ``add_special``: put ``prefix`` before and ``suffix`` after.
        ``parse_special``: control tokens spelt out in the text become those tokens; otherwise
        their spelling is text like any other. Tokens that the vocabulary calls user-defined are
        always matched. ``strict``: refuse what the vocabulary cannot spell; otherwise it is left
        out or becomes the unknown token, as in the libraries that such vocabularies are made for.

        Raises TokenizerError for text that is not Unicode or, with ``strict``, cannot be spelt.
        """
        _check_unicode(checks.text("text", text))
        add_special = checks.flag("add_special", add_special)
        parse_special = checks.flag("parse_special", parse_special)
        strict = checks.flag("strict", strict)
        ids = [*self.prefix] if add_special else []
        starts, strips = True, False
        place = 0
        splitter = self._all_special if parse_special else self._user_defined
        for part in splitter.split(text):
            if isinstance(part, int):
                ids.append(part)
                starts, strips = True, part in self._vocabulary.special.stripping
                place += len(self._vocabulary.texts[part])
                continue
            kept = part.lstrip(_WHITE_SPACE) if strips else part
            if kept:
                if strict:
                    self._check_spelt(kept, place + len(part) - len(kept))
                ids += self._codec.encode(kept, starts)
                starts = False
            strips = False
            place += len(part)
        return [*ids, *self.suffix] if add_special else ids

    def encode_pair(self, first: str, second: str) -> list[int]:
        """The ids of two texts as a cross-encoder reads them, such as a query and a document.

        [CLS] first [SEP] second [SEP] for BERT, <s> first </s></s> second </s> for XLM-RoBERTa:
        the two ``segments``, one after the other.
        """
        before, after = self.segments(first, second)
        return before + after

    def segments(self, first: str, second: str) -> tuple[list[int], list[int]]:
        """The ids of two texts as ``encode_pair`` puts them together, as two lists.

        Where Hugging Face gives the second text a token type of its own (BERT: 1), those are the
        tokens of the second list. Runtimes of GGUF files, llama.cpp too, give all of them type 0.

        Raises TokenizerError if the vocabulary has no form for a pair, and as ``encode`` does.
        """
        around = self._affixes
        if not around.first_end + around.second_start:
            raise TokenizerError(
                "this model's vocabulary has no form for a pair of texts: the file says of no "
                "token that it is added between them",
                hint="put both into one text, as the model's own instructions have it",
            )
        ids = self.encode(first, add_special=False), self.encode(second, add_special=False)
        before = [*around.prefix, *ids[0], *around.first_end]
        return before, [*around.second_start, *ids[1], *around.suffix]

    def split_special(self, text: str) -> Iterator[str | int]:
        """The parts of ``text``: the id of a token that it spells, or what is between two such."""
        return self._all_special.split(checks.text("text", text))

    def decode(self, ids: Collection[int], previous: int | None = None) -> str:
        """The text of ``ids``: every one is written, control tokens as they are spelt.

        A space at the start is left out where ``encode`` would have added it: at the beginning,
        and after a special token. Bytes that are no UTF-8 become U+FFFD. ``previous``: the id
        before the first, if the text goes on from one.

        Raises TokenizerError for an id that the vocabulary does not have.
        """
        ids = checks.collection("ids", ids, "token ids")
        decoder = IncrementalDecoder(self, previous)
        return "".join(map(decoder.push, ids)) + decoder.flush()

    def piece(self, token: int) -> bytes:
        """What one token stands for: text in UTF-8, whole characters or not."""
        return self._codec.piece(self._known(token))

    def difference(self, other: "Tokenizer", count: int) -> int | None:
        """The first of ``count`` ids whose token is another one in ``other``; None if none is.

        Tokens that stand for no text in either may be different ones.
        """
        hint = "give the tokenizer of another model"
        other = checks.instance("other", other, Tokenizer, hint)
        count = checks.whole("count", count)
        ours, theirs = self._vocabulary.types[:count], other._vocabulary.types[:count]
        for token, (one, another) in enumerate(zip(ours, theirs, strict=False)):
            if one in SILENT_TYPES and another in SILENT_TYPES:
                continue
            if self._codec.piece(token) != other._codec.piece(token):
                return token
        return None

    def opens_text(self, token: int | None) -> bool:
        """Whether text right after ``token`` (None: at the very start) gets a space of its own."""
        if token is None or not self._codec.adds_space:
            return self._codec.adds_space
        kind = self._vocabulary.types[self._known(token)]
        return kind in (TokenType.CONTROL, TokenType.USER_DEFINED)

    def _check_spelt(self, text: str, start: int) -> None:
        """``start``: where ``text`` begins in the whole."""
        unspelt = self._codec.unspelt(text)
        if unspelt is not None:
            place, lacking = unspelt
            shown = f"{lacking[:40]!r}"
            shown += f", U+{ord(lacking):04X}," if len(lacking) == 1 else ""
            raise TokenizerError(
                f"the vocabulary has no token for {shown} at position {start + place}",
                hint="without strict=True it is left out or becomes the unknown token",
            )

    def _known(self, token: int) -> int:
        known = checks.whole("a token id", token, checks.LEAST)
        if not 0 <= known < self.n_vocab:
            raise TokenizerError(f"token id {known} is not in the vocabulary of {self.n_vocab}")
        return known

    @cached_property
    def _user_defined(self) -> SpecialSplitter:
        return self._splitter(TokenType.USER_DEFINED)

    @cached_property
    def _all_special(self) -> SpecialSplitter:
        return self._splitter(*SPECIAL_TYPES)

    def _splitter(self, *types: TokenType) -> SpecialSplitter:
        texts = self._vocabulary.texts
        return SpecialSplitter((texts[token], token) for token in self._vocabulary.of_type(*types))


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the text is not Unicode: a lone surrogate, U+{ord(text[error.start]):04X}, "
            f"at position {error.start}",
            hint="decode bytes with errors='replace'",
        ) from None
