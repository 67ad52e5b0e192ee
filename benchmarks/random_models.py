"""Write GGUF models with the shapes of real ones and random weights, for measuring speed.

    python benchmarks/random_models.py gemma2-2b q4_0 [OUT]

The same arguments give the same file. Weights are scaled by 1/sqrt(columns), so that activations
keep their size from layer to layer and logits stay finite. There is no vocabulary.
"""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import gguf
import numpy as np

from motet.weights.formats import TensorType, row_bytes

CHUNK_BYTES = 16 << 20


@dataclass(frozen=True)
class Shape:
    """What the published model's configuration says. Values not given here follow from these."""

    architecture: str
    layers: int
    d_model: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    epsilon: float
    rope_base: float
    window: int = 0


MODELS = {
    "gemma2-2b": Shape("gemma2", 26, 2304, 9216, 8, 4, 256, 256000, 8192, 1e-6, 1e4, 4096),
    "gemma3-1b": Shape("gemma3", 26, 1152, 6912, 4, 1, 256, 262144, 32768, 1e-6, 1e6, 512),
    "llama-3.2-1b": Shape("llama", 16, 2048, 8192, 32, 8, 64, 128256, 131072, 1e-5, 5e5),
}
NORMS = {
    "gemma2": ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"],
    "gemma3": ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"],
    "llama": ["attn_norm", "ffn_norm"],
}
TYPES = {
    "q4_0": TensorType.Q4_0,
    "q8_0": TensorType.Q8_0,
    "q4_k": TensorType.Q4_K,
    "bf16": TensorType.BF16,
}


def metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    """The keys that llama.cpp's converter writes for these models."""
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.d_model)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    if shape.architecture != "gemma2":
        writer.add_rope_freq_base(shape.rope_base)
    if shape.architecture == "gemma3":
        writer.add_rope_freq_base_swa(1e4)
    if shape.architecture == "llama":
        writer.add_rope_dimension_count(shape.head_dim)
    if shape.window:
        writer.add_sliding_window(shape.window)
    if shape.architecture == "gemma2":
        writer.add_attn_logit_softcapping(50.0)
        writer.add_final_logit_softcapping(30.0)
    writer.add_string("tokenizer.ggml.model", "no_vocab")


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor; the output matrix is the embedding in all three models."""
    d, width = shape.d_model, shape.heads * shape.head_dim
    kv_width = shape.kv_heads * shape.head_dim
    yield "token_embd.weight", (shape.vocabulary, d)
    yield "output_norm.weight", (d,)
    if shape.architecture == "llama":
        yield "rope_freqs.weight", (shape.head_dim // 2,)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        for norm in NORMS[shape.architecture]:
            yield f"{block}{norm}.weight", (d,)
        yield block + "attn_q.weight", (width, d)
        yield block + "attn_k.weight", (kv_width, d)
        yield block + "attn_v.weight", (kv_width, d)
        yield block + "attn_output.weight", (d, width)
        if shape.architecture == "gemma3":
            yield block + "attn_q_norm.weight", (shape.head_dim,)
            yield block + "attn_k_norm.weight", (shape.head_dim,)
        yield block + "ffn_gate.weight", (shape.feed_forward, d)
        yield block + "ffn_up.weight", (shape.feed_forward, d)
        yield block + "ffn_down.weight", (d, shape.feed_forward)


def stored_type(shape: tuple[int, ...], wanted: TensorType) -> TensorType:
    """Vectors stay F32; where a row is no whole number of blocks Q4_K becomes Q5_0, as
    llama-quantize does it."""
    if len(shape) == 1:
        return TensorType.F32
    if wanted is TensorType.Q4_K and shape[-1] % wanted.block:
        return TensorType.Q5_0
    return wanted


def vector(name: str, length: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Norm weights near 1, or the frequency divisors of Llama 3's rope scaling."""
    if name == "rope_freqs.weight":
        return llama3_divisors(shape)
    return (1.0 + 0.1 * rng.standard_normal(length)).astype(np.float32)


