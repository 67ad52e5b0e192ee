"""Compare directories with what llama.cpp's converter makes of them: keys and tensors.

usage: python -m tests.huggingface.compare_converter CONVERTER [NAME ...]

CONVERTER is llama.cpp's convert_hf_to_gguf.py, run by the Python that this runs in, which needs
torch and transformers. Vocabularies are left out. Directories are those of the golden models in
../shared, and random models that transformers saves. Every difference is printed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from motet.huggingface import HuggingFaceDirectory
from motet.weights.formats import dequantize
from motet.weights.gguf import GGUFFile
from motet.weights.source import ModelSource
from tests.huggingface import test_deepseek_t5, test_families, test_live, test_recurrent_families
from tests.parity import oracle, oracle_recurrent, oracle_rwkv6, test_t5

_RUN = """
import json, runpy, sys
converter, folders = sys.argv[1], sys.argv[2:]
sys.path.insert(0, converter.rpartition("/")[0])
from conversion import base, bert, gemma, gpt2, llama, mpt, openelm, qwen, starcoder
from conversion import deepseek, jamba, mamba, rwkv, t5
def silence(kind):
    if "set_vocab" in vars(kind):
        kind.set_vocab = lambda self: self._set_vocab_none()
    for sub in kind.__subclasses__():
        silence(sub)
silence(base.TextModel)
for folder in folders:
    sys.argv = [converter, folder, "--outfile", folder + ".gguf", "--outtype", "f32"]
    try:
        runpy.run_path(converter, run_name="__main__")
    except BaseException as error:
        open(folder + ".error", "w").write(f"{type(error).__name__}: {error}")
"""
"""The converter without vocabularies, of which it knows only published ones."""
_WRITTEN_LATER = ("general.", "tokenizer.", "GGUF.", "split.")


def directories(folder: Path) -> dict[str, Callable[[], Path]]:
    """What makes each directory, by its name."""

    def decoder(name: str) -> Any:
        config = oracle.CASES[name]()
        return test_live.filled(test_live.transformers.AutoModelForCausalLM.from_config(config))

    def saved(make: Callable[[], Any]) -> Path:
        path, model = Path(tempfile.mkdtemp(dir=folder)), make().bfloat16()
        model.save_pretrained(path)
        # Their Gemma 3 has as many rows as there are tokens.
        words = {str(i): i for i in range(model.config.get_text_config().vocab_size)}
        tokenizer = {"model": {"vocab": words, "type": "WordPiece"}, "added_tokens": []}
        (path / "tokenizer.json").write_text(json.dumps(tokenizer))
        return path

    def deepseek(name: str) -> Path:
        path = Path(tempfile.mkdtemp(dir=folder))
        test_deepseek_t5.saved_deepseek(name, path)
        return path

    made: dict[str, Callable[[], Path]] = {}
    if test_families.PARITY.is_dir():
        for name in (*test_families.GIVEN, *test_families.WRITTEN, *test_families.INVERTED):
            made[f"golden {name}"] = partial(test_families.directory, name, folder / name)
    for name in test_live.DECODERS:
        made[f"live {name}"] = partial(saved, partial(decoder, name))
    for name in oracle_recurrent.CASES:
        made[f"live {name}"] = partial(saved, partial(decoder, name))
    for name in test_deepseek_t5.DEEPSEEK:
        made[f"live deepseek {name}"] = partial(deepseek, name)
    for name in test_t5.CASES:
        made[f"live {name}"] = partial(saved, partial(test_t5.random_model, name))
    for name in oracle_rwkv6.CASES:
        made[f"random {name}"] = partial(test_recurrent_families.rwkv6, name, folder / name)
    for kind, models in (("encoder", test_live.ENCODERS), ("classifier", test_live.CLASSIFIERS)):
        for name, make in models.items():
            made[f"{kind} {name}"] = partial(saved, make)
    return made


def _known(folder: Path, copy: Path) -> Path:
    """A copy with the names and the keys that the converter needs, of which Motet needs none."""
    shutil.copytree(folder, copy)
    path = copy / "config.json"
    config = json.loads(path.read_text())
    names = {"MptForCausalLM": "MPTForCausalLM", "RobertaForMaskedLM": "RobertaModel"}
    config["architectures"] = [names.get(name, name) for name in config["architectures"]]
    if config["model_type"] == "gpt2":
        config["n_ctx"] = config["n_positions"]
    if config["model_type"] == "nomic_bert":
        config |= {"n_positions": 8192, "activation_function": "swiglu", "causal": False}
        config |= dict.fromkeys(("qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "prenorm"), False)
        config |= {"rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False}
        config["rotary_emb_scale_base"] = None
        (copy / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}')
    path.write_text(json.dumps(config))
    return copy


def differences(ours: ModelSource, theirs: ModelSource) -> list[str]:
    """In words, of keys and of the values of tensors."""
    found = []
    if ours.architecture != theirs.architecture:
        return [f"architecture {ours.architecture}, theirs {theirs.architecture}"]
    for key in sorted(ours.metadata.keys() | theirs.metadata.keys()):
        a, b = ours.metadata.get(key, "-"), theirs.metadata.get(key, "-")
        if a != b and not key.startswith(_WRITTEN_LATER):
            found.append(f"key {key}: {a}, theirs {b}")
    for name in sorted(ours.tensors.keys() | theirs.tensors.keys()):
        a, b = _values(ours, name), _values(theirs, name)
        if a is None or b is None:
            found.append(f"tensor {name}: only {'theirs' if a is None else 'ours'}")
        elif a.shape != b.shape:
            found.append(f"tensor {name}: {a.shape}, theirs {b.shape}")
        elif a.tobytes() != b.tobytes():
            share, most = np.mean(a != b), np.abs(a - b).max()
            found.append(f"tensor {name}: {share:.1%} of its values differ, by up to {most:g}")
    return found


def _values(source: ModelSource, name: str) -> np.ndarray | None:
    info = source.tensors.get(name)
    return info and dequantize(source.raw(name), info.type).reshape(info.shape)


def main() -> None:
    """Compare those that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("converter", type=Path)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folders = {}
        for name, make in directories(Path(temporary)).items():
            if not given.names or any(part in name for part in given.names):
                folders[name] = _known(make(), Path(temporary, name.replace(" ", "-")))
        listed = map(str, folders.values())
        run = [sys.executable, "-c", _RUN, str(given.converter.resolve()), *listed]
        subprocess.run(run, cwd=given.converter.parent, capture_output=True)
        for name, folder in folders.items():
            error, file = folder.with_name(folder.name + ".error"), f"{folder}.gguf"
            if error.exists() or not Path(file).exists():
                said = error.read_text() if error.exists() else "nothing"
                print(f"{name}: their converter says {said}")
                continue
            with HuggingFaceDirectory.open(folder) as ours, GGUFFile.open(file) as theirs:
                found = differences(ours, theirs)
            print("\n  ".join([f"{name}: {'' if found else 'the same'}", *found]))


if __name__ == "__main__":
    main()
