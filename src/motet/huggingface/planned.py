"""A checkpoint's tensors as a ``Plan`` has them: under GGUF's names, stacked, joined, changed."""

import logging
import re
from collections import Counter, defaultdict

import numpy as np

from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.plan import Plan, within_block
from motet.huggingface.quantised import Quantised
from motet.huggingface.safetensors import Stored
from motet.huggingface.tensors import Change, Plain, Stacked, Weights, widened
from motet.weights.formats import row_bytes
from motet.weights.kept import stays_f32

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
_EXPERT = re.compile(r"\.experts\.([0-9]{1,6})\.")
_HEADS = "cls.output.weight", "cls.output.bias"
"""A classifier's, which gguf's map does not have for every architecture."""
_LISTED = 4
_SPAN = 1 << 24
"""Bytes that are compared at a time."""
_log = logging.getLogger("motet")


def planned(
    path: str, plan: Plan, tensors: dict[str, Stored], quantised: Quantised | None
) -> dict[str, Weights]:
    """The tensors by GGUF's names. Raises UnsupportedError for those that the map lacks."""
    named = plan.gguf_names()
    found: dict[str, dict[int, Weights]] = defaultdict(dict)
    joined = {name for names in plan.joins.values() for name in names}
    unknown: list[str] = []
    for hf_name, weights in _renamed(path, plan, tensors, quantised).items():
        for part_name, part in _split(path, plan, hf_name, weights):
            expert = _EXPERT.search(part_name)
            name = named(_EXPERT.sub(".experts.", part_name))
            if part_name in _HEADS or within_block(part_name) in joined:
                name = part_name
            if name is None:
                unknown.append(hf_name)
                continue
            number = int(expert[1]) if expert else -1
            if number in found[name]:
                raise ModelFileError(
                    f"{path}: two tensors are {name}; one of them is {shown(hf_name)}"
                )
            found[name][number] = part
    if unknown:
        listed = ", ".join(map(shown, unknown[:_LISTED]))
        more = len(unknown) - _LISTED
        raise UnsupportedError(
            f"{path}: has tensors that Motet does not know for {plan.architecture}: {listed}"
            + (f" and {more} more" if more > 0 else ""),
            hint="they may change the arithmetic, so the model is not run without them",
        )
    weights = {name: _experts(path, name, parts) for name, parts in found.items()}
    _settle_head(path, plan, weights)
    _join(plan, weights)
    return _changed(path, plan, weights) | dict(plan.added)


def _renamed(
    path: str, plan: Plan, tensors: dict[str, Stored], quantised: Quantised | None
) -> dict[str, Weights]:
    matrices: dict[str, Weights] = {}
    whole = dict.fromkeys(tensors)
    if quantised is not None:
        matrices = quantised.matrices(tensors)
        whole = {name: None for name in tensors if not quantised.is_part(name, tensors)}
    unused = [re.compile(pattern) for pattern in plan.unused]
    renamed: dict[str, str] = {}
    for old in whole | dict.fromkeys(matrices):
        name = plan.rename(old)
        if name in renamed:
            raise ModelFileError(
                f"{path}: {shown(renamed[name])} and {shown(old)} are the same tensor"
            )
        renamed[name] = old
    for name, others in plan.same.items():
        there = [other for other in others if other in renamed]
        if name not in renamed and there:
            renamed[name] = renamed[there[0]]
    aside = {name for name in renamed if any(pattern.fullmatch(name) for pattern in unused)}
    if aside:
        counts = Counter(name.split(".", 1)[0] + ".*" for name in aside)
        listed = ", ".join(f"{shown(name)} ({n})" for name, n in counts.most_common(_LISTED))
        _log.info("%s: tensors left aside, which change nothing here: %s", path, listed)
    return {
        name: matrices[old] if old in matrices else Plain(tensors[old])
        for name, old in renamed.items()
        if name not in aside
    }


def _split(path: str, plan: Plan, name: str, weights: Weights) -> list[tuple[str, Weights]]:
    for end, parts in plan.splits.items():
        if name.endswith(end):
            start = name.removesuffix(end)
            return [
                (start + part, _apply(path, name, change, weights))
                for part, change in parts.items()
            ]
    return [(name, weights)]


def _experts(path: str, name: str, parts: dict[int, Weights]) -> Weights:
    if list(parts) == [-1]:
        return parts[-1]
    numbers = sorted(parts)
    if numbers != list(range(len(numbers))):
        raise ModelFileError(f"{path}: {name} is made of the experts {shown(numbers)}")
    return Stacked([parts[number] for number in numbers])


def _settle_head(path: str, plan: Plan, weights: dict[str, Weights]) -> None:
    """A tied head is the embedding, unless the checkpoint has another one, as transformers does."""
    head, embedding = weights.get(OUTPUT), weights.get(EMBEDDING)
    if head is None and plan.tied is False:
        raise ModelFileError(
            f"{path}: has no output head (lm_head.weight), and config.json says that it is not the"
            " embedding (tie_word_embeddings)",
            hint="fetch the whole directory again",
        )
    if head is not None and embedding is not None and plan.tied and _alike(head, embedding):
        del weights[OUTPUT]


def _alike(a: Weights, b: Weights) -> bool:
    if (a.shape, a.type) != (b.shape, b.type):
        return False
    step = max(_SPAN // max(row_bytes(a.type, a.columns), 1), 1)
    return all(
        np.array_equal(a.read(i, min(i + step, a.rows)), b.read(i, min(i + step, b.rows)))
        for i in range(0, a.rows, step)
    )


def _join(plan: Plan, weights: dict[str, Weights]) -> None:
    for target, sources in plan.joins.items():
        for first in [name for name in weights if within_block(name) == sources[0]]:
            prefix = first.removesuffix(sources[0])
            names = [prefix + source for source in sources]
            if all(name in weights for name in names):
                weights[prefix + target] = Stacked([weights.pop(n) for n in names], joined=True)


def _changed(path: str, plan: Plan, weights: dict[str, Weights]) -> dict[str, Weights]:
    changed: dict[str, Weights] = {}
    for name, before in weights.items():
        change = plan.change_of(name)
        after = _apply(path, name, change, before) if change else before
        changed[name] = widened(after) if stays_f32(name, after.shape) else after
    return changed


def _apply(path: str, name: str, change: Change, before: Weights) -> Weights:
    try:
        return change(before)
    except (ValueError, IndexError) as error:
        raise ModelFileError(
            f"{path}: {name} has the shape {list(before.shape)}: {error}",
            hint="config.json says other sizes than the weights have",
        ) from error
