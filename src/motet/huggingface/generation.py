"""generation_config.json: how to sample, as GGUF's keys."""

import math

from motet.huggingface.files import Directory
from motet.weights.source import MetadataValue

GENERATION = "generation_config.json"
_KEYS = {
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "temperature": "temp",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "penalty_last_n": "penalty_last_n",
    "penalty_repeat": "penalty_repeat",
    "repetition_penalty": "penalty_repeat",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}
"""What llama.cpp's converter takes over, with transformers' name of the penalty beside its own; and
what it is called in ``general.sampling``."""
_WHOLE = ("top_k", "penalty_last_n", "mirostat")


def sampling(files: Directory) -> dict[str, MetadataValue]:
    """``general.sampling.*``: numbers that the file gives; others are not understood.

    ``do_sample`` false is greedy.

    Raises ModelFileError for a file that is no JSON object, or leads outside the directory.
    """
    given = files.json_if_there(GENERATION)
    numbers = {name: _number(given.get(name), key in _WHOLE) for name, key in _KEYS.items()}
    said = {_KEYS[name]: number for name, number in numbers.items() if number is not None}
    if given.get("do_sample") is False:
        said["temp"] = 0.0
    return {f"general.sampling.{key}": value for key, value in said.items()}


def _number(value: object, whole: bool) -> int | float | None:
    if type(value) is int and -(1 << 31) <= value < 1 << 31:
        return value if whole else float(value)
    return value if not whole and type(value) is float and math.isfinite(value) else None
