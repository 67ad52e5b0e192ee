"""The pre-tokenizers of byte-level BPE: how text is cut before merging, by llama.cpp's names.

Patterns are Oniguruma's, as in the models' own ``tokenizer.json`` where that is known, else as in
llama.cpp's ``llama-vocab.cpp``. ``docs/tokenizers.md`` says how each was checked.
"""

from dataclasses import dataclass
from typing import Any

from motet.errors import UnsupportedError


@dataclass(frozen=True)
class PreTokenizer:
    """How one kind of vocabulary prepares text.

    ``patterns``: each cuts the pieces left by the one before into its matches and what lies
    between them. ``punctuation``: before that, runs of punctuation are cut out, as an older Unicode
    has it. ``spelt_patterns``: the same as ``patterns``, on bytes as they are spelt. ``nfc``: the
    text is first composed (Unicode NFC). ``ignore_merges``: a piece that is a token is that token,
    whatever the merges say. ``add_bos``: the default for files that do not say whether BOS is
    added.
    """

    patterns: tuple[str, ...]
    punctuation: bool = False
    spelt_patterns: tuple[str, ...] = ()
    nfc: bool = False
    ignore_merges: bool = False
    add_bos: bool = False

    def steps(self) -> list[Any]:
        """The library's pre-tokenizers: those that cut, and between them the one that spells."""
        from tokenizers import Regex, pre_tokenizers

        def cuts(patterns: tuple[str, ...]) -> list[Any]:
            return [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns]

        first = [pre_tokenizers.Punctuation("contiguous")] if self.punctuation else []
        spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return [*first, *cuts(self.patterns), spell, *cuts(self.spelt_patterns)]


_ENGLISH = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_FIRST = r"[^\r\n\p{L}\p{N}]?"
_LETTERS = _FIRST + r"\p{L}+"
_DIGIT = r"\p{N}"
_DIGITS = r"\p{N}{1,3}"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = "|".join((_ENGLISH, _LETTERS, _DIGITS, _SYMBOLS, _SPACES))
_QWEN2 = "|".join((_ENGLISH, _LETTERS, _DIGIT, _SYMBOLS, _SPACES))
_QWEN35 = (
    rf"{_ENGLISH}|{_FIRST}[\p{{L}}\p{{M}}]+|{_DIGIT}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)


def _words(suffix: str, of: str = "") -> str:
    """Words cut where case changes; ``of``: which of the letters that case does not show in."""
    upper, lower = f"[{_UPPER}{of}]", f"[{_LOWER}{of}]"
    return f"{_FIRST}{upper}*{lower}+{suffix}|{_FIRST}{upper}+{lower}*{suffix}"


def _cased(suffix: str, digits: str) -> str:
    """tiktoken's o200k_base, Mistral's Tekken."""
    return rf"{_words(suffix)}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"


_KIMI = "|".join((r"\p{Han}+", _words(f"{_ENGLISH}?", r"&&[^\p{Han}]"), _DIGITS, _SYMBOLS, _SPACES))
_THREE_DIGITS = "[0-9][0-9][0-9]"
_HAN_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_HAN_HANGUL = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_BLOOM = r" ?[^(\s|.,!?" "\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
_DEEPSEEK3_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
)
_DEEPSEEK3 = (_DIGITS, _HAN_KANA, rf"{_DEEPSEEK3_WORDS}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}")
_DEEPSEEK_LETTERS = (
    r"\s?[A-Za-z"
    "\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370"
    "-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
    "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-"
    "\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20"
    "-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc"
    "\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6"
    "-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-"
    "\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-"
    "\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-"
    "\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-"
    "\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-"
    "\U000118df\U0001e900-\U0001e943"
    "]+"
)

_GPT2_STYLE = PreTokenizer((GPT2,))
_GPT_NEOX = PreTokenizer((GPT2,), nfc=True)
_SINGLE_DIGITS = PreTokenizer((_DIGIT, GPT2))
_CL100K = PreTokenizer((_LLAMA3,))
_QWEN = PreTokenizer((_QWEN2,))
_LLAMA = PreTokenizer((_LLAMA3,), ignore_merges=True, add_bos=True)
_DEEPSEEK_V3 = PreTokenizer(_DEEPSEEK3)
_GPT4O = PreTokenizer((_cased(f"{_ENGLISH}?", _DIGITS),))
_BAILING = PreTokenizer(
    (
        rf"'(?i:[sdmt]|ll|ve|re)|{_FIRST}+\p{{L}}+|{_DIGIT}| ?[^\s\p{{L}}\p{{N}}]++[\r\n]*"
        r"|\s*[\r\n]|\s+(?!\S)|\s+",
    )
)
_DEFAULT = PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", _THREE_DIGITS))

