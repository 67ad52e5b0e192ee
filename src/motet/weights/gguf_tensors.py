"""The tensor table of a GGUF file: names, shapes, types and where the bytes lie."""

from dataclasses import dataclass
from math import prod

from motet.errors import UnsupportedError, shown
from motet.weights.cursor import Cursor
from motet.weights.formats import REFUSED_TYPES, TensorType
from motet.weights.source import TensorInfo

MAX_TENSORS = 1 << 15
"""Far above any real file; keeps a damaged count from making millions of objects."""
_MAX_DIMENSIONS = 4
_SMALLEST_ENTRY = 8 + 1 + 4 + 4 + 8  # a name of one byte, dimension count, type, offset


@dataclass(frozen=True)
class GGUFTensor(TensorInfo):
    """A tensor in a file: its bytes begin at ``offset`` of ``path``.

    For a model split over several files, ``path`` is the part that holds the tensor.
    """

    path: str
    offset: int


def read_tensors(cursor: Cursor, count: int, alignment: int, size: int) -> dict[str, GGUFTensor]:
    """``count`` entries, in the file's order, checked against a file of ``size`` bytes.

    Raises ModelFileError for an entry that is cut short or repeated, and for a tensor that is
    misaligned, overlaps another or lies outside the file; UnsupportedError for an unread type.
    """
    cursor.field = "tensor count"
    cursor.check_count(count, "tensors", _SMALLEST_ENTRY, MAX_TENSORS)
    entries: list[tuple[GGUFTensor, int]] = []
    for index in range(count):
        cursor.field = f"tensor {index}"
        entries.append(_read_entry(cursor, alignment))
    data = -(-cursor.position // alignment) * alignment
    tensors: dict[str, GGUFTensor] = {}
    for relative, at in entries:
        cursor.field = f"tensor {shown(relative.name)}"
        if relative.name in tensors:
            raise cursor.error("appears twice", at=at)
        info = GGUFTensor(
            relative.name, relative.shape, relative.type, cursor.path, data + relative.offset
        )
        if info.offset + info.nbytes > size:
            raise cursor.error(
                f"its {info.nbytes} bytes start at byte {info.offset}, but the file has {size}",
                at=at,
                hint="the file is cut short or damaged; fetch it again",
            )
        tensors[info.name] = info
    _refuse_overlaps(cursor, tensors)
    return tensors


def _read_entry(cursor: Cursor, alignment: int) -> tuple[GGUFTensor, int]:
    """An entry whose offset is still relative to the data section, and the byte it begins at."""
    start = cursor.position
    name = cursor.name("the name")
    cursor.field = f"tensor {shown(name)}"
    at = cursor.position
    dimensions = cursor.u32("the number of dimensions")
    if dimensions > _MAX_DIMENSIONS:
        raise cursor.error(f"{dimensions} dimensions, at most {_MAX_DIMENSIONS} are allowed", at)
    at = cursor.position
    shape = tuple(cursor.u64("a dimension") for _ in range(dimensions))[::-1]
    if prod(shape) == 0 or prod(shape) >= 1 << 63:
        raise cursor.error(f"impossible shape {list(shape)}", at)
    at = cursor.position
    type = _tensor_type(cursor, cursor.u32("the type"), at)
    columns = shape[-1] if shape else 1
    if columns % type.block:
        raise cursor.error(
            f"rows of {columns} values are not whole {type.name} blocks of {type.block}", at
        )
    at = cursor.position
    offset = cursor.u64("the offset")
    if offset % alignment:
        raise cursor.error(f"offset {offset} is not a multiple of the alignment {alignment}", at)
    return GGUFTensor(name, shape, type, cursor.path, offset), start


def _tensor_type(cursor: Cursor, number: int, at: int) -> TensorType:
    try:
        return TensorType(number)
    except ValueError:
        if number not in REFUSED_TYPES:
            raise cursor.error(f"unknown tensor type {number}", at) from None
        raise UnsupportedError(
            f"{cursor.path}: {cursor.field}: type {number} ({REFUSED_TYPES[number]}) is not "
            f"supported (byte {at})",
            hint="use the model in another quantisation, such as Q4_K or Q8_0",
        ) from None


def _refuse_overlaps(cursor: Cursor, tensors: dict[str, GGUFTensor]) -> None:
    end, before = 0, ""
    for info in sorted(tensors.values(), key=lambda info: info.offset):
        if info.offset < end:
            cursor.field = f"tensor {shown(info.name)}"
            raise cursor.error(f"overlaps tensor {shown(before)}", at=info.offset)
        end, before = info.offset + info.nbytes, info.name
