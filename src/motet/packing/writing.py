"""``motet.pack``: a model written as a packed file."""

import os
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

from motet import checks
from motet.conversion.loading import LoraPair, LoraPath, prepared, read_adapters
from motet.errors import CapacityError, OptionError
from motet.kernels import CPU
from motet.kernels.interface import Kernels
from motet.kernels.reference import Reference
from motet.models.packed import TensorPacker
from motet.models.registry import declared
from motet.models.tensors import packed_bytes
from motet.opening import open_model
from motet.packed import PackedFile, is_packed
from motet.packed.writer import PackedWriter
from motet.replacing import replacing
from motet.weights.source import ModelSource


@checks.named
def pack(
    model: "str | PathLike[str]",
    out: "str | PathLike[str]",
    *,
    type: str | None = None,
    lora: "LoraPath | LoraPair | Sequence[LoraPath | LoraPair]" = (),
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the model to ``out`` as it is computed with, to be loaded in no time: its path.

    What the file gives is, bit for bit, what the model gives. ``model``, ``type``, ``lora``,
    ``threads``, ``progress``: as in ``Model.load``. ``overwrite``: replace a packed file that is
    there. One tensor is in memory at a time; ``out`` is there when it is complete. Raises what
    ``Model.load`` does, OptionError where ``out`` is not to be written, CapacityError where the
    disk lacks the space.
    """
    found = checks.path("model", model, "give the path of a GGUF file or a model's directory")
    target = checks.path("out", out, "give the path of the file to be written")
    overwrite = checks.flag("overwrite", overwrite)
    if progress is not None:
        checks.function("progress", progress, "the bytes done and the bytes in all")
    kernels = CPU(checks.optional_whole("threads", threads, 1))
    mix = None if type is None else checks.text("type", type)
    adapters = read_adapters(lora, found)
    _require_free(target, overwrite)
    with open_model(found) as source:
        if isinstance(source, PackedFile):
            raise OptionError(
                f"{found}: is packed already", hint="copy it, or give the model it was packed of"
            )
        write_packed(prepared(source, mix, adapters, kernels), target, kernels, progress)
    return target


def write_packed(
    source: ModelSource,
    path: Path,
    kernels: Kernels,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a packed file in place of whatever is at ``path``. Raises as ``pack`` does."""
    family = declared(source)
    _require_space(path, packed_bytes(source, kernels))
    with replacing(path) as file:
        writer = PackedWriter(file)
        tensors = TensorPacker(source, kernels, writer, progress)
        type(family)(family.config, tensors, Reference())
        source.require_unchanged()
        writer.finish(source, tensors.packed(), kernels.layout)


def _require_free(path: Path, overwrite: bool) -> None:
    # Of os.path, for which a name that cannot be is no error.
    if not os.path.lexists(path):
        return
    if not is_packed(path):
        raise OptionError(f"{path}: is not a packed file, and is not overwritten")
    if not overwrite:
        raise OptionError(f"{path}: is there already", hint="give another name, or overwrite=True")


def _require_space(path: Path, needed: int) -> None:
    try:
        folder = Path(os.path.realpath(path)).parent
    except ValueError as error:
        raise OptionError(f"{path}: cannot be written: {error}") from error
    if not folder.is_dir():
        raise OptionError(f"{path}: there is no directory {str(folder)!r}")
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if needed > free:
        raise CapacityError(
            f"{path}: takes about {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free there",
            hint="free some, or give a file on another disk",
        )
