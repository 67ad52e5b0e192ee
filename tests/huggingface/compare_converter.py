"""Compare directories with what llama.cpp's converter makes of them: keys and tensors.

usage: python -m tests.huggingface.compare_converter CONVERTER [NAME ...]

CONVERTER is llama.cpp's convert_hf_to_gguf.py, run by the Python that this runs in, which needs
torch and transformers. Vocabularies are left out. Directories are those of the golden models in
../shared, and random models that transformers saves. Every difference is printed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from motet.huggingface import HuggingFaceDirectory
from motet.weights.formats import dequantize
from motet.weights.gguf import GGUFFile
from motet.weights.source import ModelSource
from tests.huggingface import test_families, test_live
from tests.parity import oracle

_RUN = """
import runpy, sys
sys.path.insert(0, sys.argv[1].rpartition("/")[0])
from conversion import base, bert, gemma, gpt2, llama, mpt, openelm, qwen, starcoder
def silence(kind):
    if "set_vocab" in vars(kind):
        kind.set_vocab = lambda self: self._set_vocab_none()
    for sub in kind.__subclasses__():
        silence(sub)
silence(base.TextModel)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""The converter without vocabularies, of which it knows only published ones."""
_WRITTEN_LATER = ("general.", "tokenizer.", "GGUF.", "split.")


def directories(folder: Path) -> dict[str, Callable[[], Path]]:
    """What makes each directory, by its name."""

    def decoder(name: str) -> Any:
        config = oracle.CASES[name]()
        return test_live.filled(transformers.AutoModelForCausalLM.from_config(config))

    def saved(make: Callable[[], Any]) -> Path:
        path, model = Path(tempfile.mkdtemp(dir=folder)), make().bfloat16()
        model.save_pretrained(path)
        # Their Gemma 3 has as many rows as there are tokens.
        words = {str(i): i for i in range(model.config.get_text_config().vocab_size)}
        tokenizer = {"model": {"vocab": words}, "added_tokens": []}
        (path / "tokenizer.json").write_text(json.dumps(tokenizer))
        return path

    made: dict[str, Callable[[], Path]] = {}
    if test_families.PARITY.is_dir():
        for name in (*test_families.GIVEN, *test_families.WRITTEN, *test_families.INVERTED):
            made[f"golden {name}"] = partial(test_families.directory, name, folder / name)
    for name in test_live.DECODERS:
        made[f"live {name}"] = partial(saved, partial(decoder, name))
    for kind, models in (("encoder", test_live.ENCODERS), ("classifier", test_live.CLASSIFIERS)):
        for name, make in models.items():
            made[f"{kind} {name}"] = partial(saved, make)
    return made


def converted(converter: Path, folder: Path, out: Path) -> str | None:
    """Run it. None, or the last line of its error."""
    command = [sys.executable, "-c", _RUN, str(converter), str(folder), "--outfile", str(out)]
    run = subprocess.run(
        [*command, "--outtype", "f32"], capture_output=True, text=True, cwd=converter.parent
    )
    return None if out.exists() and not run.returncode else run.stderr.strip().splitlines()[-1]


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
        for name, make in directories(Path(temporary)).items():
            if given.names and not any(part in name for part in given.names):
                continue
            folder, out = make(), Path(temporary) / "theirs.gguf"
            out.unlink(missing_ok=True)
            error = converted(given.converter, folder, out)
            if error is not None:
                print(f"{name}: their converter says {error}")
                continue
            with HuggingFaceDirectory.open(folder) as ours, GGUFFile.open(out) as theirs:
                found = differences(ours, theirs)
            print(f"{name}: {'the same' if not found else ''}")
            for line in found:
                print(f"  {line}")


if __name__ == "__main__":
    main()
