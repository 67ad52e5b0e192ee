"""Have llama-quantize make files of random models, and keep digests of their tensors.

python -m tests.conversion.make_digests PATH/TO/llama-quantize
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.conversion.families import digest, random_models

FILE = Path(__file__).with_name("digests.json")
TYPES = ("F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "MXFP4_MOE", "TQ1_0", "TQ2_0")


def main(program: str) -> None:
    digests: dict[str, dict[str, str]] = {}
    with TemporaryDirectory() as folder:
        out = Path(folder) / "out.gguf"
        for name, path in random_models(Path(folder)):
            for type in TYPES:
                command = [program, "--pure", str(path), str(out), type]
                subprocess.run(command, check=True, capture_output=True)
                digests.setdefault(name, {})[type] = digest(out)
    FILE.write_text(json.dumps(digests, indent=0) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
