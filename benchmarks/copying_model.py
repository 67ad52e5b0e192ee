"""Write GGUF models of real shapes whose weights are built so that they copy, quote and edit.

    python -m benchmarks.copying_model qwen2-1.5b Q4_0 [OUT]

Speculation is worth what a model's own logits accept, so the model measured has to repeat texts by
itself. Nothing here is trained. Most weights are random at full cost, and write little; a few heads
are an induction circuit (Olsson et al. 2022, arXiv 2209.11895), made of what each position holds:

* ``TOKEN``: the token's code, 512 random signs, and ``ANSWER``, which the tied head reads;
* ``BEFORE``: the first 64 signs of the six tokens before it. Heads of layer 0 bring them: their
  constant queries and keys have phases that agree at one distance.
* Induction heads in four layers look for the position before which the last tokens stand, some of
  three and some of six, and vote for what stands there: each adds a part of its code to ``ANSWER``.
  Where fewer than two agree, attention goes to the first token, which says nothing.
* Edits: "X ARROW Y" in a prompt is a rule: heads of two later layers find the token voted for in
  front of an arrow, and put Y in its place. The next token finds its way back to the text.
* Quotes: after ``SUMMARISE`` a head that sees the distance to it raises ``OPEN`` every 54 tokens.
  After OPEN the induction heads see what follows an OPEN in the text, of several the one about
  1,900 tokens before, so that passages are quoted in their order; CLOSE turns copying off.
* Own words: an MLP near the end turns the last three tokens into random logits over the whole
  vocabulary, which are below those of a copy: a story that nothing repeats.

The base of the rotary embedding is 1e20, where Qwen 2 has 1e6: more channels without positions, for
codes to be compared in. Costs don't depend on it.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import click
import gguf
import numpy as np

from benchmarks.copying_circuit import BASE, CONSTANT, GROUP, NOISE, AttentionBuilder, Codes
from benchmarks.copying_jamba import JambaBuilder
from benchmarks.random_models import add_words
from benchmarks.shapes import MODELS, Attention, Mamba, stays_float32
from motet.arrays import Float32, UInt8
from motet.conversion.mixes import Wishes, assign, mix_of
from motet.conversion.retyped import Retyped
from motet.kernels import CPU
from motet.weights.formats import TensorType
from motet.weights.gguf_writer import write
from motet.weights.source import ModelSource, TensorInfo, ValueType

SHAPES: dict[str, Attention | Mamba] = {
    "qwen2-1.5b": replace(MODELS["qwen2-1.5b"], rope_base=BASE),  # pyright: ignore
    # Half a billion, as Qwen 2's smaller one, in the same width: the draft.
    "draft-0.5b": Attention("qwen2", 8, 1536, 4864, 12, 2, 128, 151936, 32768, 1e-6, BASE),
    # A small vocabulary and narrow MLPs, to try things with.
    # Jamba's pattern: attention in two of 16 layers.
    "jamba-0.8b": Mamba(
        *("jamba", 16, 1536, 65536, 1 << 18), heads=12, kv_heads=4, head_dim=128,
        feed_forward=6144, period=8, epsilon=1e-6,
    ),
    "tiny": Attention("qwen2", 8, 1536, 512, 12, 2, 128, 32768, 32768, 1e-6, BASE),
}  # fmt: skip


class Built(ModelSource):
    """The model in float32, made as it is read."""

    def __init__(self, shape: Attention | Mamba) -> None:
        self.path, self.format, self.files = "built", "built", 1
        writer = gguf.GGUFWriter(None, shape.architecture)
        shape.metadata(writer)
        add_words(writer, shape.vocabulary)
        self.metadata = {key: value.value for key, value in writer.kv_data[0].items()}
        self.metadata_types: Mapping[str, ValueType] = {}
        self.tensors = {
            name: TensorInfo(name, dims, TensorType.F32) for name, dims in shape.tensors()
        }
        self.nbytes = sum(info.nbytes for info in self.tensors.values())
        self._codes = Codes(shape.vocabulary)
        self._shape = shape
        if isinstance(shape, Attention):
            self._circuit = AttentionBuilder(shape, self._codes).circuit
        else:
            self._circuit = JambaBuilder(shape, self._codes).circuit
        self._kept: tuple[str, int, Float32] = ("", 0, np.empty(0, np.float32))

    def read_rows(self, name: str, first: int, last: int, buffer: UInt8 | None = None) -> UInt8:
        info = self.tensors[name]
        out = np.empty((last - first, info.columns), np.float32)
        for group in range(first // GROUP, -(-last // GROUP)):
            start = group * GROUP
            top, end = max(start, first), min(start + GROUP, last)
            out[top - first : end - first] = self._group(info, group)[top - start : end - start]
        raw = out.view(np.uint8)
        if buffer is None:
            return raw
        buffer[: raw.size] = raw.reshape(-1)
        return buffer[: raw.size].reshape(raw.shape)

    def _group(self, info: TensorInfo, group: int) -> Float32:
        if self._kept[:2] != (info.name, group):
            self._kept = info.name, group, self._made(info, group)
        return self._kept[2]

    def _made(self, info: TensorInfo, group: int) -> Float32:
        if info.name == "token_embd.weight":
            return self._codes.embeddings(group)
        start = group * GROUP
        count = min(GROUP, info.rows - start)
        rng = np.random.Generator(np.random.SFC64([crc32(info.name.encode()), group]))
        written = info.name.endswith(("attn_output.weight", "ffn_down.weight", "ssm_out.weight"))
        if info.name.endswith("norm.weight"):
            rows = np.ones((count, info.columns), np.float32)
        elif stays_float32(info.name, info.shape):
            whole = self._shape.plain(info.name, info.shape, rng)
            rows = whole.reshape(info.rows, info.columns)[start : start + count]
        else:
            rows = rng.standard_normal((count, info.columns), np.float32)
            rows *= info.columns**-0.5 * (NOISE if written else 1.0)
        if written:
            rows[max(CONSTANT.start - start, 0) :] = 0  # flags stay exact
        self._circuit.apply(info.name, start, rows)
        return rows

    def require_unchanged(self) -> None:
        pass

    def close(self) -> None:
        pass


def build(shape: Attention | Mamba, type: str, path: Path) -> None:
    """Write the model in one of Motet's mixtures, such as "Q4_K_M"."""
    source, mix = Built(shape), mix_of(type)
    types = assign(source.metadata, source.tensors, mix, Wishes(), important=False)
    metadata = {
        **source.metadata,
        "general.file_type": mix.file_type,
        "general.quantization_version": 2,
    }
    write(Retyped(source, types, CPU(), {}, metadata), path, overwrite=True)


@click.command()
@click.argument("shape", type=click.Choice(list(SHAPES)))
@click.argument("type")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path), required=False)
def main(shape: str, type: str, out: Path | None) -> None:
    """Write the model of SHAPE in TYPE (Q4_0, Q4_K_M, Q8_0, …) to OUT.

    OUT is benchmarks/models/copying-SHAPE-TYPE.gguf if it is not given.
    """
    path = out or Path(__file__).parent / "models" / f"copying-{shape}-{type.lower()}.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    build(SHAPES[shape], type, path)
    click.echo(path)


if __name__ == "__main__":
    main()
