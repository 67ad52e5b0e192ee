"""A Hugging Face directory as a source of GGUF's tensors and keys."""

import logging
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from motet.arrays import UInt8
from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families import plan_of
from motet.huggingface.files import Directory
from motet.huggingface.fp8 import Fp8, read_fp8
from motet.huggingface.generation import sampling
from motet.huggingface.plan import Plan
from motet.huggingface.safetensors import Stored, read_file, read_tensors
from motet.huggingface.tensors import Change, Plain, Scaled, Stacked, Weights, widened
from motet.huggingface.tokenizer import read_tokenizer
from motet.weights.formats import row_bytes
from motet.weights.kept import stays_f32
from motet.weights.source import MetadataValue, TensorInfo

CONFIG = "config.json"
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
_BLOCK = re.compile(r"((?:enc\.|dec\.)?blk\.\d+\.)?(.+)", re.DOTALL)
_EXPERT = re.compile(r"\.experts\.([0-9]{1,6})\.")
_MAX_CONFIG = 1 << 24
"""Bytes of config.json: some name thousands of labels."""
_HEADS = "cls.output.weight", "cls.output.bias"
"""A classifier's, which gguf's map does not have for every architecture."""
_LISTED = 4
_SPAN = 1 << 24
"""Bytes that are compared at a time."""
_log = logging.getLogger("motet")


class HuggingFaceDirectory:
    """config.json, safetensors and a tokenizer, under the names that GGUF has for them.

    It is a ``ModelSource``: what ``motet convert`` writes is what this gives.
    """

    format = "Hugging Face directory"

    def __init__(
        self, files: Directory, plan: Plan, tensors: dict[str, Stored], fp8: Fp8 | None
    ) -> None:
        """Of what has been read; ``open`` is the way to make one."""
        self.path = files.path
        self._directory = files
        self.architecture = plan.architecture
        self._files = {stored.file.path: stored.file for stored in tensors.values()}
        self._weights = _planned(files.path, plan, tensors, fp8)
        self.tensors = {
            name: TensorInfo(name, weights.shape, weights.type)
            for name, weights in self._weights.items()
        }
        self.files = len(self._files)
        self.nbytes = sum(file.size for file in self._files.values())
        n_vocab = self.tensors[EMBEDDING].rows if EMBEDDING in self.tensors else 0
        self.metadata = _metadata(files, plan, n_vocab)

    @classmethod
    def open(cls, path: str | Path) -> "HuggingFaceDirectory":
        """Open the directory ``path``.

        Raises ModelFileError, naming the file and the key or tensor, for what is missing, damaged
        or contradicts itself; UnsupportedError for a kind of model, a key or a format that Motet
        does not know. Nothing outside the directory is read, and nothing in it is executed.
        """
        files = Directory(str(path))
        if not files.has(CONFIG):
            raise ModelFileError(
                f"{files.path}: has no {CONFIG}", hint="give a model's directory or a GGUF file"
            )
        config = ConfigReader(files.json(CONFIG, _MAX_CONFIG), files.located(CONFIG))
        fp8 = read_fp8(config)
        plan = plan_of(config, files)
        tensors = read_tensors(files)
        for name, prefix in plan.parts.items():
            tensors |= {prefix + own: stored for own, stored in read_file(files, name).items()}
        return cls(files, plan, tensors, fp8)

    def raw(self, name: str) -> UInt8:
        """The bytes of a tensor, uint8 [rows, row_bytes]. Raises as ``read_rows`` does."""
        return self.read_rows(name, 0, self.tensors[name].rows if name in self.tensors else 0)

    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        """Rows ``first`` to ``last`` - 1 of a tensor.

        Raises ModelFileError if there is no such tensor, or if a file has been closed or cut short.
        """
        if name not in self._weights:
            raise ModelFileError(f"{self.path}: there is no tensor {name!r}")
        return self._weights[name].read(first, last, buffer)

    def described(self) -> dict[str, MetadataValue]:
        """``general.*`` of a file that is written of it: name, size, licence, languages, …

        See ``card.described``. It takes a tenth of a second, and no model needs it to run.
        """
        from motet.huggingface.card import described

        return described(self._directory, self.tensors)

    def require_unchanged(self) -> None:
        """Raise ModelFileError if a file was written to since it was opened."""
        for file in self._files.values():
            file.require_unchanged()

    def close(self) -> None:
        """Let go of the files: metadata and the list of tensors stay."""
        for file in self._files.values():
            file.close()

    def __enter__(self) -> "HuggingFaceDirectory":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _metadata(files: Directory, plan: Plan, n_vocab: int) -> dict[str, MetadataValue]:
    metadata: dict[str, MetadataValue] = {
        "general.architecture": plan.architecture,
        "general.type": "model",
        "general.name": files.name,
    }
    for key, value in sampling(files).items():
        metadata[key] = _as_stored(value)
    for key, value in plan.keys.items():
        metadata[f"{plan.architecture}.{key}"] = _as_stored(value)
    metadata |= read_tokenizer(files, plan.architecture, n_vocab)
    return metadata | {f"tokenizer.{key}": value for key, value in plan.tokenizer.items()}


