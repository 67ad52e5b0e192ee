"""What rounding activations to BF16 costs: logits and perplexity of BF16 weights, beside llama.cpp.

    python benchmarks/bf16_error.py MODEL.gguf… --text TEXT [--peer-python PYTHON] [--chunks N]
        [--ctx 512]

Each MODEL (of F32) is written twice: its matrices as BF16, and the same numbers as F32, whose
logits are the exact ones. Printed are the mean and largest |Δ logit| of the BF16 file from the F32
one, of Motet and of llama.cpp, over chunks of CTX tokens of TEXT; and both files' perplexities.
Q8_0, from the BF16 file, is there to compare with. Keys and values are F32 throughout.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np


def copies(model: Path, folder: Path) -> dict[str, Path]:
    """The model with its matrices as BF16, as the same numbers in F32, and as Q8_0 of them."""
    reader = gguf.GGUFReader(model)
    types = gguf.GGMLQuantizationType
    paths = {name: folder / f"{model.stem}-{name}.gguf" for name in ("F32", "BF16", "Q8_0")}
    architecture = str(reader.fields["general.architecture"].contents())
    for name, path in paths.items():
        writer = gguf.GGUFWriter(path, architecture)
        for key, field in reader.fields.items():
            if not key.startswith("GGUF.") and key != "general.architecture":
                item = field.types[1] if len(field.types) > 1 else None
                writer.add_key_value(key, field.contents(), field.types[0], item)
        for tensor in reader.tensors:
            data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            data = data.reshape([int(n) for n in reversed(tensor.shape)])
            if data.ndim < 2:
                writer.add_tensor(tensor.name, data)
                continue
            rounded = gguf.quants.quantize(data, types.BF16)
            widened = gguf.quants.dequantize(rounded, types.BF16)
            fits = tensor.shape[0] % 32 == 0
            wanted = types[name] if name != "Q8_0" or fits else types.BF16
            stored = widened if name == "F32" else gguf.quants.quantize(widened, wanted)
            writer.add_tensor(tensor.name, stored, raw_dtype=None if name == "F32" else wanted)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


def motet_logits(path: Path, chunks: list[list[int]]) -> Iterator[np.ndarray]:
    import motet

    context = motet.Model.load(path).context(kv_type="f32", max_tokens=len(chunks[0]))
    for chunk in chunks:
        context.memory.clear()
        batch = motet.Batch()
        batch.extend(chunk, 0, logits="all")
        yield context.decode(batch).logits.copy()


def tokens_of(path: Path, text: str, count: int, ctx: int) -> list[list[int]]:
    """Chunks of ``ctx`` tokens, each begun with the vocabulary's BOS."""
    import motet

    tokenizer = motet.Model.load(path).tokenizer
    first = tokenizer.encode("", add_special=True)[:1]
    tokens = tokenizer.encode(text, add_special=False)
    size = ctx - len(first)
    return [first + tokens[i * size : (i + 1) * size] for i in range(len(tokens) // size)][:count]


def perplexity(logits: list[np.ndarray], chunks: list[list[int]]) -> float:
    """Of the second half of each chunk."""
    half, costs = len(chunks[0]) // 2, []
    for rows, chunk in zip(logits, chunks, strict=True):
        x = rows[half:-1].astype(np.float64)
        x -= x.max(axis=1, keepdims=True)
        picked = x[np.arange(len(x)), chunk[half + 1 :]]
        costs.append(np.mean(np.log(np.exp(x).sum(axis=1)) - picked))
    return float(np.exp(np.mean(costs)))


def peer_logits(path: str, chunks_file: str, out: str) -> None:
    """Run by a Python with llama-cpp-python: the logits of chunks, saved as an array."""
    import llama_cpp as cpp

    chunks = json.loads(Path(chunks_file).read_text())
    cpp.llama_backend_init()
    model = cpp.llama_model_load_from_file(path.encode(), cpp.llama_model_default_params())
    params = cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = len(chunks[0])
    params.type_k = params.type_v = cpp.GGML_TYPE_F32
    params.flash_attn_type = cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = cpp.llama_init_from_model(model, params)
    n_vocab = cpp.llama_vocab_n_tokens(cpp.llama_model_get_vocab(model))
    found = []
    for chunk in chunks:
        batch = cpp.llama_batch_init(len(chunk), 0, 1)
        batch.n_tokens = len(chunk)
        for i, token in enumerate(chunk):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, True
            batch.seq_id[i][0] = 0
        cpp.llama_memory_clear(cpp.llama_get_memory(context), True)
        if cpp.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        rows = np.ctypeslib.as_array(cpp.llama_get_logits(context), (len(chunk), n_vocab))
        found.append(rows.copy())
        cpp.llama_batch_free(batch)
    np.save(out, np.stack(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        return peer_logits(*options.peer)
    print("| Model | Engine | Type | mean Δ | greatest Δ | perplexity |\n|---|---|---|---|---|---|")
    for model in options.models:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            paths = copies(model, folder)
            chunks = tokens_of(paths["F32"], options.text.read_text(), options.chunks, options.ctx)
            (folder / "chunks.json").write_text(json.dumps(chunks))
            exact: list[np.ndarray] = []
            for engine in ("Motet", "llama.cpp"):
                for type, path in paths.items():
                    if engine == "Motet":
                        logits = list(motet_logits(path, chunks))
                    else:
                        out = folder / "logits.npy"
                        command = [options.peer_python, __file__, "x", "--text", "x", "--peer"]
                        command += [str(path), str(folder / "chunks.json"), str(out)]
                        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
                        logits = list(np.load(out))
                    exact = exact or logits
                    apart = np.abs(np.stack(logits) - np.stack(exact))
                    print(
                        f"| {model.stem} | {engine} | {type} | {apart.mean():.6f} | "
                        f"{apart.max():.5f} | {perplexity(logits, chunks):.5f} |",
                        flush=True,
                    )
    return None


if __name__ == "__main__":
    main()