BY_NAME = {
    "default": _DEFAULT,
    "gpt-2": _GPT2_STYLE,
    "phi-2": _GPT2_STYLE,
    "gigachat": _GPT2_STYLE,
    "a.x-4.0": _GPT2_STYLE,
    "mellum": _GPT2_STYLE,
    "jais": _GPT2_STYLE,
    "trillion": _GPT2_STYLE,
    "granite-docling": _GPT2_STYLE,
    "exaone4": _GPT2_STYLE,
    "roberta-bpe": _GPT2_STYLE,
    "jina-es": _GPT2_STYLE,
    "jina-de": _GPT2_STYLE,
    "jina-v1-en": _GPT2_STYLE,
    "jina-v2-es": _GPT2_STYLE,
    "jina-v2-de": _GPT2_STYLE,
    "jina-v2-code": _GPT2_STYLE,
    "mpt": _GPT_NEOX,
    "olmo": _GPT_NEOX,
    "modern-bert": _GPT_NEOX,
    "llama3": _LLAMA,
    "llama-v3": _LLAMA,
    "llama-bpe": _LLAMA,
    "falcon3": _LLAMA,
    "falcon-h1": _LLAMA,
    "pixtral": _LLAMA,
    "midm-2.0": _LLAMA,
    "lfm2": _LLAMA,
    "jina-v5-nano": _LLAMA,
    "dbrx": _CL100K,
    "smaug-bpe": _CL100K,
    "chatglm-bpe": _CL100K,
    "glm4": PreTokenizer((_LLAMA3,), ignore_merges=True),
    "glm5": PreTokenizer((_LLAMA3,), ignore_merges=True),
    "minicpm5": PreTokenizer(
        (_DIGITS, "|".join((_ENGLISH, _LETTERS, r"\p{N}+", _SYMBOLS, _SPACES))), ignore_merges=True
    ),
    "qwen2": PreTokenizer((_QWEN2,), nfc=True),
    "qwen35": PreTokenizer((_QWEN35,), nfc=True),
    "deepseek-r1-qwen": _QWEN,
    "kormo": _QWEN,
    "f2llmv2": _QWEN,
    "megrez": _QWEN,
    "stablelm2": _QWEN,
    "hunyuan": _QWEN,
    "solar-open": _QWEN,
    "grok-2": _QWEN,
    "laguna": PreTokenizer((r"[^\n]+|[\n]+", _QWEN2)),
    "ufakzeka": PreTokenizer(("|".join((_LETTERS, _DIGIT, _SYMBOLS, _SPACES)),)),
    "seed-coder": PreTokenizer(
        ("|".join((_ENGLISH, _LETTERS, _DIGIT, r" ?[^\s\p{L}\p{N}\r\n]+", _SPACES)),)
    ),
    "starcoder": _SINGLE_DIGITS,
    "refact": _SINGLE_DIGITS,
    "smollm": _SINGLE_DIGITS,
    "codeshell": _SINGLE_DIGITS,
    "exaone": _SINGLE_DIGITS,
    "minerva-7b": _SINGLE_DIGITS,
    "mellum2": _SINGLE_DIGITS,
    "command-r": PreTokenizer((_DIGIT, GPT2), nfc=True),
    "falcon": PreTokenizer((GPT2,), punctuation=True, spelt_patterns=(r"\p{N}+", _THREE_DIGITS)),
    "deepseek-llm": PreTokenizer(
        (
            r"[\r\n]",
            _DEEPSEEK_LETTERS,
            r"\s?" "[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
            # `\s+$`, written so that a long run of spaces is not tried from each of its places
            r"(?<!\s)\s++$",
            _HAN_HANGUL,
            r"\p{N}+",
        )
    ),
    "deepseek-coder": PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN_HANGUL, _DIGIT)),
    "deepseek-v3": _DEEPSEEK_V3,
    "hunyuan-dense": _DEEPSEEK_V3,
    "joyai-llm": _DEEPSEEK_V3,
    "hy_v4": _DEEPSEEK_V3,
    "poro-chat": PreTokenizer((_BLOOM,)),
    "bloom": PreTokenizer((_BLOOM,)),
    "gpt3-finnish": PreTokenizer((_BLOOM,)),
    "viking": PreTokenizer((_BLOOM, _DIGIT)),
    "tekken": PreTokenizer((_cased("", _DIGIT),), ignore_merges=True, add_bos=True),
    "gpt-4o": _GPT4O,
    "llama4": _GPT4O,
    "kanana2": _GPT4O,
    "talkie": _GPT4O,
    "minimax-m2": _GPT4O,
    "kimi-k2": PreTokenizer((_KIMI,), ignore_merges=True),
    "bailingmoe": _BAILING,
    "bailingmoe2": _BAILING,
    "llada-moe": _BAILING,
}

_BY_ARCHITECTURE = {
    "gpt2": _GPT2_STYLE,
    "gptneox": _GPT_NEOX,
    "mamba": _GPT_NEOX,
    "mpt": _GPT_NEOX,
    "starcoder": _SINGLE_DIGITS,
    "starcoder2": _SINGLE_DIGITS,
}
"""Architectures whose vocabularies all had one pre-tokenizer when files named none."""


def pre_tokenizer(name: str | None, architecture: str | None) -> PreTokenizer:
    """The one that the file names; UnsupportedError if it is not known.

    ``name``: ``tokenizer.ggml.pre``. A file without it is from before April 2024; then the
    architecture decides if it leaves no choice, else llama.cpp's default is used.
    """
    if name is None:
        return _BY_ARCHITECTURE.get(architecture or "", _DEFAULT)
    if name not in BY_NAME:
        raise UnsupportedError(
            f"metadata key 'tokenizer.ggml.pre' names the pre-tokenizer {name[:60]!r}, "
            "which is not supported",
            hint="without it the text would be cut into the wrong tokens",
        )
    return BY_NAME[name]
