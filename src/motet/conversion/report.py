"""What a conversion makes of a model, tensor by tensor."""

import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from math import prod
from os import PathLike
from pathlib import Path

from motet import checks
from motet.errors import UnsupportedError
from motet.packed import PackedFile
from motet.weights.formats import TensorType
from motet.weights.gguf_writer import write
from motet.weights.identify import describe_other
from motet.weights.source import ModelSource

_ENDS = re.compile(r"([-._](f32|f16|bf16|q8_0))?(-00001-of-\d{5})?$", re.IGNORECASE)
"""Of the names of files: parts, and types that others are made of."""
_UNWEIGHED = (TensorType.F32, TensorType.F16, TensorType.BF16, TensorType.Q8_0)
"""Types that leave nothing to choose."""
_LONGEST = 100
QUANTIZATION_VERSION = 2
"""Of GGML's block formats, as files say it."""


@dataclass(frozen=True)
class Change:
    """What becomes of one tensor. ``shape`` is in NumPy order."""

    name: str
    shape: tuple[int, ...]
    before: TensorType
    after: TensorType
    nbytes_before: int
    nbytes: int
    weighed: bool
    """Whether errors were weighed by an importance matrix."""


@dataclass(frozen=True)
class Conversion:
    """What was made, or with ``dry_run`` would be: ``files``, and every tensor."""

    files: tuple[Path, ...]
    type: str
    tensors: tuple[Change, ...]

    @property
    def nbytes_before(self) -> int:
        """Of all tensors."""
        return sum(each.nbytes_before for each in self.tensors)

    @property
    def nbytes(self) -> int:
        """Of all tensors."""
        return sum(each.nbytes for each in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Of all tensors."""
        return 8 * self.nbytes / max(1, sum(prod(each.shape) for each in self.tensors))


@dataclass(frozen=True)
class Destination:
    """Where a conversion is written, and how: see ``motet.convert``."""

    out: "str | PathLike[str] | None"
    split_size: int | None
    overwrite: bool
    dry_run: bool
    progress: Callable[[int, int], None] | None

    def __post_init__(self) -> None:
        """Raises OptionError for what makes no sense."""
        if self.out is not None:
            checks.path("out", self.out, "give the path of the file to be written")
        checks.optional_whole("split_size", self.split_size, 1)
        checks.flag("overwrite", self.overwrite)
        checks.flag("dry_run", self.dry_run)
        if self.progress is not None:
            checks.function("progress", self.progress, "the bytes done and the bytes in all")

    def write(
        self,
        source: ModelSource,
        made: ModelSource,
        type: str,
        weighed: Container[str] = (),
        reads: Iterable[str] = (),
    ) -> Conversion:
        """Write ``made``, of ``source``; ``reads``: what else is read, and not to be replaced."""
        files: list[Path] = []
        if not self.dry_run:
            files = write(
                made,
                default_path(source, type) if self.out is None else Path(self.out),
                split_size=self.split_size,
                overwrite=self.overwrite,
                reads=reads,
                progress=self.progress,
            )
        return Conversion(tuple(files), type, changes(source, made, weighed))


def changes(
    source: ModelSource, retyped: ModelSource, weighed: Container[str] = ()
) -> tuple[Change, ...]:
    """What becomes of each tensor."""
    return tuple(
        Change(
            name,
            info.shape,
            before=info.type,
            after=retyped.tensors[name].type,
            nbytes_before=info.nbytes,
            nbytes=retyped.tensors[name].nbytes,
            weighed=name in weighed and retyped.tensors[name].type not in (info.type, *_UNWEIGHED),
        )
        for name, info in source.tensors.items()
    )


def default_path(source: ModelSource, type: str) -> Path:
    """``NAME-TYPE.gguf`` in the current folder: a file's name, or what a directory's model has."""
    path = Path(source.path)
    if path.suffix == ".gguf":
        name = _ENDS.sub("", path.stem)
    else:
        found = source.metadata.get("general.name")
        name = found if isinstance(found, str) else path.resolve().name
    safe = re.sub(r"[^\w.+-]+", "-", name)[:_LONGEST].strip("-.")
    return Path(f"{safe or 'model'}-{type}.gguf")


def require_model(source: ModelSource) -> None:
    """Raise UnsupportedError for a packed file, and one that holds something else than a model."""
    if isinstance(source, PackedFile):
        raise source.as_it_was()
    other = describe_other(source.metadata, source.tensors)
    if other is not None:
        what, hint = other
        raise UnsupportedError(f"{source.path}: is {what}", hint=hint)
