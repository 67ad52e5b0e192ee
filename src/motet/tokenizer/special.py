"""Which tokens of a vocabulary have a part to play, as llama.cpp finds them."""

from dataclasses import dataclass

from motet.tokenizer.metadata import VocabularyKeys
from motet.tokenizer.types import TokenType


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens with a part to play; None where the vocabulary has no such token."""

    bos: int | None
    eos: int | None
    unk: int | None
    sep: int | None
    cls: int | None
    pad: int | None
    eot: int | None
    eom: int | None
    eog: frozenset[int]
    suppressed: frozenset[int]
    stripping: frozenset[int]
    """Those that take the spaces right after them, spelt out in a text."""


_END_OF_TURN = (
    "<|eot_id|>",  # Llama 3
    "<|im_end|>",  # ChatML
    "<|end|>",  # Phi 3
    "<end_of_turn>",  # Gemma
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",  # DeepSeek
    "<end_of_utterance>",
)
_END_OF_MESSAGE = ("<|eom_id|>",)
END_OF_GENERATION = (
    *_END_OF_TURN,
    *_END_OF_MESSAGE,
    "</s>",
    "<eos>",
    "[EOS]",
    "<turn|>",  # Gemma 4
    "<|tool_response>",
    "<|return|>",  # gpt-oss
    "<|call|>",
    "<|flush|>",  # Solar Open
    "<|calls|>",
    "[e~[",  # MiniMax
)
_PADDING_OF_CODE = {
    "fim_pad": (
        "<|fim_pad|>",
        "<fim-pad>",
        "<fim_pad>",
        "<PAD>",
        "[PAD]",
    ),
    "fim_rep": (
        "<|fim_repo|>",
        "<|repo_name|>",
        "<fim-repo>",
        "<REPO>",
        "<reponame>",
    ),
    "fim_sep": ("<|file_sep|>",),
}
"""Code models end an answer by going on to the next file or repository."""
_FILL_IN_THE_MIDDLE = tuple(
    spelling.format(part)
    for spelling, parts in {
        "<|fim_{}|>": ("prefix", "suffix", "middle"),
        "<fim_{}>": ("prefix", "suffix", "middle"),
        "<fim-{}>": ("prefix", "suffix", "middle"),
        "<|code_{}|>": ("prefix", "suffix", "middle"),
        "<|{}|>": ("prefix", "suffix", "middle"),
        "<｜fim▁{}｜>": ("begin", "hole", "end"),
        "<{}>": ("PRE", "SUF", "MID"),
        "▁<{}>": ("PRE", "SUF", "MID"),
    }.items()
    for part in parts
)
_PHI_3_TURNS = (
    "</s>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    *(f"<|placeholder{number}|>" for number in range(1, 7)),
)


SPELLINGS = frozenset(
    (
        "<unk>",
        *END_OF_GENERATION,
        *(text for texts in _PADDING_OF_CODE.values() for text in texts),
        *_FILL_IN_THE_MIDDLE,
        *_PHI_3_TURNS,
    )
)
"""Those that ``special_tokens`` looks for."""


def special_tokens(
    keys: VocabularyKeys, ids: dict[str, int], types: bytearray, defaults: dict[str, int]
) -> SpecialTokens:
    """The tokens with a part to play. ``ids``: of SPELLINGS, where the vocabulary has them.

    Tokens that look like control tokens but are not marked so in ``types`` become so: a text must
    not end a generation by spelling them.
    """

    def named(name: str, default: int | None = None) -> int | None:
        return keys.special_id(name, len(types)) if keys.names_special(name) else default

    def control(name: str) -> int | None:
        index = defaults.get(name, len(types))
        is_control = index < len(types) and types[index] == TokenType.CONTROL
        return named(name, index if is_control else None)

    def found(name: str, texts: tuple[str, ...]) -> int | None:
        return named(name, next((ids[text] for text in texts if text in ids), None))

    unknown = types.find(TokenType.UNKNOWN)  # converters may mark it as a control token
    eos = control("eos")
    eot = found("eot", _END_OF_TURN)
    eom = found("eom", _END_OF_MESSAGE)
    padding = [found(name, texts) for name, texts in _PADDING_OF_CODE.items()]
    ordinary = _not_ends(ids, types, eos)
    ends = {ids[text] for text in END_OF_GENERATION if text in ids}
    ends = (ends | {index for index in padding if index is not None}) - ordinary
    for index in ends | {ids[text] for text in _FILL_IN_THE_MIDDLE if text in ids}:
        types[index] = TokenType.CONTROL
    ends |= {index for index in (eos, eot, eom) if index is not None}
    return SpecialTokens(
        bos=control("bos"),
        eos=eos,
        unk=named("unknown", unknown if unknown >= 0 else ids.get("<unk>")),
        sep=named("seperator"),
        cls=named("cls"),
        pad=named("padding"),
        eot=eot,
        eom=eom,
        eog=frozenset(ends - ordinary),
        suppressed=keys.token_ids("tokenizer.ggml.suppress_tokens", len(types)),
        stripping=_stripping(keys, ids),
    )


def _not_ends(ids: dict[str, int], types: bytearray, eos: int | None) -> set[int]:
    """Tokens that end a generation elsewhere, but not in this vocabulary."""
    tokens = set[int]()
    calls, goes_on = (
        {"<|call|>", "<|calls|>"} & ids.keys(),
        {"<|return|>", "<|flush|>"} & ids.keys(),
    )
    if "<|end|>" in ids and calls and goes_on:
        tokens.add(ids["<|end|>"])  # ends a message of gpt-oss or Solar Open; more follow
    tag = ids.get("</s>")
    if tag is not None and tag != eos and types[tag] == TokenType.NORMAL:
        tokens.add(tag)  # an ordinary HTML tag in Qwen and Gemma 4
    return tokens


def _stripping(keys: VocabularyKeys, ids: dict[str, int]) -> frozenset[int]:
    """Phi-3's turn tokens take the spaces after them, which no key of the format says.

    By architecture, as transformers knows them, or by name, as llama.cpp does.
    """
    name = (keys.text("general.name") or "").lower()
    phi3 = "phi-3" in name or "phi3" in name
    if keys.text("tokenizer.ggml.model") == "llama":  # other vocabularies of phi3 are Phi-4's
        phi3 |= keys.text("general.architecture") in ("phi3", "phimoe")
    return frozenset(ids[text] for text in _PHI_3_TURNS if phi3 and text in ids)
