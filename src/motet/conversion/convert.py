"""Writing a Hugging Face directory as a GGUF file."""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

from motet import checks
from motet.conversion.mixes import MIXES
from motet.conversion.report import (
    QUANTIZATION_VERSION,
    Conversion,
    Destination,
    require_model,
)
from motet.conversion.retyped import Retyped
from motet.errors import MotetError, OptionError
from motet.kernels import CPU
from motet.opening import is_adapter, open_adapter, open_model
from motet.weights.formats import TensorType
from motet.weights.gguf import GGUFFile
from motet.weights.kept import stays_f32
from motet.weights.source import ModelSource, TensorInfo

CONVERTED = ("auto", "f32", "f16", "bf16", "q8_0")
_HALF = (TensorType.F16, TensorType.BF16)
_MXFP4_FILE = 38
"""``general.file_type`` of files whose experts are MXFP4."""


@checks.named
def convert(
    model: "str | PathLike[str]",
    out: "str | PathLike[str] | None" = None,
    type: str = "auto",
    *,
    base: "str | PathLike[str] | None" = None,
    split_size: int | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Write ``model``, a Hugging Face directory or a GGUF file of floats, as GGUF.

    A PEFT directory becomes an adapter; ``base``: the directory of the model that it changes, whose
    config.json is needed, or None for what the adapter itself names.
    ``out``: None for ``NAME-TYPE.gguf`` in the current folder. ``type``: "f32", "f16", "bf16",
    "q8_0", or "auto" for the one of f16 and bf16 that the first matrix in either has. Norms,
    vectors and routers are float32 in each, as in the files of llama.cpp's converter, and a matrix
    that Q8_0 does not fit is F16. ``split_size``: the most bytes of tensors in one file.
    ``overwrite``: replace a GGUF file at ``out``. ``dry_run``: write nothing. ``progress`` is
    called with the bytes done and the bytes in all.

    Raises what opening a model does, before anything is written; OptionError, NumericalError for
    weights that the type cannot hold, and CapacityError where the disk lacks the space; ``out`` is
    then as it was.
    """
    found = checks.path("model", model, "give the path of a model's directory")
    to = Destination(out, split_size, overwrite, dry_run, progress)
    checks.choice("type", type, CONVERTED)
    kernels = CPU(checks.optional_whole("threads", threads, 1))
    with _opened(found, base) as source:
        _require_floats(source)
        wanted = _first_half(source) if type == "auto" else TensorType[type.upper()]
        types = {name: _type(info, wanted) for name, info in source.tensors.items()}
        made = {
            **source.metadata,
            **source.described(),
            "general.file_type": _file_type(types, wanted),
        }
        made["general.quantization_version"] = QUANTIZATION_VERSION
        retyped = Retyped(source, types, kernels, metadata=made)
        return to.write(source, retyped, wanted.name)


def _opened(path: str | Path, base: "str | PathLike[str] | None") -> ModelSource:
    """A model, or a PEFT directory's adapter. Raises as ``open_model`` does."""
    if is_adapter(path):
        given = None if base is None else checks.path("base", base, "give a model's directory")
        return open_adapter(path, given)
    if base is not None:
        raise OptionError(f"base is given, but {path} is no adapter", hint="leave base out")
    source = open_model(path)
    try:
        require_model(source)
    except MotetError:
        source.close()
        raise
    return source


def _type(info: TensorInfo, wanted: TensorType) -> TensorType:
    """What llama.cpp's converter writes the tensor in."""
    if info.type.block > 1 or info.type.is_integer:
        return info.type
    if stays_f32(info.name, info.shape):
        return TensorType.F32
    return wanted if info.columns % wanted.block == 0 else TensorType.F16


def _first_half(source: ModelSource) -> TensorType:
    """The 16-bit type that the model is stored in; F16 if it is in none."""
    matrices = (info.type for info in source.tensors.values() if len(info.shape) > 1)
    return next((type for type in matrices if type in _HALF), TensorType.F16)


def _file_type(types: Mapping[str, TensorType], wanted: TensorType) -> int:
    """The number that says what most of a file is."""
    if TensorType.MXFP4 in types.values():
        return _MXFP4_FILE
    return MIXES[wanted.name].file_type


def _require_floats(source: ModelSource) -> None:
    quantised = [info for info in source.tensors.values() if info.type.block > 1]
    if quantised and isinstance(source, GGUFFile):
        raise OptionError(
            f"{source.path}: is quantised already, in {quantised[0].type.name}",
            hint="motet quantize makes another quantisation, best of the original",
        )
