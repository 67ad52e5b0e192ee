"""A file's tensors for a family: each is expected by name and shape, used, or refused."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from math import prod
from typing import Any, TypeVar

import numpy as np

from motet.errors import ModelFileError, UnsupportedError
from motet.models.config import AttentionConfig, Config
from motet.weights.formats import TensorType, dequantize
from motet.weights.gguf import GGUFFile
from motet.weights.gguf_tensors import TensorInfo

Shapes = dict[str, tuple[int, ...]]
Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""
L = TypeVar("L")

_LISTED = 4
"""Tensors that an error names before it counts the rest."""


_BARE = ("ssm_a", "ssm_d")
"""Tensors of a layer whose names do not end in ``.weight``."""


@dataclass(frozen=True)
class Choice:
    """Tensors that a file has either of: ``with_sign`` where it has one named ``sign``."""

    sign: str
    with_sign: Shapes
    without: Shapes


@dataclass(frozen=True)
class Expected:
    """Shapes in NumPy's order (outermost first) by GGUF name."""

    required: Shapes
    optional: Shapes
    arrays: frozenset[str] = frozenset()
    """Tensors of several axes that are kept as float32 arrays; names without ``blk.N.``."""
    choices: tuple[Choice, ...] = ()
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Rows of the matrices that stand one above the other in a tensor, by its name within
    ``blk.N.``; they are packed apart, so that each gives an array of its own."""


def check(file: GGUFFile, expected: Expected) -> None:
    """Raise unless the file has every required tensor, in its shape, and none beyond."""
    required = dict(expected.required)
    for choice in expected.choices:
        required |= choice.with_sign if choice.sign in file.tensors else choice.without
    missing = [name for name in required if name not in file.tensors]
    if missing:
        raise ModelFileError(
            f"the file lacks {_listed(missing)}",
            hint="it is incomplete, or of another architecture than it says",
        )
    shapes = required | expected.optional
    unknown = [name for name in file.tensors if name not in shapes]
    if unknown:
        raise UnsupportedError(
            f"the file has tensors that Motet does not know for {file.architecture}: "
            f"{_listed(unknown)}",
            hint="they may change the arithmetic, so the model is not run without them",
        )
    for name, info in file.tensors.items():
        if tuple(info.shape) != shapes[name]:
            raise ModelFileError(
                f"tensor {name} has the shape {list(info.shape)}, "
                f"but the file's keys make it {list(shapes[name])}"
            )


def load(
    file: GGUFFile, kernels: Any, expected: Expected, progress: Progress | None
) -> dict[str, Any]:
    """Pack matrices and widen the rest to float32 arrays, in the file's order.

    Two axes make a matrix and three a tuple of matrices (one an expert, say), unless ``expected``
    has them as arrays or in parts. The file's rows are dropped from memory as soon as they are
    packed, so that a model is never there twice.
    """
    check(file, expected)
    total = sum(info.nbytes for info in file.tensors.values())
    before = 0
    loaded: dict[str, Any] = {}
    for name, info in file.tensors.items():

        def packed(first: int, last: int, info: TensorInfo = info, before: int = before) -> None:
            file.release(info.name, first, last)
            if progress is not None:
                progress(before + last * info.row_bytes, total)

        try:
            inner = _in_layer(name)
            if inner in expected.parts:
                rows = expected.parts[inner]
                loaded[name] = _pack(file.raw(name), info, rows, kernels, packed)
            elif len(info.shape) in (2, 3) and inner not in expected.arrays:
                *experts, rows, _ = info.shape
                matrices = _pack(file.raw(name), info, (rows,) * prod(experts), kernels, packed)
                loaded[name] = matrices if experts else matrices[0]
            else:
                loaded[name] = dequantize(file.raw(name), info.type).reshape(info.shape)
                packed(0, info.rows)
        except UnsupportedError as error:
            raise UnsupportedError(f"tensor {name}: {error.message}", hint=error.hint) from error
        before += info.nbytes
    return loaded


def _pack(
    raw: np.ndarray,
    info: TensorInfo,
    parts: Sequence[int],
    kernels: Any,
    packed: Callable[[int, int], None],
) -> tuple[Any, ...]:
    """A matrix of each of ``parts`` rows."""
    starts = accumulate(parts, initial=0)
    return tuple(
        kernels.pack(
            raw[start : start + rows],
            info.type,
            rows,
            info.columns,
            lambda first, last, start=start: packed(start + first, start + last),
        )
        for start, rows in zip(starts, parts, strict=False)
    )


def only_f32(file: GGUFFile) -> bool:
    """Whether every matrix of the file is F32."""
    return all(i.type == TensorType.F32 for i in file.tensors.values() if len(i.shape) >= 2)


def gather(layer_type: type[L], tensors: Mapping[str, Any], block: int) -> L:
    """A layer's tensors: field ``attn_q`` is ``blk.N.attn_q.weight``, ``attn_q_bias`` its bias."""
    return layer_type(
        **{f.name: tensors.get(f"blk.{block}.{_suffixed(f.name)}") for f in fields(layer_type)}  # type: ignore[arg-type]
    )


def decoder_shapes(config: AttentionConfig) -> Shapes:
    """What every attention decoder has: embedding, final norm, projections and their norms."""
    d, ff = config.d_model, config.d_ff
    shapes: Shapes = {"token_embd.weight": (config.n_vocab, d), "output_norm.weight": (d,)}
    for i in range(config.n_layers):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (d,),
            f"blk.{i}.attn_q.weight": (config.n_heads * config.head_dim, d),
            f"blk.{i}.attn_k.weight": (config.n_kv_heads * config.head_dim, d),
            f"blk.{i}.attn_v.weight": (config.n_kv_heads * config.value_dim, d),
            f"blk.{i}.attn_output.weight": (d, config.n_heads * config.value_dim),
            f"blk.{i}.ffn_norm.weight": (d,),
            f"blk.{i}.ffn_gate.weight": (ff, d),
            f"blk.{i}.ffn_up.weight": (ff, d),
            f"blk.{i}.ffn_down.weight": (d, ff),
        }
    return shapes


def output_shape(config: Config) -> Shapes:
    """The output head, where it is not the embedding itself."""
    return {"output.weight": (config.n_vocab, config.d_model)}


def _suffixed(field: str) -> str:
    if field in _BARE:
        return field
    return field[: -len("_bias")] + ".bias" if field.endswith("_bias") else field + ".weight"


def _in_layer(name: str) -> str:
    """The name within its layer: ``blk.3.ssm_a`` is ``ssm_a``."""
    return name.split(".", 2)[2] if name.startswith("blk.") and name.count(".") > 1 else name


def _listed(names: list[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