def _as_stored(value: Any) -> Any:
    """Floats as GGUF's are, so that a model from either computes the same."""
    if isinstance(value, float):
        return float(np.float32(value))
    return [_as_stored(item) for item in value] if isinstance(value, list) else value


def _planned(
    path: str, plan: Plan, tensors: dict[str, Stored], fp8: Fp8 | None
) -> dict[str, Weights]:
    """The tensors by GGUF's names. Raises UnsupportedError for those that the map lacks."""
    named = _gguf_names(plan)
    found: dict[str, dict[int, Weights]] = defaultdict(dict)
    unknown: list[str] = []
    for hf_name, weights in _renamed(path, plan, tensors, fp8).items():
        for part_name, part in _split(path, plan, hf_name, weights):
            expert = _EXPERT.search(part_name)
            name = named(_EXPERT.sub(".experts.", part_name))
            if part_name in _HEADS:
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


def _gguf_names(plan: Plan) -> Any:
    import gguf

    arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == plan.architecture)
    names = gguf.get_tensor_name_map(arch, plan.n_layers)
    return lambda name: names.get_name(name, try_suffixes=(".weight", ".bias"))


def _renamed(
    path: str, plan: Plan, tensors: dict[str, Stored], fp8: Fp8 | None
) -> dict[str, Weights]:
    scales = fp8.scales(tensors) if fp8 else {}
    unused = [re.compile(pattern) for pattern in plan.unused]
    renamed: dict[str, Stored] = {}
    for old, stored in tensors.items():
        if fp8 and fp8.is_aside(old, tensors):
            continue
        name = old
        for pattern, replacement in plan.renamed:
            name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise ModelFileError(
                f"{path}: {shown(renamed[name].name)} and {shown(old)} are the same tensor"
            )
        renamed[name] = stored
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
        name: Scaled(stored, *scales[stored.name]) if stored.name in scales else Plain(stored)
        for name, stored in renamed.items()
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
            f"{path}: has no output head (lm_head.weight), and {CONFIG} says that it is not the"
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
        for first in [name for name in weights if _BLOCK.fullmatch(name)[2] == sources[0]]:  # pyright: ignore[reportOptionalSubscript]
            prefix = first.removesuffix(sources[0])
            names = [prefix + source for source in sources]
            if all(name in weights for name in names):
                weights[prefix + target] = Stacked([weights.pop(n) for n in names], joined=True)


def _changed(path: str, plan: Plan, weights: dict[str, Weights]) -> dict[str, Weights]:
    changed: dict[str, Weights] = {}
    for name, before in weights.items():
        within = _BLOCK.fullmatch(name)
        change = plan.changes.get(name) or plan.changes.get(within[2] if within else name)
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
