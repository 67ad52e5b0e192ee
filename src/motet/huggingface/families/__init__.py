"""Which function says what a kind of model is in GGUF's terms."""

from collections.abc import Callable

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.llama import llama
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan

FAMILIES: dict[str, Callable[[ConfigReader, Directory], Plan]] = {
    "llama": llama,
    "mistral": llama,
    "mixtral": llama,
}
"""By ``model_type``."""


def plan_of(config: ConfigReader, files: Directory) -> Plan:
    """What the directory is in GGUF's terms.

    Every key of ``config`` has been found to be used or to change nothing. Raises UnsupportedError
    for a kind of model or a key that Motet does not know, ModelFileError for a wrong value.
    """
    kind = config.text("model_type")
    if kind not in FAMILIES:
        own_code = "; its auto_map names code of its own, which is never run"
        raise UnsupportedError(
            f"{config.where}: model_type is {shown(kind)}"
            + (own_code if config.has("auto_map") else ""),
            hint=f"Motet opens directories of {', '.join(FAMILIES)}",
        )
    plan = FAMILIES[kind](config, files)
    config.refuse_unread()
    return plan
