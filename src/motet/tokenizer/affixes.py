"""What goes around and between texts: BOS and EOS, [CLS] and [SEP]."""

from dataclasses import dataclass

from motet.tokenizer.metadata import VocabularyKeys


@dataclass(frozen=True)
class Affixes:
    """Ids put before and after a text, and between the texts of a pair.

    ``first_end``, ``second_start``: between the two, those that count with the first and those that
    count with the second; both empty if the vocabulary has no form for a pair.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    first_end: tuple[int, ...]
    second_start: tuple[int, ...]


def read_affixes(
    keys: VocabularyKeys,
    start: int | None,
    end: int | None,
    separator: int | None,
    usual: tuple[bool, bool, bool],
) -> Affixes:
    """What the file asks for.

    ``start``, ``end``, ``separator``: the tokens to be added. ``usual``: whether each is, where the
    file does not say; the separator only if both others are, as in RoBERTa.
    Raises TokenizerError for a flag that asks for a token which the file does not name.
    """
    starts = _adds(keys, "bos", usual[0], start)
    ends = _adds(keys, "eos", usual[1], end)
    separates = _adds(keys, "sep", starts and ends and usual[2], separator)
    suffix = _these(ends, end)
    return Affixes(_these(starts, start), suffix, suffix, _these(separates, separator))


def _these(added: bool, token: int | None) -> tuple[int, ...]:
    return () if token is None or not added else (token,)


def _adds(keys: VocabularyKeys, name: str, usual: bool, token: int | None) -> bool:
    key = f"tokenizer.ggml.add_{name}_token"
    adds = keys.flag(key, usual and token is not None)
    if adds and token is None:
        raise keys.error(key, f"is true, but the file names no {name.upper()} token")
    return adds
