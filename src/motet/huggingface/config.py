"""The keys of config.json: each is used, known to change nothing, or refused."""

import re
from collections.abc import Mapping
from typing import Any

from motet.errors import ModelFileError, UnsupportedError, shown

_HARMLESS = re.compile(
    r"_.*|architectures|model_type|torch_dtype|dtype|transformers_version|use_cache|auto_map"
    r"|.*initializer_.*|.*(dropout|_drop|pdrop).*|initializer|pretraining_tp|output_.*|return_dict.*"
    r"|chunk_size_feed_forward|problem_type|task_specific_params|tokenizer_class|torchscript"
    r"|(bos|eos|pad|sep|cls|mask|unk|decoder_start)_token_id|router_aux_loss_coef|router_jitter_noise"
    r"|(id2label|label2id|num_labels|finetuning_task)|gradient_checkpointing|is_decoder"
    r"|cross_attention_hidden_size|add_cross_attention|tie_encoder_decoder|tie_word_embeddings"
    r"|(max|min)_length|do_sample|early_stopping|num_(beams|beam_groups|return_sequences)"
    r"|temperature|top_[kp]|typical_p|.*_penalty|.*no_repeat_ngram_size|.*suppress_tokens"
    r"|bad_words_ids|forced_[be]os_token_id|remove_invalid_values|prefix|use_bfloat16"
    r"|is_encoder_decoder|tf_legacy_loss|xla_device|transformers\.js_config|is_llama_config"
    r"|language|license|name_or_path|unsloth_.*|use_flash_attn.*|attn_implementation|vocab_size"
)
"""Training, caching, sampling, the tokenizer, what other readers of the file need; ``auto_map``
names code that is never run. Whether the head is tied shows in the tensors."""
_MISSING = object()
_NOTHING: tuple[Any, ...] = (None, {}, [])
_LISTED = 6
_MOST = 3.4028234663852886e38
"""float32's greatest number."""


class ConfigReader:
    """Reads keys, by the first of several names that the file has; None counts as not there.

    Errors name the key and the file.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = dict(values)
        self._read: set[str] = set()
        self.where = where

    def assume(self, **values: Any) -> None:
        """What keys mean where the file does not have them; None in the file stays None."""
        self.values = values | self.values

    def has(self, *names: str) -> bool:
        """Whether one of the keys has a value. It does not count as read."""
        return any(self.values.get(name) is not None for name in names)

    def value(self, *names: str, default: Any = _MISSING) -> Any:
        """Whatever a key holds. Raises ModelFileError if it is missing and has no default."""
        self._read.update(names)
        for name in names:
            if self.values.get(name) is not None:
                return self.values[name]
        if default is _MISSING:
            raise ModelFileError(
                f"{self.where}: {' or '.join(names)} is missing",
                hint="it is incomplete, or of another kind of model than it says",
            )
        return default

    def integer(self, *names: str, default: Any = _MISSING) -> Any:
        """A whole number from 0 on."""
        value = self.value(*names, default=default)
        if value is not default and (type(value) is not int or not 0 <= value < 1 << 31):
            raise self.wrong(names, value, "a whole number")
        return value

    def number(self, *names: str, default: Any = _MISSING) -> Any:
        """A number that float32 can hold."""
        value = self.value(*names, default=default)
        if value is not default and not (type(value) in (int, float) and -_MOST <= value <= _MOST):
            raise self.wrong(names, value, "a number")
        return float(value) if type(value) is int and value is not default else value

    def flag(self, *names: str, default: bool) -> bool:
        """True or false."""
        value = self.value(*names, default=default)
        if not isinstance(value, bool):
            raise self.wrong(names, value, "true or false")
        return value

    def text(self, *names: str, default: Any = _MISSING) -> Any:
        """A string."""
        value = self.value(*names, default=default)
        if value is not default and not isinstance(value, str):
            raise self.wrong(names, value, "a name")
        return value

    def texts(self, *names: str, default: Any = _MISSING) -> Any:
        """A list of strings."""
        value = self.value(*names, default=default)
        if value is not default and not (
            isinstance(value, list) and all(isinstance(item, str) for item in value)
        ):
            raise self.wrong(names, value, "a list of names")
        return value

    def integers(self, name: str, count: int) -> list[int]:
        """So many whole numbers from 0 on."""
        value = self.value(name)
        if not (isinstance(value, list) and len(value) == count) or any(
            type(item) is not int or not 0 <= item < 1 << 31 for item in value
        ):
            raise self.wrong((name,), value, f"{count} whole numbers")
        return value

    def numbers(self, name: str, count: int) -> list[float]:
        """So many numbers that float32 can hold."""
        value = self.value(name)
        if not (isinstance(value, list) and len(value) == count) or any(
            type(item) not in (int, float) or not -_MOST <= item <= _MOST for item in value
        ):
            raise self.wrong((name,), value, f"{count} numbers")
        return [float(item) for item in value]

    def part(self, name: str) -> "ConfigReader":
        """An object within the file; empty where it is not there."""
        value = self.value(name, default={})
        if not isinstance(value, dict):
            raise self.wrong((name,), value, "an object")
        return ConfigReader(value, f"{self.where}: {name}")

    def ignore(self, *names: str) -> None:
        """These change nothing here."""
        self._read.update(names)

    def only(self, name: str, accepted: Any, meaning: str) -> None:
        """Refuse any other value than the one that Motet does. ``meaning``: of the others."""
        value = self.value(name, default=accepted)
        if value != accepted and value not in _NOTHING:
            raise UnsupportedError(
                f"{self.where}: {name} is {shown(value)}: {meaning}",
                hint=f"Motet runs such models where it is {shown(accepted)}",
            )

    def refuse_unread(self) -> None:
        """Raise UnsupportedError if the file has keys that nothing has asked for."""
        unread = sorted(
            name
            for name, value in self.values.items()
            if value not in _NOTHING and name not in self._read and not _HARMLESS.fullmatch(name)
        )
        if unread:
            listed = ", ".join(f"{_short(k)} = {shown(self.values[k])}" for k in unread[:_LISTED])
            more = len(unread) - _LISTED
            listed += f" and {more} more" if more > 0 else ""
            raise UnsupportedError(
                f"{self.where}: has keys that Motet does not know for this kind of model: {listed}",
                hint="they may change the arithmetic, so the model is not run without them",
            )

    def wrong(self, names: tuple[str, ...], value: object, wanted: str) -> ModelFileError:
        """The error for a value that cannot be right."""
        name = next((n for n in names if self.values.get(n) is not None), names[0])
        return ModelFileError(f"{self.where}: {name} is {shown(value)}, not {wanted}")


def _short(key: str) -> str:
    return key if key.isidentifier() and len(key) < 80 else shown(key)
