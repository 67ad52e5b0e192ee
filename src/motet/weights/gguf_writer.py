"""Writing any model as GGUF: tensor by tensor, and as a whole or not at all."""

import io
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from motet.errors import CapacityError, ModelFileError, OptionError
from motet.machine import format_bytes
from motet.replacing import replacing, write_all
from motet.weights.gguf_tensors import GGUFTensor
from motet.weights.source import MetadataValue, ModelSource, TensorInfo, ValueType

if TYPE_CHECKING:
    from gguf import GGUFWriter

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

_CHUNK = 4 << 20
"""Bytes of a tensor that are held at once."""
_MOST_PARTS = 500
"""Files of a split model: all of them are open until the last is written."""
_MAGIC = b"GGUF"
_UINT8, _UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _UINT64, _INT64 = (
    0,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
)
_EXCEPTIONS: dict[str, ValueType] = {
    "general.sampling.top_k": (_INT32,),
    "general.sampling.penalty_last_n": (_INT32,),
    "general.sampling.mirostat": (_INT32,),
    "tokenizer.ggml.precompiled_charsmap": (_ARRAY, _UINT8),
}
"""Keys whose values llama.cpp's converter writes in another type than others of the kind."""


def write(
    source: ModelSource,
    path: str | Path,
    *,
    split_size: int | None = None,
    overwrite: bool = False,
    reads: Iterable[str] = (),
    progress: Progress | None = None,
) -> list[Path]:
    """Write ``source`` to ``path``; returns the files that were written.

    ``split_size``: the most bytes of tensors in one file; a larger model becomes several,
    ``NAME-00001-of-00003.gguf`` and so on. Files get their names when all are complete and on the
    disk; what fails before leaves nothing behind. A few megabytes are held at once.

    Raises OptionError for a file that is there already, unless ``overwrite`` is given and it is a
    GGUF file that is not the source; CapacityError where the disk lacks the space; MotetError where
    it cannot be written; and what reading the source raises.
    """
    if os.path.isdir(path):  # noqa: PTH112 — a part's name is another
        raise OptionError(f"{path}: is a directory", hint="give the name of a file in it")
    with _explained(source):
        plan = _planned(source, Path(path), split_size)
    names = plan.format_shard_names(Path(path))
    parts = [[source.tensors[name] for name in part] for part in plan.tensors]
    for name in names:
        require_free(name, {*_files(source), *reads}, overwrite)
    if len(names) > 1 and any(map(os.path.exists, names)):
        raise OptionError(
            f"{path}: some of its {len(names)} files are there already, and several files cannot be"
            " replaced as one",
            hint="delete the old ones first, or give another name",
        )
    with _explained(source):
        headers = _headers(plan, len(names))
    total = sum(info.nbytes for part in parts for info in part)
    _require_space(names[0].parent, total + sum(map(len, headers)))
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    with ExitStack() as stack:
        # The first is opened first and named last: without it, no other can be used.
        files = [stack.enter_context(replacing(name)) for name in names]
        for file, header, part in zip(files, headers, parts, strict=True):
            write_all(file, header)
            for info in part:
                _write_tensor(file, source, info, plan.data_alignment, advance)
        source.require_unchanged()
    return names


@contextmanager
def _explained(source: ModelSource) -> Iterator[None]:
    """gguf's writer looks at values when it packs them: its errors become a ModelFileError."""
    try:
        yield
    except (struct.error, UnicodeError, ValueError, TypeError, OverflowError) as error:
        raise ModelFileError(
            f"{source.path}: has metadata that cannot be written: {error}"
        ) from error


def require_free(path: Path, read: Iterable[str], overwrite: bool) -> None:
    """Raise OptionError if a file cannot be made at ``path``, or one there is not to be replaced.

    ``read``: the files that are read, which are never replaced.
    """
    # Of os.path, for which a name that cannot be is no error.
    folder = os.path.dirname(path) or os.curdir  # noqa: PTH120
    if not os.path.isdir(folder):  # noqa: PTH112
        raise OptionError(f"{path}: there is no directory {folder!r}")
    if os.path.isdir(path):  # noqa: PTH112
        raise OptionError(f"{path}: is a directory", hint="give the name of a file in it")
    if not os.path.exists(path):  # noqa: PTH110
        return
    if any(os.path.exists(each) and path.samefile(each) for each in read):  # noqa: PTH110
        raise OptionError(
            f"{path}: is the model that is read, and would be overwritten", hint="give another name"
        )
    if not overwrite:
        raise OptionError(f"{path}: is there already", hint="give another name, or overwrite=True")
    if not path.is_file() or not _is_gguf(path):
        raise OptionError(f"{path}: is not a GGUF file, and is not overwritten")


