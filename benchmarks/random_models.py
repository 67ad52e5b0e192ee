"""Write GGUF models with the shapes of real ones and random weights, for measuring speed.

    python -m benchmarks.random_models gemma2-2b q4_0 [OUT] [--words]

The same arguments give the same file. Weights are scaled by 1/sqrt(columns), so that activations
keep their size from layer to layer and logits stay finite. There is no vocabulary, or with --words
one of made-up words, for servers, which stream texts.
"""

import math
import zlib
from pathlib import Path

import click
import gguf
import numpy as np

from benchmarks.shapes import MODELS, Shape, stays_float32
from motet.weights.formats import TensorType, row_bytes

CHUNK_BYTES = 16 << 20


TYPES = {
    "q4_0": TensorType.Q4_0,
    "q8_0": TensorType.Q8_0,
    "q4_k": TensorType.Q4_K,
    "f16": TensorType.F16,
    "bf16": TensorType.BF16,
    "mxfp4": TensorType.MXFP4,
    "iq4_xs": TensorType.IQ4_XS,
    "iq3_s": TensorType.IQ3_S,
    "iq3_xxs": TensorType.IQ3_XXS,
    "iq2_s": TensorType.IQ2_S,
    "iq2_xxs": TensorType.IQ2_XXS,
    "iq1_s": TensorType.IQ1_S,
    "tq2_0": TensorType.TQ2_0,
}
STEPS = {
    TensorType.Q4_0: 4.6,
    TensorType.Q5_0: 9.2,
    TensorType.Q8_0: 74.0,
    TensorType.Q4_K: 258.0,  # of scale · q − 7.5 · min, with scale and min from 0 to 63
    TensorType.IQ4_NL: 67.5,
    TensorType.IQ4_XS: 1251.0,
    TensorType.IQ3_S: 139.9,
    TensorType.IQ3_XXS: 142.2,
    TensorType.IQ2_S: 56.4,
    TensorType.IQ2_XXS: 53.2,
    TensorType.IQ1_S: 7.21,
    TensorType.TQ2_0: 1.226,
}
"""The root mean square of a block's weights where its scale is 1 and all other bits are random."""


def stored_type(name: str, dims: tuple[int, ...], wanted: TensorType) -> TensorType:
    """Small tensors stay F32; where a row is no whole number of blocks Q4_K becomes Q5_0 and what
    is smaller IQ4_NL, as llama-quantize does it; MXFP4 is of experts, beside Q8_0, as in gpt-oss's
    files."""
    if stays_float32(name, dims):
        return TensorType.F32
    if wanted is TensorType.MXFP4 and "_exps" not in name:
        return TensorType.Q8_0
    if dims[-1] % wanted.block:
        return TensorType.Q5_0 if wanted is TensorType.Q4_K else TensorType.IQ4_NL
    return wanted


def matrix_rows(rows: int, columns: int, type: TensorType, rng: np.random.Generator) -> np.ndarray:
    """Uint8 [rows, row_bytes]: random weights with root mean square about 1 / sqrt(columns)."""
    blocks = rows * columns // type.block
    size = blocks * type.block_bytes
    words = rng.integers(0, 1 << 64, -(-size // 8), np.uint64, endpoint=False)
    raw = words.view(np.uint8)[:size].reshape(blocks, type.block_bytes)
    rms = columns**-0.5
    if type is TensorType.F16:
        bits = raw.view(np.uint16)
        bits &= 0x83FF
        bits |= (round(math.log2(rms / 1.53)) + 15) << 10
        return raw.reshape(rows, -1)
    if type is TensorType.BF16:
        # A random sign and mantissa in one binade, where the root mean square is 1.53 · 2^e.
        exponent = round(math.log2(rms / 1.53)) + 127
        bits = raw.view(np.uint16)
        bits &= 0x807F
        bits |= exponent << 7
        return raw.reshape(rows, -1)
    if type is TensorType.MXFP4:  # whose values' root mean square is 2.93
        raw[:, 0] = round(math.log2(rms / 2.93)) + 127 + rng.integers(-1, 2, blocks)
        return raw.reshape(rows, -1)
    # A random sign, for the integers of Q4_0 and others are not centred on zero.
    scale = rms / STEPS[type] * (0.75 + rng.integers(0, 8, blocks) / 14)
    scale *= 1 - 2 * rng.integers(0, 2, blocks)
    at = 64 if type is TensorType.TQ2_0 else 0
    raw[:, at : at + 2] = scale.astype(np.float16)[:, None].view(np.uint8)
    if type is TensorType.Q4_K:
        raw[:, 2:4] = (7.5 * scale).astype(np.float16)[:, None].view(np.uint8)
    return raw.reshape(rows, -1)


def add_words(writer: gguf.GGUFWriter, count: int) -> None:
    """A SentencePiece vocabulary of ``count`` tokens: special ones, bytes, numbered words."""
    kinds = gguf.TokenType
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [*3 * [kinds.CONTROL], kinds.UNKNOWN, *256 * [kinds.BYTE]]
    tokens += [f"\u2581w{number}" for number in range(len(tokens), count)]
    types += (count - len(types)) * [kinds.NORMAL]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(count)])
    writer.add_token_types(types)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(True)


def write(shape: Shape, wanted: TensorType, path: Path, words: bool = False) -> None:
    """Write the model, a chunk of rows at a time."""
    partial = path.with_name(path.name + ".partial")
    writer = gguf.GGUFWriter(partial, shape.architecture)
    shape.metadata(writer)
    if words:
        add_words(writer, next(dims[0] for name, dims in shape.tensors() if "token_embd" in name))
    else:
        writer.add_string("tokenizer.ggml.model", "no_vocab")
    listed = [(name, dims, stored_type(name, dims, wanted)) for name, dims in shape.tensors()]
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
            if stays_float32(name, dims):
                file.write(shape.plain(name, dims, rng).data)
                continue
            rows, columns = math.prod(dims[:-1]), dims[-1]
            step = max(1, CHUNK_BYTES // row_bytes(type, columns))
            for start in range(0, rows, step):
                file.write(matrix_rows(min(step, rows - start), columns, type, rng).data)
    partial.replace(path)


@click.command()
@click.argument("model", type=click.Choice(list(MODELS)))
@click.argument("type", type=click.Choice(list(TYPES)))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--words", is_flag=True, help="With a vocabulary of made-up words.")
def main(model: str, type: str, out: Path | None, words: bool) -> None:
    """Write MODEL with random weights of TYPE to OUT.

    OUT is benchmarks/models/MODEL-TYPE.gguf if it is not given.
    """
    path = out or Path(__file__).parent / "models" / f"{model}-{type}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(MODELS[model], TYPES[type], path, words)
    click.echo(path)


if __name__ == "__main__":
    main()
