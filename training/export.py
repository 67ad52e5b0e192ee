"""Write a trained checkpoint as GGUF (Q8_0 matrices, the rest F32) with its training record.

``python -m training.export --texts ../shared/data/text`` writes into the package.
"""

import argparse
import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import gguf
import numpy as np
import sentencepiece as spm
import torch
from gguf import GGMLQuantizationType, LlamaFileType, TokenType

from training.data import BATCH_TOKENS, CURRICULUM, SOURCES, TRAINED_LENGTH, Diet
from training.evaluate import (
    bigram_loss,
    held_out_loss,
    pass_key_accuracy,
    recall_accuracy,
    story,
)
from training.models import MODELS
from training.texts import Text, read_texts
from training.train import PEAK_RATE
from training.vocabulary import load_vocabulary

PROMPTS = ("Once upon a time", "One day, a little girl named Lily", "The old man said")
LICENSE_NOTE = (
    "Weights by the Motet project, Apache-2.0. Trained on public-domain books, tinyshakespeare "
    "and a sample of TinyStories (CDLA-Sharing-1.0), from random initial weights."
)

# Stored in F32 whatever their shape: they are small, and every token's path hangs on them.
KEPT = (
    "ssm_a",
    "ssm_conv1d.weight",
    "ffn_gate_inp.weight",
    "position_embd.weight",
    "token_types.weight",
    "attn_rel_b.weight",
)
Q8_BLOCK = 32


class Exported(Protocol):
    """What goes into a file beside the vocabulary."""

    architecture: str

    def add_metadata(self, writer: gguf.GGUFWriter) -> None: ...
    def named_weights(self) -> dict[str, torch.Tensor]: ...


def quantize(model: Exported) -> dict[str, np.ndarray]:
    """The tensors to store; each matrix of ``model`` is set to what its Q8_0 blocks stand for.

    Vectors, the tensors of KEPT and matrices whose rows are no whole blocks stay as they are.
    """
    tensors = {}
    for name, weight in model.named_weights().items():
        values = weight.detach().numpy()
        if values.ndim == 1 or name.endswith(KEPT) or values.shape[-1] % Q8_BLOCK:
            tensors[name] = values
            continue
        tensors[name] = gguf.quants.quantize(values, GGMLQuantizationType.Q8_0)
        stored = gguf.quants.dequantize(tensors[name], GGMLQuantizationType.Q8_0)
        weight.data.copy_(torch.from_numpy(stored))
    return tensors


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: spm.SentencePieceProcessor) -> None:
    """The SentencePiece pieces as GGUF's ``llama`` tokenizer."""
    ids = range(vocabulary.vocab_size())

    def token_type(i: int) -> TokenType:
        if vocabulary.is_unknown(i):
            return TokenType.UNKNOWN
        if vocabulary.is_control(i):
            return TokenType.CONTROL
        return TokenType.BYTE if vocabulary.is_byte(i) else TokenType.NORMAL

    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([vocabulary.id_to_piece(i) for i in ids])
    writer.add_token_scores([vocabulary.get_score(i) for i in ids])
    writer.add_token_types([token_type(i) for i in ids])
    writer.add_unk_token_id(vocabulary.unk_id())
    writer.add_bos_token_id(vocabulary.bos_id())
    writer.add_eos_token_id(vocabulary.eos_id())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)


def write_gguf(
    path: Path, name: str, model: Exported, vocabulary: spm.SentencePieceProcessor
) -> None:
    """Write a model whose vocabulary is GGUF's ``llama``; see ``write_model``."""
    write_model(path, name, model, lambda writer: add_vocabulary(writer, vocabulary))


def write_model(
    path: Path, name: str, model: Exported, add_pieces: Callable[[gguf.GGUFWriter], None]
) -> None:
    """Write the model; its matrices are rounded to Q8_0 in place, so that it equals the file."""
    tensors = quantize(model)
    writer = gguf.GGUFWriter(path, model.architecture)
    writer.add_name(name)
    writer.add_license("apache-2.0")
    writer.add_description(LICENSE_NOTE)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    model.add_metadata(writer)
    add_pieces(writer)
    for tensor, values in tensors.items():
        raw = GGMLQuantizationType.Q8_0 if values.dtype == np.uint8 else None
        writer.add_tensor(tensor, values, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_record(
    path: Path,
    checkpoint: dict,
    model: torch.nn.Module,
    vocabulary: spm.SentencePieceProcessor,
    texts: list[Text],
) -> dict:
    """How the model came about and what it can do, measured on the weights as stored."""
    diet = Diet(texts, vocabulary, checkpoint["seed"])
    last = checkpoint["log"][-1]
    lengths = [48, 64, 96, 128, 192, TRAINED_LENGTH]
    return {
        "name": checkpoint["name"],
        "file": {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "license": LICENSE_NOTE,
        "data": [
            {
                "file": text.name,
                "bytes": text.size,
                "sha256": text.sha256,
                "share": SOURCES[text.name],
                "train_tokens": len(diet.train[text.name].tokens),
                "held_out_tokens": len(diet.held_out[text.name].tokens),
            }
            for text in texts
        ],
        "curriculum": [asdict(phase) for phase in CURRICULUM],
        "training": {
            "seed": checkpoint["seed"],
            "steps": last["step"],
            "steps_planned": checkpoint["steps"],
            "tokens_per_step": BATCH_TOKENS,
            "optimizer": f"AdamW, peak rate {PEAK_RATE}, warm-up and cosine; bfloat16 autocast",
            "wall_seconds": last["seconds"],
            "cpu_seconds": last["cpu_seconds"],
            "threads": 1,
            "log": checkpoint["log"],
        },
        "held_out_loss": held_out_loss(model, diet, rows=64),
        "bigram_loss": bigram_loss(diet, rows=64),
        "pass_key_accuracy": pass_key_accuracy(model, diet, lengths, rows=100),
        "recall_accuracy": recall_accuracy(model, diet, [64, 128, TRAINED_LENGTH]),
        "greedy": {p: story(model, vocabulary, p, TRAINED_LENGTH) for p in PROMPTS},
        "sampled_at_0.7": {
            p: story(model, vocabulary, p, TRAINED_LENGTH, temperature=0.7) for p in PROMPTS
        },
        "tokenized": {p: vocabulary.encode(p) for p in (*PROMPTS, "Key 58219.\nIt’s done.")},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "sentencepiece": spm.__version__,
    }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="motet-tiny", choices=MODELS)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=Path("build/training"))
    parser.add_argument("--out", type=Path, default=Path("src/motet/data"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = torch.load(options.run / f"{options.model}.pt", weights_only=True)
    vocabulary = load_vocabulary(options.run / "vocabulary.model")
    model = MODELS[checkpoint["name"]](vocabulary.vocab_size())
    model.load_state_dict(checkpoint["model"])
    model.eval()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{checkpoint['name']}.gguf"
    write_gguf(path, checkpoint["name"], model, vocabulary)
    record = make_record(path, checkpoint, model, vocabulary, read_texts(options.texts))
    path.with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
