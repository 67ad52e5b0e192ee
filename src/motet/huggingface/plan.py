"""What a family's config.json and checkpoint are in GGUF's terms."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from motet.huggingface.tensors import Change, Weights
from motet.weights.source import MetadataValue

_BLOCK = re.compile(r"(enc\.|dec\.)?blk\.\d+\.")


def within_block(name: str) -> str:
    """GGUF's name of a tensor without the block that it is in."""
    return _BLOCK.sub("", name, count=1)


@dataclass(frozen=True)
class Plan:
    """How one directory is seen as GGUF. Names of tensors go through gguf's own map of names."""

    architecture: str
    """``general.architecture``, which also says which map of names."""
    n_layers: int
    keys: Mapping[str, MetadataValue]
    """Of the architecture, without its prefix."""
    renamed: Sequence[tuple[str, str]] = ()
    """Regular expressions and what to put in their place, in a checkpoint's names, before all
    else: those that gguf's map does not know."""
    same: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By a checkpoint's (renamed) name: tensors the first of which stands for it where it lacks."""
    unused: Sequence[str] = ()
    """Regular expressions of a checkpoint's (renamed) tensors that change nothing here, as they are
    buffers or of a part that is not run."""
    tied: bool | None = None
    """Whether the embedding is the output head as well; None for a model without a head."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Further safetensors files, and what to put before the names of their tensors."""
    splits: Mapping[str, Mapping[str, Change]] = field(default_factory=dict)
    """By the end of a checkpoint's (renamed) name: what GGUF has of it as several tensors, by the
    ends of their names."""
    joins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By GGUF's name within a block: the tensors, so named, that stand in it as one. They need not
    be in gguf's map."""
    changes: Mapping[str, Change] = field(default_factory=dict)
    """By GGUF's name, whole or else within its block: how the tensor differs."""
    added: Mapping[str, Weights] = field(default_factory=dict)
    """Tensors, by GGUF's names, that follow from config.json."""
    types_pairs: bool = False
    """Whether the second text of a pair is of token type 1, as BERT's classifiers have it."""
    tokenizer: Mapping[str, MetadataValue] = field(default_factory=dict)
    """Keys of ``tokenizer.``, without it, beside those from the tokenizer's own files."""

    def rename(self, name: str) -> str:
        """A checkpoint's name as the map of names knows it."""
        for pattern, replacement in self.renamed:
            name = re.sub(pattern, replacement, name)
        return name

    def change_of(self, name: str) -> Change | None:
        """How the tensor of GGUF's ``name`` differs from the checkpoint's; None if it does not."""
        return self.changes.get(name) or self.changes.get(within_block(name))

    def gguf_names(self) -> Callable[[str], str | None]:
        """From a checkpoint's (renamed) name of a tensor to GGUF's; None for an unknown one."""
        import gguf

        arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == self.architecture)
        names = gguf.get_tensor_name_map(arch, self.n_layers)
        return lambda name: names.get_name(name, try_suffixes=(".weight", ".bias", ".scale"))
