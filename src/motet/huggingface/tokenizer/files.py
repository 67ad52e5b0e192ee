"""The files of a directory that say something about its tokenizer, each read once."""

from typing import Any

from motet.errors import TokenizerError, shown
from motet.huggingface.files import Directory

FAST = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL_MAP = "special_tokens_map.json"
MODEL_CONFIG = "config.json"
GENERATION = "generation_config.json"


class TokenizerFiles:
    """Checked access to them. A file that is not there is empty."""

    def __init__(self, files: Directory) -> None:
        self.directory = files
        self._read: dict[str, dict[str, Any]] = {}

    def has(self, name: str) -> bool:
        return self.directory.has(name)

    def json(self, name: str) -> dict[str, Any]:
        if name not in self._read:
            self._read[name] = self.directory.json_if_there(name)
        return self._read[name]

    def where(self, name: str) -> str:
        return f"{self.directory.path}/{name}"

    def table(self, name: str, key: str) -> dict[str, Any]:
        """An object under ``key``; empty where there is none."""
        return self._kind(name, key, dict, "an object") or {}

    def listed(self, name: str, key: str) -> list[Any]:
        """A list under ``key``; empty where there is none."""
        return self._kind(name, key, list, "a list") or []

    def flag(self, name: str, key: str) -> bool | None:
        """True or false; None where the file does not say."""
        return self._kind(name, key, bool, "true or false")

    def error(self, name: str, problem: str) -> TokenizerError:
        return TokenizerError(f"{self.where(name)} {problem}", hint="fetch the directory again")

    def _kind(self, name: str, key: str, kind: type, meant: str) -> Any:
        value = self.json(name).get(key)
        if value is not None and not isinstance(value, kind):
            raise self.error(name, f"has {key} {shown(value)}, must be {meant}")
        return value


def token_text(value: Any) -> str | None:
    """How a special token is named: by its text, or by an object with ``content``."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None
