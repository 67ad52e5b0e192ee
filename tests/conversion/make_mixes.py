"""Ask llama-quantize which types it gives tensors, and keep the answers in ``mixes.json``.

    python -m tests.conversion.make_mixes PATH/TO/llama-quantize

The models have no weights: their files are holes of the right size.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import gguf
import numpy as np

from motet.conversion.importance import Entry, ImportanceMatrix
from motet.conversion.mixes import MIXES
from tests.conversion.families import IMPORTANT, MIXES_WISHED, OPTIONS, WISHING, models, spelled
from tests.models import tiny

FILE = Path(__file__).with_name("mixes.json")
_LINE = re.compile(r"\] (\S+) +- \[.*?\], type = +(\w+), size = .*?(?:\((\w+)\))?$", re.MULTILINE)


def hollow(path: Path, keys: dict, shapes: dict[str, tuple[int, ...]]) -> Path:
    """A GGUF file of F32 tensors that takes no room."""
    writer = gguf.GGUFWriter(path, keys["general.architecture"])
    tiny.add_keys(writer, keys)
    size = 0
    for name, shape in shapes.items():
        nbytes = 4 * int(np.prod(shape))
        writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes)
        size += -(-nbytes // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    header = -(-path.stat().st_size // 32) * 32
    with path.open("r+b") as file:
        file.truncate(header + size)
    return path


def asked(program: str, path: Path, mix: str, *options: str) -> dict[str, str]:
    """The type of each tensor, by its name."""
    command = [program, "--dry-run", *options, str(path), mix]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found = _LINE.findall(answer.stdout + answer.stderr)
    return {name: (after or before).upper() for name, before, after in found}


def matrix(path: Path) -> str:
    """An importance matrix of one tensor."""
    entry = Entry(np.ones((1, 256), np.float32), np.array([512]))
    made = ImportanceMatrix({"blk.0.ffn_up.weight": entry}, ("text",), 1, 512)
    made.write(path, overwrite=True)
    return str(path)


def main(program: str) -> None:
    table: dict[str, dict[str, str]] = {}
    wished: dict[str, dict[str, dict[str, str]]] = {}
    with TemporaryDirectory() as folder:
        for name, keys, shapes in models():
            path = hollow(Path(folder) / "model.gguf", keys, shapes)
            table[name] = {}
            for mix in MIXES:
                types = asked(program, path, mix)
                assert types.keys() == shapes.keys(), (name, mix)
                table[name][mix] = spelled(types)
            if name in WISHING:
                options = {each: command for each, (command, _) in OPTIONS.items()}
                options[IMPORTANT] = ["--imatrix", matrix(Path(folder) / "imatrix.gguf")]
                wished[name] = {
                    each: {
                        mix: spelled(asked(program, path, mix, *command)) for mix in MIXES_WISHED
                    }
                    for each, command in options.items()
                }
    FILE.write_text(json.dumps({"mixes": table, "wishes": wished}, indent=0) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