def llama3_divisors(shape: Shape) -> np.ndarray:
    """Float32 [head_dim / 2], as llama.cpp's converter computes them for Llama 3.2 (factor 32,
    low and high frequency factors 1 and 4, trained first on 8192 tokens)."""
    factor, low, high, trained = 32.0, 1.0, 4.0, 8192
    exponents = np.arange(0, shape.head_dim, 2) / shape.head_dim
    wavelengths = 2 * math.pi * shape.rope_base**exponents
    smooth = np.clip((trained / wavelengths - low) / (high - low), 0.0, 1.0)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def matrix_rows(rows: int, columns: int, type: TensorType, rng: np.random.Generator) -> np.ndarray:
    """Uint8 [rows, row_bytes]: random weights with root mean square about 1 / sqrt(columns)."""
    blocks = rows * columns // type.block
    size = blocks * type.block_bytes
    words = rng.integers(0, 1 << 64, -(-size // 8), np.uint64, endpoint=False)
    raw = words.view(np.uint8)[:size].reshape(blocks, type.block_bytes)
    rms = columns**-0.5
    if type is TensorType.BF16:
        # A random sign and mantissa in one binade, where the root mean square is 1.53 · 2^e.
        exponent = round(math.log2(rms / 1.53)) + 127
        bits = raw.view(np.uint16)
        bits &= 0x807F
        bits |= exponent << 7
        return raw.reshape(rows, -1)
    steps = {  # the root mean square of a block's integers, uniform over all their values
        TensorType.Q4_0: 4.6,
        TensorType.Q5_0: 9.2,
        TensorType.Q8_0: 74.0,
        TensorType.Q4_K: 258.0,  # of scale · q − 7.5 · min, with scale and min from 0 to 63
    }
    # A random sign, for the integers of Q4_0 and Q5_0 are not centred on zero.
    scale = rms / steps[type] * (0.75 + rng.integers(0, 8, blocks) / 14)
    scale *= 1 - 2 * rng.integers(0, 2, blocks)
    raw[:, :2] = scale.astype(np.float16)[:, None].view(np.uint8)
    if type is TensorType.Q4_K:
        raw[:, 2:4] = (7.5 * scale).astype(np.float16)[:, None].view(np.uint8)
    return raw.reshape(rows, -1)


def write(shape: Shape, wanted: TensorType, path: Path) -> None:
    """Write the model, a chunk of rows at a time."""
    partial = path.with_name(path.name + ".partial")
    writer = gguf.GGUFWriter(partial, shape.architecture)
    metadata(writer, shape)
    listed = [(name, dims, stored_type(dims, wanted)) for name, dims in tensors(shape)]
    for name, dims, type in listed:
        stored = (*dims[:-1], row_bytes(type, dims[-1]))
        writer.add_tensor_info(
            name,
            stored,
            np.dtype(np.uint8),
            math.prod(stored),
            gguf.GGMLQuantizationType(type.value),
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with partial.open("ab") as file:
        for name, dims, type in listed:
            file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
            rng = np.random.Generator(np.random.SFC64(zlib.crc32(name.encode())))
            if len(dims) == 1:
                file.write(vector(name, dims[0], shape, rng).data)
                continue
            rows, columns = dims
            step = max(1, CHUNK_BYTES // row_bytes(type, columns))
            for start in range(0, rows, step):
                file.write(matrix_rows(min(step, rows - start), columns, type, rng).data)
    partial.replace(path)


@click.command()
@click.argument("model", type=click.Choice(list(MODELS)))
@click.argument("type", type=click.Choice(list(TYPES)))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path), required=False)
def main(model: str, type: str, out: Path | None) -> None:
    """Write MODEL with random weights of TYPE to OUT.

    OUT is benchmarks/models/MODEL-TYPE.gguf if it is not given.
    """
    path = out or Path(__file__).parent / "models" / f"{model}-{type}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(MODELS[model], TYPES[type], path)
    click.echo(path)


if __name__ == "__main__":
    main()
