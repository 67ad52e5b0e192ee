"""What a family's config.json and checkpoint are in GGUF's terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from motet.huggingface.tensors import Change, Weights
from motet.weights.source import MetadataValue


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
    """By GGUF's name within a block: the tensors, so named, that stand in it as one."""
    changes: Mapping[str, Change] = field(default_factory=dict)
    """By GGUF's name, whole or else within its block: how the tensor differs."""
    added: Mapping[str, Weights] = field(default_factory=dict)
    """Tensors, by GGUF's names, that follow from config.json."""
    tokenizer: Mapping[str, MetadataValue] = field(default_factory=dict)
    """Keys of ``tokenizer.``, without it, beside those from the tokenizer's own files."""
