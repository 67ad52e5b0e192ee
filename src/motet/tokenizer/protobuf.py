"""The little of protobuf's wire format that SentencePiece is spoken to in, and heard."""

from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _MESSAGE, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 70
"""Bits."""


def field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def message(number: int, content: bytes) -> bytes:
    """A field of bytes, a string or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a message: an int, or the bytes of all others.

    Raises ValueError where the message is cut short or damaged.
    """
    at, size = 0, len(content)
    while at < size:
        key, at = _read_varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _read_varint(content, at)
            yield number, value
            continue
        if kind == _MESSAGE:
            length, at = _read_varint(content, at)
        elif kind in (_FOUR_BYTES, _EIGHT_BYTES):
            length = 4 if kind == _FOUR_BYTES else 8
        else:
            raise ValueError(f"a field of kind {kind} before byte {at}")
        if length > size - at:
            raise ValueError(f"cut short at byte {size}")
        yield number, content[at : at + length]
        at += length


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    """The value at ``at``, and where it ends."""
    value = shift = 0
    while True:
        if at >= len(content) or shift >= _LONGEST_VARINT:
            raise ValueError(f"no whole number at byte {at}")
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def _varint(value: int) -> bytes:
    """Base 128, lowest group first."""
    groups = bytearray()
    while value >= 128:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)
