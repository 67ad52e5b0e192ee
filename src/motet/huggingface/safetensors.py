"""Weights in safetensors files, one or several by an index: names, shapes and where bytes lie.

The format: https://huggingface.co/docs/safetensors. Read here, and not through its library, since
that maps files into memory: where one is cut short meanwhile, the process would end.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

import numpy as np

from motet.arrays import UInt8
from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.files import Directory, parsed
from motet.weights.identify import describe
from motet.weights.open_file import OpenFile

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ITEM_BYTES = {
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "U8", "I8", "BOOL"), 1),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F64", "I64", "U64"), 8),
}
"""Bytes of an element, of every type that a checkpoint may have."""
_MAX_TENSORS = 1 << 18
_MAX_HEADER = _MAX_TENSORS * 128
_MAX_FILES = 1 << 12
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_DAMAGED = "the file is cut short or damaged; fetch it again"


@dataclass(frozen=True)
class Stored:
    """A tensor in a file. ``dtype``: as safetensors names it, "F32", "BF16" …"""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: OpenFile
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of what the last axis has."""
        return ITEM_BYTES[self.dtype] * (self.shape[-1] if self.shape else 1)

    def read(self, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        """Rows ``first`` to ``last`` - 1: uint8 [rows, row_bytes]. Raises as OpenFile.read does."""
        size = self.row_bytes
        data = self.file.read(self.offset + first * size, (last - first) * size, buffer)
        return data.reshape(last - first, size)


def read_tensors(files: Directory) -> dict[str, Stored]:
    """All tensors of a directory, by their names.

    Raises ModelFileError for damaged files and an index that contradicts them, UnsupportedError
    where there are weights in another format alone.
    """
    if files.has(INDEX):
        return _read_indexed(files)
    if files.has(SINGLE):
        return read_file(files, SINGLE)
    names = files.names()
    single = [name for name in names if name.endswith(".safetensors")]
    if len(single) == 1:
        return read_file(files, single[0])
    if single:
        raise ModelFileError(
            f"{files.path}: has {len(single)} safetensors files, but no {INDEX}",
            hint="fetch the whole directory again: the index says what belongs together",
        )
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles:
        raise UnsupportedError(
            f"{files.path}: its weights are a pickle, {pickles[0]}, which can run code when it is"
            " read; Motet reads safetensors alone",
            hint="get the model as safetensors or GGUF, or load it where you trust it and save it"
            " again: transformers' save_pretrained writes safetensors",
        )
    gguf = next((name for name in names if name.endswith(".gguf")), None)
    raise ModelFileError(
        f"{files.path}: has no {SINGLE}",
        hint=f"give a file in it, such as {files.path}/{gguf}"
        if gguf
        else "its weights are missing: fetch the whole directory again",
    )


def _read_indexed(files: Directory) -> dict[str, Stored]:
    where = files.located(INDEX)
    listed = files.json(INDEX).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ModelFileError(f"{where}: weight_map is {shown(listed)}, not names and their files")
    names: list[str] = []
    for tensor, name in listed.items():
        if not isinstance(name, str) or not name.endswith(".safetensors"):
            raise ModelFileError(
                f"{where}: weight_map[{shown(tensor)}] is {shown(name)}, no safetensors file"
            )
        names.append(name)
    parts = sorted(set(names))
    if len(parts) > _MAX_FILES:
        raise ModelFileError(f"{where}: names {len(parts)} files, at most {_MAX_FILES} are read")
    tensors: dict[str, Stored] = {}
    for part in parts:
        if not files.has(part):
            raise ModelFileError(
                f"{where}: names the file {shown(part)}, which is not there",
                hint="fetch the whole directory again",
            )
        for name, stored in read_file(files, part).items():
            if listed.get(name) != part:
                raise ModelFileError(
                    f"{where}: says that tensor {shown(name)} is in {shown(listed.get(name))}, but"
                    f" it is in {part}"
                )
            tensors[name] = stored
    missing = listed.keys() - tensors.keys()
    if missing:
        name = min(missing)
        raise ModelFileError(f"{where}: tensor {shown(name)} is not in {shown(listed[name])}")
    return tensors


def read_file(files: Directory, name: str) -> dict[str, Stored]:
    """The tensors of one file. Raises as ``read_tensors`` does."""
    file = files.opened(name)
    if file.size < 8:
        raise ModelFileError(f"{file.path}: has {file.size} bytes, no header", hint=_DAMAGED)
    length = int.from_bytes(file.read(0, 8).tobytes(), "little")
    if not 2 <= length <= min(file.size - 8, _MAX_HEADER):
        beginning = file.read(0, min(file.size, 64)).tobytes()
        if beginning.startswith((b"version https://git-lfs", b"<")):
            problem, hint = describe(beginning, file.size)
            raise ModelFileError(
                f"{file.path}: {problem.replace('GGUF', 'safetensors')}", hint=hint
            )
        raise ModelFileError(
            f"{file.path}: its header takes {length} bytes, but the file has {file.size} and a"
            f" header at most {_MAX_HEADER} (byte 0)",
            hint=_DAMAGED,
        )
    try:
        header = file.read(8, length).tobytes().decode()
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{file.path}: its header is not UTF-8: {error.reason}") from None
    entries = parsed(header, f"{file.path}: header")
    entries.pop("__metadata__", None)
    if len(entries) > _MAX_TENSORS:
        raise ModelFileError(
            f"{file.path}: has {len(entries)} tensors, at most {_MAX_TENSORS} are read"
        )
    start = 8 + length
    tensors = {name: _entry(file, name, entry, start) for name, entry in entries.items()}
    _refuse_overlaps(file, tensors)
    return tensors


def _entry(file: OpenFile, name: str, entry: Any, start: int) -> Stored:
    where = f"{file.path}: tensor {shown(name)}"
    if not isinstance(entry, dict):
        raise ModelFileError(f"{where}: is {shown(entry)}, not its dtype, shape and data_offsets")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise UnsupportedError(f"{where}: its dtype {shown(dtype)} is not supported")
    if not _whole_numbers(shape) or len(shape) > 8 or prod(shape) >= 1 << 60 or 0 in shape:
        raise ModelFileError(f"{where}: impossible shape {shown(shape)}")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise ModelFileError(f"{where}: data_offsets are {shown(offsets)}, not two positions")
    begin, end = offsets
    if not 0 <= begin <= end <= file.size - start:
        raise ModelFileError(
            f"{where}: its bytes {begin} to {end} are not within the {file.size - start} that the"
            " file has",
            hint=_DAMAGED,
        )
    if end - begin != prod(shape) * ITEM_BYTES[dtype]:
        raise ModelFileError(
            f"{where}: {dtype} {shown(shape)} does not take the {end - begin} bytes that it has"
        )
    return Stored(name, dtype, tuple(shape), file, start + begin)


def _whole_numbers(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _refuse_overlaps(file: OpenFile, tensors: dict[str, Stored]) -> None:
    if len(tensors) < 2:
        return
    ordered = sorted(tensors.values(), key=lambda tensor: tensor.offset)
    starts = np.array([t.offset for t in ordered])
    ends = np.array([t.offset + prod(t.shape[:-1]) * t.row_bytes for t in ordered])
    over = np.flatnonzero(ends[:-1] > starts[1:])
    if len(over):
        first, second = ordered[over[0]].name, ordered[over[0] + 1].name
        raise ModelFileError(
            f"{file.path}: tensor {shown(second)} overlaps tensor {shown(first)}", hint=_DAMAGED
        )
