"""The little of protobuf's wire format that SentencePiece is spoken to in."""


def field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def message(number: int, content: bytes) -> bytes:
    """A field of bytes, a string or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Base 128, lowest group first."""
    groups = bytearray()
    while value >= 128:
        groups.append(value & 127 | 128)
        value >>= 7
    groups.append(value)
    return bytes(groups)
