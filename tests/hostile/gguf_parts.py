"""Small models of every family as keys and tensors, and ways to break them."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import gguf
import numpy as np

from tests.models.tiny import ARCHITECTURES, VOCAB, Shapes, metadata, shapes
from tests.tokenizer.vocabularies import bpe_metadata, spm_metadata
from tests.weights.gguf_bytes import ARRAY, SCALARS, STRING, Bytes, Pairs, Tensor, write

Random = np.random.Generator

_ALIGNMENT = 32
_WIDE = {
    "embedding_length": 32,
    "feed_forward_length": 64,
    "ssm.inner_size": 64,
    "ssm.time_step_rank": 4,
}
"""So that rows are whole blocks; instead of other values, but not of 0."""
_QUANTS = ("Q4_0", "Q5_1", "Q8_0")
_FLOATS = ("ssm_a", "ssm_d", "conv1d.weight", "norm.weight", "first.weight")
"""What is never quantised, beside vectors and lerps."""

_OPTIONAL: Shapes = {
    "output.weight": (VOCAB, 16),
    "output.bias": (VOCAB,),
    "rope_freqs.weight": (2,),
    "blk.0.attn_q.bias": (16,),
    "blk.1.attn_output.bias": (16,),
    "blk.1.ffn_gate.bias": (24,),
}
"""Of ``llama``."""

# Values that a key may be set to.
_WHOLE = [-1, 0, 1, 2, 3, 7, 8, 255, 256, 65535, 1 << 16, 1 << 24]
_WHOLE += [x + d for x in (1 << 31, 1 << 32, 1 << 63, 1 << 64) for d in (-1, 0)]
_REAL = [0.0, -0.0, -1.0, 1.0, 1.5, 1e-45, 1e-38, 1e-30, 1e30, 3.4e38, np.nan, np.inf, -np.inf]
_LARGE = [1e300, 1e-300]
_TEXTS: list[str | bytes] = ["", "none", "linear", "yarn", "longrope", "gpt2", "llama", "clip"]
_TEXTS += ["x" * 70_000, b"\xff\xfe", "\n\0", "{{ messages }}", *ARCHITECTURES]
_FAMILY_KEYS = """
    block_count context_length embedding_length feed_forward_length vocab_size expert_count
    expert_used_count attention.head_count attention.head_count_kv attention.key_length
    attention.value_length attention.layer_norm_rms_epsilon attention.layer_norm_epsilon
    attention.sliding_window attention.sliding_window_pattern attention.causal pooling_type
    attn_logit_softcapping final_logit_softcapping rope.dimension_count rope.freq_base
    rope.freq_base_swa rope.scaling.type rope.scaling.factor rope.scale_linear
    rope.scaling.original_context_length rope.scaling.attn_factor rope.scaling.yarn_beta_fast
    rope.scaling.yarn_beta_slow rope.scaling.yarn_ext_factor rope.scaling.yarn_log_multiplier
    rope.scaling.yarn_attn_factor ssm.inner_size ssm.state_size ssm.conv_kernel ssm.time_step_rank
    ssm.group_count ssm.dt_b_c_rms wkv.head_size time_mix_extra_dim time_decay_extra_dim
    rescale_every_n_layers token_shift_count tensor_data_layout logit_scale
    attention.scale attention.temperature_scale embedding_scale residual_scale
    rope.scaling.finetuned rope.dimension_sections shortconv.l_cache
    expert_feed_forward_length expert_shared_feed_forward_length expert_shared_count
    expert_gating_func expert_weights_norm expert_weights_scale expert_group_count
    expert_group_used_count leading_dense_block_count nextn_predict_layers
    attention.key_length_mla attention.value_length_mla attention.kv_lora_rank
    attention.q_lora_rank
