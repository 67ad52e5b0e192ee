"""The prompt that has a model complete code between what stands before and after."""

from collections.abc import Sequence

from motet.model import Model
from motet.server.failures import Refused
from motet.server.llama.prompts import vocabulary

_KEYS = {
    "prefix": ("fim_pre_token_id", "prefix_token_id"),
    "suffix": ("fim_suf_token_id", "suffix_token_id"),
    "middle": ("fim_mid_token_id", "middle_token_id"),
    "repository": ("fim_rep_token_id",),
    "file": ("fim_sep_token_id",),
}
"""What GGUF files call the tokens (tokenizer.ggml.…)."""
_SPELT = {
    "prefix": ("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "▁<PRE>"),
    "suffix": ("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "▁<SUF>"),
    "middle": ("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "▁<MID>"),
    "repository": ("<|repo_name|>", "<reponame>", "<repo_name>"),
    "file": ("<|file_sep|>", "<file_sep>"),
}
"""How they are spelt where the file does not name them."""


def infill_prompt(
    model: Model, before: str, after: str, begins: str, extra: Sequence[tuple[str, str]]
) -> list[int]:
    """The ids of ``before`` and ``after`` a middle that ``begins`` so.

    ``extra``: names and texts of further files, which come first: in the form for whole
    repositories where the model has the tokens (Qwen2.5-Coder, arXiv 2409.12186), else as they
    are. Raises Refused for a model without the tokens.
    """
    tokenizer = vocabulary(model)
    tokens = {part: _token(model, part) for part in _KEYS}
    missing = [part for part in ("prefix", "suffix", "middle") if tokens[part] is None]
    if missing:
        raise Refused(
            501,
            f"{model.name} completes no code between two texts: its vocabulary has no token for"
            f" the {' and the '.join(missing)}",
        )

    def text(said: str) -> list[int]:
        return tokenizer.encode(said, add_special=False)

    ids: list[int] = [*tokenizer.prefix]
    repository, file = tokens["repository"], tokens["file"]
    if repository is not None and file is not None:
        ids += [repository, *text("myproject\n")]
        for name, said in extra:
            ids += [file, *text(f"{name}\n{said}\n")]
        ids += [file, *text("filename\n")]
    else:
        for _, said in extra:
            ids += text(said)
    marks = [tokens[part] for part in ("prefix", "suffix", "middle")]
    for mark, said in zip(marks, (before, after, begins), strict=True):
        assert mark is not None
        ids += [mark, *text(said)]
    return ids


def _token(model: Model, part: str) -> int | None:
    """The token that marks a part of the prompt; None where the vocabulary has none."""
    for key in _KEYS[part]:
        named = model.file.metadata.get(f"tokenizer.ggml.{key}")
        if isinstance(named, int) and 0 <= named < model.config.n_vocab:
            return named
    for spelt in _SPELT[part]:
        found = list(vocabulary(model).split_special(spelt))
        if len(found) == 1 and isinstance(found[0], int):
            return found[0]
    return None