def _files(source: ModelSource) -> set[str]:
    """What ``source`` is read from."""
    stored = (info for info in source.tensors.values() if isinstance(info, GGUFTensor))
    return {source.path, *(info.path for info in stored)}


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _planned(source: ModelSource, path: Path, split_size: int | None) -> "GGUFWriter":
    """What goes into which file."""
    from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter

    plan = GGUFWriter(None, "", split_max_size=split_size or 0)
    for key, value in source.metadata.items():
        if key.startswith("split.") or value == []:  # which GGUFWriter does not write
            continue
        kind, *of = source.metadata_types.get(key) or _usual_type(key, value)
        element = GGUFValueType(of[0]) if of else None
        plan.add_key_value(key, _encodable(value), GGUFValueType(kind), element)
    alignment = source.metadata.get("general.alignment")
    if isinstance(alignment, int):
        plan.data_alignment = alignment
    for info in source.tensors.values():
        plan.add_tensor_info(
            info.name,
            info.shape,
            np.dtype(np.float32),
            info.nbytes,
            GGMLQuantizationType(info.type.value),
        )
    if len(plan.tensors) > _MOST_PARTS:
        raise OptionError(
            f"split_size is {split_size}, which makes {len(plan.tensors)} files of {path.name}",
            hint=f"at most {_MOST_PARTS} are written; use a larger size",
        )
    return plan


def _usual_type(key: str, value: MetadataValue) -> ValueType:
    """The type that llama.cpp's converter would write."""
    if key in _EXCEPTIONS:
        return _EXCEPTIONS[key]
    if not isinstance(value, list):
        return (_scalar_type(value, _UINT32, _UINT64),)
    widest = max(value, key=abs) if all(type(each) is int for each in value) else value[0]
    return _ARRAY, _scalar_type(widest, _INT32, _INT64)


def _scalar_type(value: MetadataValue, small: int, large: int) -> int:
    match value:
        case bool():
            return _BOOL
        case int():
            if value < 0:
                small, large = _INT32, _INT64
            limit = 1 << (32 if small == _UINT32 else 31)
            return small if -limit <= value < limit else large
        case float():
            return _FLOAT32
        case str():
            return _STRING
        case list():
            return _ARRAY


def _encodable(value: MetadataValue) -> MetadataValue | bytes | list[bytes]:
    """With the bytes of strings, not all of which are UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [each.encode("utf-8", "surrogateescape") for each in value]
    return value


def _headers(plan: "GGUFWriter", count: int) -> list[bytes]:
    """What each file begins with, up to its first tensor."""
    from gguf.gguf_writer import WriterState

    files = [io.BytesIO() for _ in range(count)]
    plan.fout = cast("list[io.BufferedWriter]", files)
    plan.state = WriterState.EMPTY
    plan.write_header_to_file()
    plan.write_kv_data_to_file()
    plan.write_ti_data_to_file()
    for file in files:
        plan.write_padding(file, file.tell())
    return [file.getvalue() for file in files]


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CapacityError(
            f"{folder}: the file takes {format_bytes(needed)}, and {format_bytes(free)} are free",
            hint="make room on the disk, or write to another",
        )


def _write_tensor(
    file: BinaryIO,
    source: ModelSource,
    info: TensorInfo,
    alignment: int,
    advance: Callable[[int], None],
) -> None:
    step = max(1, _CHUNK // info.row_bytes)
    for first in range(0, info.rows, step):
        rows = source.read_rows(info.name, first, min(first + step, info.rows))
        write_all(file, rows.data)
        advance(rows.nbytes)
    write_all(file, bytes(-info.nbytes % alignment))