"""
_GENERAL = ["general.alignment", "general.type", "general.architecture", "split.count", "split.no"]
_GENERAL += ["tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens"]
_GENERAL += ["tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"]
_GENERAL += ["tokenizer.ggml.bos_token_id", "tokenizer.chat_template", "adapter.type"]


@dataclass
class Parts:
    """What a file consists of; ``build`` lays the tensors one after the other."""

    architecture: str
    pairs: Pairs
    tensors: list[Tensor]

    def build(self) -> Bytes:
        placed: list[Tensor] = []
        end = 0
        for tensor in self.tensors:
            placed.append(replace(tensor, offset=end))
            end += -(-len(tensor.data) // _ALIGNMENT) * _ALIGNMENT
        return write(self.pairs, placed)


@cache
def sound_models() -> tuple[Parts, ...]:
    """Of each architecture: F32 without a vocabulary, and quantised with one; and more."""
    made = [
        _parts("llama", metadata("llama", expert_count=4, expert_used_count=2), ""),
        _parts("llama", metadata("llama"), "", _OPTIONAL),
        _parts("mamba", metadata("mamba", ssm__dt_b_c_rms=True), ""),
        _parts("gemma3", metadata("gemma3", block_count=7), ""),
    ]
    for number, architecture in enumerate(ARCHITECTURES):
        keys = metadata(architecture)
        made.append(_parts(architecture, keys, ""))
        for name, value in _WIDE.items():
            if keys.get(f"{architecture}.{name}"):
                keys[f"{architecture}.{name}"] = value
        vocabulary = spm_metadata() if number % 2 else bpe_metadata()
        made.append(_parts(architecture, keys | vocabulary, _QUANTS[number % len(_QUANTS)]))
    return tuple(made)


def odd_model(random: Random) -> Parts:
    """A model whose sizes fit each other, and are of no ordinary kind. Raises as a load does."""
    architecture = ARCHITECTURES[random.integers(len(ARCHITECTURES))]
    keys = metadata(architecture)
    names = [k for k, v in keys.items() if type(v) is int and v and "context" not in k]
    for name in random.choice(names, size=random.integers(1, 4)).tolist():
        keys[name] = int(random.choice([1, 2, 3, 4, 5, 6, 7, 8, 12, 15, 16, 17, 33, 64, 130]))
    return _parts(architecture, keys, "")


def _parts(
    architecture: str, keys: dict[str, Any], quant: str, optional: Shapes | None = None
) -> Parts:
    rng = np.random.default_rng(0)
    vocab = len(keys.get("tokenizer.ggml.tokens", range(VOCAB)))
    tensors: list[Tensor] = []
    for name, shape in (shapes(keys) | (optional or {})).items():
        if name in ("token_embd.weight", "output.weight"):
            shape = vocab, shape[1]
        values = (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        values += "norm" in name
        if name.endswith("ssm_a"):
            values = -np.abs(values)
        if name == "rope_freqs.weight":
            values = 1 + np.abs(values)
        kind = gguf.GGMLQuantizationType.F32
        if quant and len(shape) > 1 and not name.endswith(_FLOATS) and "lerp" not in name:
            kind = gguf.GGMLQuantizationType[quant if shape[-1] % 32 == 0 else "F16"]
        data = gguf.quants.quantize(values, kind).tobytes()
        tensors.append(Tensor(name, shape[::-1], int(kind), 0, data))
    return Parts(architecture, [(key, *_stored(value)) for key, value in keys.items()], tensors)


def _stored(value: Any) -> tuple[int, object]:
    """A value's GGUF type, and the value as ``gguf_bytes`` writes it: whole numbers as floats
    among floats."""
    if isinstance(value, list):
        return ARRAY, (max(_stored(item)[0] for item in value), value)
    return {bool: 7, int: 5, float: 6, str: STRING}[type(value)], value


# What is done to the parts.


def change_key(random: Random, parts: Parts) -> None:
    """Give a key, present or not, another value."""
    present = [key for key, _, _ in parts.pairs]
    absent = [f"{parts.architecture}.{name}" for name in _FAMILY_KEYS.split()] + _GENERAL
    key = str(random.choice(present if random.random() < 0.6 else absent))
    pair = (key, *_hostile_value(random, parts))
    if key in present:
        parts.pairs[present.index(key)] = pair
    else:
        parts.pairs.append(pair)


def drop_key(random: Random, parts: Parts) -> None:
    del parts.pairs[random.integers(len(parts.pairs))]


def repeat_key(random: Random, parts: Parts) -> None:
    parts.pairs.append(parts.pairs[random.integers(len(parts.pairs))])


def change_dimensions(random: Random, parts: Parts) -> None:
    """Other dimensions of as many values, or not."""
    tensor = _any_tensor(random, parts)
    dims = list(tensor.dims)
    draw = random.integers(5)
    if draw == 0:
        dims.append(1)
    elif draw == 1:
        dims.insert(0, 1)
    elif draw == 2:
        dims.reverse()
    elif draw == 3 and dims:
        dims[random.integers(len(dims))] = int(random.choice(_WHOLE[1:12]))
    elif dims:
        dims.pop(int(random.integers(len(dims))))
    _put(parts, tensor, replace(tensor, dims=tuple(dims)))


def change_type(random: Random, parts: Parts) -> None:
    tensor = _any_tensor(random, parts)
    _put(parts, tensor, replace(tensor, type=int(random.integers(42))))


def requantise(random: Random, parts: Parts) -> None:
    """The same shape in another type: noise as blocks."""
    tensor = _any_tensor(random, parts)
    sizes = gguf.GGML_QUANT_SIZES.items()
    fitting = [kind for kind, (block, _) in sizes if tensor.dims[0] % block == 0]
    kind = fitting[random.integers(len(fitting))]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    count = int(np.prod(tensor.dims))
    data = random.integers(0, 256, count // block * size, np.uint8).tobytes()
    _put(parts, tensor, replace(tensor, type=int(kind), data=data))


def rename(random: Random, parts: Parts) -> None:
    tensor = _any_tensor(random, parts)
    names = [tensor.name + "x", "output.weight", "rope_freqs.weight", "blk.9.attn_q.weight", ""]
    _put(parts, tensor, replace(tensor, name=str(random.choice(names))))


def drop_tensor(random: Random, parts: Parts) -> None:
    parts.tensors.remove(_any_tensor(random, parts))


def swap(random: Random, parts: Parts) -> None:
    """The bytes of one tensor for another's."""
    tensor, other = _any_tensor(random, parts), _any_tensor(random, parts)
    _put(parts, tensor, replace(tensor, data=other.data))


