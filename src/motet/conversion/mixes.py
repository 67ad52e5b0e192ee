"""Which type each tensor of a quantised file gets: mixtures that users of llama.cpp know by name.

A mixture spends more bits on the tensors that suffer most, by rules that were found by trial. The
rules here give every tensor the type that llama-quantize gives it (``src/llama-quant.cpp`` there);
its rules for Falcon, which Motet does not run, are left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from motet.errors import ModelFileError, OptionError, shown
from motet.weights.formats import TensorType
from motet.weights.gguf_tensors import TensorInfo

OUTPUT = "output.weight"
EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
_BLOCK = re.compile(r"blk\.(\d+)\.")
_F16, _Q8_0 = TensorType.F16, TensorType.Q8_0
_FP4_EXPERTS = "MXFP4_MOE"
_Q3_K, _Q4_K, _Q5_K, _Q6_K = TensorType.Q3_K, TensorType.Q4_K, TensorType.Q5_K, TensorType.Q6_K


@dataclass(frozen=True)
class Mix:
    """A mixture. ``type``: what most tensors get. ``file_type``: its number in files (ggml.h)."""

    name: str
    file_type: int
    type: TensorType
    about: str


MIXES = {
    mix.name: mix
    for mix in (
        Mix("F32", 0, TensorType.F32, "32-bit floats"),
        Mix("F16", 1, TensorType.F16, "16-bit floats"),
        Mix("BF16", 32, TensorType.BF16, "16-bit floats of the range of F32"),
        Mix("Q8_0", 7, TensorType.Q8_0, "8.5 bits a weight; hardly to be told from F16"),
        Mix("Q6_K", 18, TensorType.Q6_K, "6.6 bits; very close to F16"),
        Mix("Q5_K_M", 17, TensorType.Q5_K, "5.7 bits; close to F16"),
        Mix("Q5_K_S", 16, TensorType.Q5_K, "5.5 bits"),
        Mix("Q5_1", 9, TensorType.Q5_1, "6.0 bits; Q5_K_M is smaller and better"),
        Mix("Q5_0", 8, TensorType.Q5_0, "5.5 bits; Q5_K_S is better"),
        Mix("Q4_K_M", 15, TensorType.Q4_K, "4.9 bits; the usual choice"),
        Mix("Q4_K_S", 14, TensorType.Q4_K, "4.6 bits"),
        Mix("Q4_1", 3, TensorType.Q4_1, "5.0 bits; Q4_K_M is better"),
        Mix("Q4_0", 2, TensorType.Q4_0, "4.5 bits; the fastest; Q4_K_S is better"),
        Mix(_FP4_EXPERTS, 38, TensorType.MXFP4, "4.3 bits for experts, Q8_0 for all else"),
        Mix("IQ4_NL", 25, TensorType.IQ4_NL, "4.5 bits, for rows that K-quants do not fit"),
        Mix("IQ4_XS", 30, TensorType.IQ4_XS, "4.3 bits; better than Q3_K_L"),
        Mix("Q3_K_L", 13, TensorType.Q3_K, "4.3 bits"),
        Mix("Q3_K_M", 12, TensorType.Q3_K, "3.9 bits; a visible loss"),
        Mix("Q3_K_S", 11, TensorType.Q3_K, "3.5 bits; a large loss"),
        Mix("Q2_K", 10, TensorType.Q2_K, "3.2 bits; a very large loss"),
        Mix("Q2_K_S", 21, TensorType.Q2_K, "2.9 bits; needs an importance matrix"),
        Mix("TQ2_0", 37, TensorType.TQ2_0, "2.1 bits, for models trained with three values"),
        Mix("TQ1_0", 36, TensorType.TQ1_0, "1.7 bits, for models trained with three values"),
    )
}
ALIASES = {"Q5_K": "Q5_K_M", "Q4_K": "Q4_K_M", "Q3_K": "Q3_K_M"}
TYPES = {mix.type.name: mix.type for mix in MIXES.values()}
"""Types that tensors can be given, by name."""


def mix_of(name: str) -> Mix:
    """The mixture of a name, in any case. Raises OptionError, which lists them, for none."""
    wanted = name.upper()
    mix = MIXES.get(ALIASES.get(wanted, wanted))
    if mix is None:
        raise OptionError(
            f"type is {shown(name)}, which Motet does not quantise to",
            hint=f"use one of {', '.join(MIXES)}",
        )
    return mix


def type_of(name: str, what: str) -> TensorType:
    """The type of tensors of a name, in any case; ``what`` names the option in the error."""
    found = TYPES.get(name.upper())
    if found is None:
        hint = f"use one of {', '.join(TYPES)}"
        raise OptionError(f"{what}: {shown(name)} is not a type that Motet quantises to", hint=hint)
    return found


@dataclass(frozen=True)
class Wishes:
    """What may be asked for beside the mixture.

    ``pure``: the same type for all. ``leave_output``: the output head stays as it is. ``tensors``:
    expressions that are searched for in names, each with the type of what it finds first.
    ``output``, ``embedding``: the types of these two.
    """

    pure: bool = False
    leave_output: bool = False
    tensors: Sequence[tuple[re.Pattern[str], TensorType]] = ()
    output: TensorType | None = None
    embedding: TensorType | None = None


class _Kind(Enum):
    """What a tensor does, as far as it matters here."""

    OUTPUT = auto()
    EMBEDDING = auto()
    VALUE = auto()
    KEY = auto()
    ATTENTION_OUTPUT = auto()
    DOWN = auto()
    OTHER = auto()


_KINDS = (
    ("attn_qkv.weight", _Kind.VALUE),
    ("attn_kv_b.weight", _Kind.VALUE),
    ("attn_v.weight", _Kind.VALUE),
    ("attn_k.weight", _Kind.KEY),
    ("attn_output.weight", _Kind.ATTENTION_OUTPUT),
    ("ffn_down", _Kind.DOWN),
)
"""Parts of names; what holds values as well counts as values."""

_KEPT_NAMES = {"position_embd.weight", "token_types.weight"}
_KEPT_PARTS = (
    "_norm.weight",
    # Routers of experts.
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    # Gemma 3n's small ones.
    "altup",
    "laurel",
    "per_layer_model_proj",
    # Convolutions over a few tokens.
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    # RWKV's mixing of a token with the one before, its decay and its gates.
    "time_mix_first.weight",
    *(f"time_mix_{name}.weight" for name in ("w0", "w1", "w2", "v0", "v1", "v2")),
    *(f"time_mix_{name}.weight" for name in ("a0", "a1", "a2", "g1", "g2")),
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    # T5's bias by distance.
    "attn_rel_b.weight",
)
"""In names of tensors that stay as they are: small ones, or much worse when they are rounded."""

_FALLBACKS = {
    TensorType.IQ4_XS: TensorType.IQ4_NL,
    TensorType.Q2_K: TensorType.Q4_0,
    TensorType.Q3_K: TensorType.Q4_0,
    TensorType.TQ1_0: TensorType.Q4_0,
    TensorType.TQ2_0: TensorType.Q4_0,
    TensorType.Q4_K: TensorType.Q5_0,
    TensorType.Q5_K: TensorType.Q5_1,
    TensorType.Q6_K: TensorType.Q8_0,
}
"""What stands in, with blocks of 32, where a row is not a whole number of blocks of 256."""


def fitting(type: TensorType, columns: int) -> TensorType:
    """``type``, or what stands in for it where rows of ``columns`` values do not divide."""
    if columns % type.block == 0:
        return type
    smaller = _FALLBACKS.get(type, _F16)
    return smaller if columns % smaller.block == 0 else _F16


def quantisable(info: TensorInfo) -> bool:
    """Whether a mixture gives this tensor a type: a matrix that is none of the small ones."""
    return (
        not info.type.is_integer
        and info.rows > 1
        and info.name.endswith("weight")
        and info.name not in _KEPT_NAMES
        and not any(part in info.name for part in _KEPT_PARTS)
    )


def assign(
    metadata: Mapping[str, object],
    tensors: Mapping[str, TensorInfo],
    mix: Mix,
    wishes: Wishes,
    *,
    important: bool,
) -> dict[str, TensorType]:
    """The type that each tensor gets, by name. ``important``: there is an importance matrix."""
    chosen = {name: info.type for name, info in tensors.items()}
    rules = _Rules(metadata, tensors, mix, wishes, important)
    for info in sorted(tensors.values(), key=_order):
        if quantisable(info) and not (wishes.leave_output and info.name == OUTPUT):
            chosen[info.name] = fitting(rules.type_of(info), info.columns)
    return chosen


def _order(info: TensorInfo) -> tuple[int, str]:
    """By layer, then by name: layers are counted in this order."""
    found = _BLOCK.match(info.name)
    return int(found[1]) if found else -1, info.name


def _kind(name: str) -> _Kind:
    if name == OUTPUT:
        return _Kind.OUTPUT
    if name in EMBEDDINGS:
        return _Kind.EMBEDDING
    return next((kind for part, kind in _KINDS if part in name), _Kind.OTHER)


@dataclass
class _Rules:
    """Of one file; it counts the tensors of a kind as they come."""

    metadata: Mapping[str, object]
    tensors: Mapping[str, TensorInfo]
    mix: Mix
    wishes: Wishes
    important: bool
    seen: dict[_Kind, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._architecture = self.metadata.get("general.architecture")
        self._layers = self._size("block_count")
        self._experts = self._size("expert_count")
        self._heads = self._size("attention.head_count")
        self._kv_heads = self._size("attention.head_count_kv", self._heads)
        self._shared = self._heads // self._kv_heads if self._kv_heads else 0
        """Heads that share keys and values."""
        self._values = sum(_kind(name) is _Kind.VALUE for name in self.tensors)
        self._tied = OUTPUT not in self.tensors

    def type_of(self, info: TensorInfo) -> TensorType:
        """What the tensor gets, before it is known to fit."""
        wishes, kind = self.wishes, _kind(info.name)
        named = next((type for each, type in wishes.tensors if each.search(info.name)), None)
        if kind is _Kind.EMBEDDING and wishes.embedding is not None:
            apart = info.name != EMBEDDINGS[0] and named is not None
            return named if apart and named is not None else wishes.embedding
        if kind is _Kind.OUTPUT and wishes.output is not None:
            return wishes.output
        if named is not None:
            return named
        if wishes.pure or self.mix.type.block == 1:
            return self.mix.type
        count = self.seen[kind] = self.seen.get(kind, -1) + 1
        match kind:
            case _Kind.OUTPUT:
                return self._output(info)
            case _Kind.EMBEDDING if self._tied:
                return self._output(info)
            case _ if self.mix.name == _FP4_EXPERTS:
                stacked = len(info.shape) > 2 and info.shape[-3] > 1
                return self.mix.type if stacked else _Q8_0
            case _Kind.EMBEDDING if self.mix.name in ("TQ1_0", "TQ2_0"):
                return _Q4_K
            case _Kind.VALUE:
                return self._value(count)
            case _Kind.KEY:
                return _Q8_0 if self._experts == 8 else self.mix.type
            case _Kind.DOWN:
                return self._down(self._layer(info.name, count))
            case _Kind.ATTENTION_OUTPUT:
                return self._attention_output()
            case _:
                return self.mix.type

    def _output(self, info: TensorInfo) -> TensorType:
        """Of the output head, or of the embedding that is one too."""
        if self.wishes.output is not None:
            return self.wishes.output
        if info.columns % self.mix.type.block or self.mix.name in ("Q8_0", _FP4_EXPERTS):
            return _Q8_0
        return _Q6_K

    def _value(self, index: int) -> TensorType:
        """Of values, which are few where heads share them, and matter most."""
        type, grouped = self.mix.type, self._shared >= 4
        match self.mix.name:
            case "Q2_K":
                type = _Q4_K if grouped else _Q3_K
            case "Q2_K_S" if grouped:
                type = _Q4_K
            case "Q3_K_M":
                type = _Q5_K if index < 2 else _Q4_K
            case "Q3_K_L":
                type = _Q5_K
            case "IQ4_NL" | "IQ4_XS" if grouped:
                type = _Q5_K
            case "Q4_K_M" | "Q5_K_M" if _more_bits(index, self._values):
                type = _Q6_K
            case "Q4_K_S" if index < 4:
                type = _Q5_K
        if self._is_70b() and type in (_Q3_K, _Q4_K):
            type = _Q5_K
        return _Q8_0 if self._experts == 8 else type

    def _down(self, layer: int) -> TensorType:
        """Of what leads out of a feed-forward layer."""
        early = layer < self._layers // 8
        match self.mix.name:
            case "Q2_K":
                return _Q3_K
            case "Q2_K_S" if early:
                return _Q4_K
            case "Q3_K_M":
                return _Q5_K if layer < self._layers // 16 else _Q4_K
            case "Q3_K_L":
                return _Q5_K
            case "Q4_K_M" | "Q5_K_M" if _more_bits(layer, self._layers):
                return _Q6_K
            case "Q4_K_S" if early:
                return _Q5_K
            case "IQ4_NL" | "IQ4_XS" if early and not self.important:
                return _Q5_K
            case "Q4_0" if early and self.important:
                return TensorType.Q4_1
            case "Q5_0" if early and self.important:
                return TensorType.Q5_1
        return self.mix.type

    def _attention_output(self) -> TensorType:
        if self._experts == 8:
            some = ("Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_NL", "IQ4_XS", "Q4_K_S", "Q4_K_M")
            return _Q5_K if self.mix.name in some else self.mix.type
        others = {"Q2_K": _Q3_K, "Q3_K_M": _Q4_K, "Q3_K_L": _Q5_K}
        return others.get(self.mix.name, self.mix.type)

    def _layer(self, name: str, count: int) -> int:
        """Of a mixture of experts what its name says, since tensors of a kind may be several."""
        found = _BLOCK.match(name)
        return int(found[1]) if found and self._experts > 1 else count

    def _is_70b(self) -> bool:
        """Llama-2-70B and its like, whose values are an eighth of the queries."""
        match self._architecture:
            case "llama":
                return self._layers == 80 and self._heads != self._kv_heads
            case "qwen2" | "deci" | "olmo":
                return self._layers == 80
        return False

    def _size(self, key: str, default: int = 0) -> int:
        """A key of the architecture; of a list by layer, the first layer's."""
        name = f"{self._architecture}.{key}"
        value = self.metadata.get(name, default)
        if isinstance(value, list):
            value = value[0] if value else default
        if not isinstance(value, int):
            raise ModelFileError(f"metadata key {name!r} is {value!r}, not a whole number")
        return value


def _more_bits(index: int, count: int) -> bool:
    """The first eighth, the last eighth, and every third between them."""
    eighth = count // 8
    return index < eighth or index >= 7 * count // 8 or (index - eighth) % 3 == 2
