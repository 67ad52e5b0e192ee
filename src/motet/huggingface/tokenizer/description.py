"""What a ``tokenizer.json`` describes, and the vocabulary in GGUF's terms that is made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from motet.errors import TokenizerError, UnsupportedError, shown
from motet.huggingface.tokenizer.added_tokens import AddedToken
from motet.huggingface.tokenizer.token_table import TokenTable
from motet.weights.gguf_metadata import MetadataValue


@dataclass
class Draft:
    """A vocabulary before special tokens have got their parts.

    ``kind``: ``tokenizer.ggml.model``. ``scored``: whether tokens have scores. ``keys``: further
    keys, without ``tokenizer.ggml.``.
    """

    kind: str
    table: TokenTable
    scored: bool = False
    keys: dict[str, MetadataValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Description:
    """The parts of a ``tokenizer.json``, or an older form brought into this one.

    ``where``: the file, for errors. ``n_vocab``: tokens that the model has rows for.
    """

    where: str
    architecture: str
    n_vocab: int
    added: Mapping[int, AddedToken]
    model: Mapping[str, Any]
    normalizer: Any
    pre_tokenizer: Any

    def words(self) -> dict[str, int]:
        """Token -> id. Raises TokenizerError for what is none."""
        vocab = self.model.get("vocab")
        if not isinstance(vocab, dict) or not vocab:
            raise self.damaged(f"has the vocabulary {shown(vocab)}, must be an object with tokens")
        wrong = next((text for text, index in vocab.items() if type(index) is not int), None)
        if wrong is not None:
            raise self.damaged(f"has {shown(wrong)} at id {shown(vocab[wrong])}, which is none")
        return vocab

    def flag(self, key: str) -> bool:
        """A flag of the model; false where it does not say."""
        value = self.model.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.damaged(f"has {key} {shown(value)}, must be true or false")
        return bool(value)

    def require_only(self, used: tuple[str, ...]) -> None:
        """Raise UnsupportedError for a key of the model, not in ``used``, that says something."""
        for key, value in self.model.items():
            if key not in used and value:
                raise self.refusal(f"the model has {shown(key)}: {shown(value)}")

    def empty_table(self) -> TokenTable:
        return TokenTable.empty(self.where, self.n_vocab)

    def damaged(self, problem: str) -> TokenizerError:
        return TokenizerError(f"{self.where} {problem}", hint="fetch the directory again")

    def refusal(self, problem: str) -> UnsupportedError:
        return UnsupportedError(
            f"{self.where}: {problem}, which is not supported",
            hint="text would be cut into the wrong tokens",
        )