def poison(random: Random, parts: Parts) -> None:
    """Float32s, or whatever lies there, that are extreme."""
    tensor = _any_tensor(random, parts)
    words = np.frombuffer(tensor.data[: len(tensor.data) // 4 * 4], np.uint32).copy()
    values = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 0], np.float32)
    if len(words):
        count = int(random.choice([1, 3, len(words)]))
        words[random.integers(len(words), size=count)] = random.choice(values.view(np.uint32))
    _put(parts, tensor, replace(tensor, data=words.tobytes() + tensor.data[words.nbytes :]))


PARTS: list[Callable[[Random, Parts], None]] = [
    *(change_key,) * 6,
    drop_key,
    repeat_key,
    *(change_dimensions,) * 2,
    change_type,
    requantise,
    rename,
    drop_tensor,
    swap,
    *(poison,) * 3,
]


def _any_tensor(random: Random, parts: Parts) -> Tensor:
    return parts.tensors[random.integers(len(parts.tensors))]


def _put(parts: Parts, old: Tensor, new: Tensor) -> None:
    parts.tensors[parts.tensors.index(old)] = new


def _hostile_value(random: Random, parts: Parts) -> tuple[int, object]:
    draw = random.integers(10)
    if draw < 5:
        value = int(random.choice(np.array(_WHOLE, object)))
        return next((k, value) for k in random.permutation(_FITTING[value]).tolist())
    if draw < 8:
        return (12, float(random.choice(_REAL + _LARGE))) if draw == 7 else (6, _real(random))
    if draw == 8:
        return STRING, _TEXTS[random.integers(len(_TEXTS))]
    return ARRAY, _hostile_array(random, parts)


def _hostile_array(random: Random, parts: Parts) -> tuple[int, list[Any]]:
    layers = next((v for k, _, v in parts.pairs if k == f"{parts.architecture}.block_count"), 2)
    length = int(random.choice([0, 1, 2, layers if isinstance(layers, int) else 2, 300, 100_000]))
    length = min(length, 100_000)
    draw = random.integers(6)
    if draw == 0:
        return STRING, [_TEXTS[random.integers(len(_TEXTS))]] * min(length, 300)
    if draw == 1:
        return ARRAY, [(5, [1] * int(random.integers(3)))] * length
    if draw == 2:
        return 6, [_real(random)] * length
    if draw == 3:
        return 7, [bool(random.integers(2)) for _ in range(length)]
    values = [int(x) for x in random.choice([-1, 0, 1, 2, 4, 1 << 30], 2)]
    return 5, (values * length)[:length] if draw == 4 else values[:1] * length


def _real(random: Random) -> float:
    return float(np.float32(random.choice(_REAL)))


def _fits(kind: int, value: int) -> bool:
    try:
        struct.pack("<" + SCALARS[kind], value)
    except struct.error:
        return False
    return True


_FITTING = {value: [kind for kind in SCALARS if _fits(kind, value)] for value in [*_WHOLE]}
"""Types that can hold each whole number, floats and bools among them."""


# What is done to the file.


def flip_bits(random: Random, file: bytearray, fields: dict[str, tuple[int, str]]) -> None:
    """Anywhere, but for the most part among the weights; or in the header."""
    del fields
    start, end = (0, 4000) if random.random() < 0.3 else (len(file) // 3, len(file))
    count = int(random.choice([1, 2, 8, 64]))
    for at in random.integers(start, min(end, len(file)), size=count).tolist():
        file[at] ^= 1 << int(random.integers(8))


def cut(random: Random, file: bytearray, fields: dict[str, tuple[int, str]]) -> None:
    del fields
    del file[int(random.integers(len(file))) :]


def set_field(random: Random, file: bytearray, fields: dict[str, tuple[int, str]]) -> None:
    """A number of the header: a count, a length, a dimension, a type, an offset."""
    names = [name for name in fields if not name.startswith("value") or ".count" in name]
    at, code = fields[str(random.choice(names))]
    size = struct.calcsize(code)
    value = int(random.choice(np.array([*_WHOLE, len(file)], object))) % (1 << (8 * size))
    file[at : at + size] = value.to_bytes(size, "little")


def splice(random: Random, file: bytearray, fields: dict[str, tuple[int, str]]) -> None:
    """Take some bytes out, or repeat them."""
    del fields
    at, size = int(random.integers(len(file))), int(random.integers(1, 64))
    if random.integers(2):
        del file[at : at + size]
    else:
        file[at:at] = file[at : at + size]


FILE: list[Callable[[Random, bytearray, dict[str, tuple[int, str]]], None]] = [
    *(flip_bits,) * 3,
    *(set_field,) * 3,
    cut,
    splice,
]
