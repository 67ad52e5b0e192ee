"""A GGUF writer that remembers where each field lies, so that tests can break just that one.

It follows ggml's ``docs/gguf.md`` and shares no code with the reader under test.
"""

import struct
from dataclasses import dataclass, field

SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "B",
    10: "Q",
    11: "q",
    12: "d",
}
STRING, ARRAY = 8, 9
Pairs = list[tuple[str | bytes, int, object]]
"""Key, value type, value."""


@dataclass
class Bytes:
    """A file being written; ``fields``: name -> (offset, struct code) of every number in it."""

    data: bytearray = field(default_factory=bytearray)
    fields: dict[str, tuple[int, str]] = field(default_factory=dict)

    def number(self, name: str, code: str, value: float) -> None:
        self.fields[name] = (len(self.data), code)
        self.data += struct.pack("<" + code, value)

    def string(self, name: str, text: bytes | str) -> None:
        text = text.encode() if isinstance(text, str) else text
        self.number(name + ".length", "Q", len(text))
        self.fields[name] = (len(self.data), "B")
        self.data += text

    def value(self, name: str, kind: int, value: object) -> None:
        if kind == STRING:
            assert isinstance(value, bytes | str)
            self.string(name, value)
        elif kind == ARRAY:
            assert isinstance(value, tuple)
            element, items = value
            self.number(name + ".element type", "I", element)
            self.number(name + ".count", "Q", len(items))
            for index, item in enumerate(items):
                self.value(f"{name}[{index}]", element, item)
        else:
            assert isinstance(value, int | float)
            self.number(name, SCALARS[kind], value)

    def replaced(self, name: str, value: float) -> bytes:
        """A copy of the file in which the number ``name`` is ``value``."""
        at, code = self.fields[name]
        packed = struct.pack("<" + code, value)
        return bytes(self.data[:at] + packed + self.data[at + len(packed) :])


@dataclass
class Tensor:
    """``dims`` in the file's order, fastest first; ``offset`` relative to the data section."""

    name: str
    dims: tuple[int, ...]
    type: int
    offset: int
    data: bytes


def write(
    pairs: Pairs,
    tensors: list[Tensor],
    *,
    version: int = 3,
    alignment: int = 32,
) -> Bytes:
    """The file that holds ``pairs`` (key, value type, value) and ``tensors``."""
    out = Bytes()
    out.data += b"GGUF"
    out.number("version", "I", version)
    out.number("tensor count", "Q", len(tensors))
    out.number("key count", "Q", len(pairs))
    for index, (key, kind, value) in enumerate(pairs):
        out.string(f"key {index}", key)
        out.number(f"type {index}", "I", kind)
        out.value(f"value {index}", kind, value)
    for index, tensor in enumerate(tensors):
        out.string(f"tensor {index}", tensor.name)
        out.number(f"tensor {index} dimensions", "I", len(tensor.dims))
        for axis, length in enumerate(tensor.dims):
            out.number(f"tensor {index} dimension {axis}", "Q", length)
        out.number(f"tensor {index} type", "I", tensor.type)
        out.number(f"tensor {index} offset", "Q", tensor.offset)
    out.data += bytes(-len(out.data) % alignment)
    start = len(out.data)
    for tensor in tensors:
        out.data += bytes(start + tensor.offset - len(out.data))
        out.data += tensor.data
    return out


def small_file(version: int = 3) -> Bytes:
    """A little of everything: every value type, nested arrays, tensors of several types."""
    pairs = [
        ("general.architecture", STRING, "llama"),
        ("general.alignment", 4, 32),
        ("u8", 0, 200),
        ("i8", 1, -5),
        ("u16", 2, 60000),
        ("i16", 3, -30000),
        ("i32", 5, -2_000_000_000),
        ("f32", 6, 0.5),
        ("yes", 7, True),
        ("u64", 10, 2**64 - 1),
        ("i64", 11, -(2**63)),
        ("f64", 12, 0.1),
        ("words", ARRAY, (STRING, ["", "a", "né 😀", b"\xff\xfe"])),
        ("numbers", ARRAY, (5, [1, -2, 3])),
        ("flags", ARRAY, (7, [True, False])),
        ("empty", ARRAY, (STRING, [])),
        ("nested", ARRAY, (ARRAY, [(0, [1, 2]), (0, []), (STRING, ["x"])])),
    ]
    tensors = [
        Tensor("token_embd.weight", (64, 3), 2, 0, bytes(range(108))),
        Tensor("output_norm.weight", (5,), 0, 128, bytes(range(20))),
        Tensor("blk.0.deep.weight", (2, 3, 2), 1, 160, bytes(range(24))),
        Tensor("scalar", (), 0, 192, b"\x00\x00\x80\x3f"),
    ]
    return write(pairs, tensors, version=version)
