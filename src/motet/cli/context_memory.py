"""How much memory a context takes, from a model file's metadata alone."""

from dataclasses import dataclass

from motet.errors import ModelFileError, UnsupportedError
from motet.kernels.paged import PAGE
from motet.memory.store import REWIND
from motet.weights.gguf import GGUFFile

_MAX_LAYERS = 1 << 12
_MAX_SIZE = 1 << 32

_PERIODS = {"gemma2": 2, "gemma3": 6}
"""Every how many layers one is global, where the file does not say."""
_WINDOWS = {"gemma2": 4096}


@dataclass(frozen=True)
class ContextMemory:
    """What one sequence of ``tokens`` tokens takes: ``total`` bytes.

    ``constant`` of them are recurrent states, which do not grow with the sequence; ``per_token``
    is what each further token adds once every sliding window is full. ``attending`` are the layers,
    from 0, that keep keys and values; ``sliding_layers`` of them keep only ``window`` tokens.
    """

    tokens: int
    kv_type: str
    total: int
    constant: int
    per_token: int
    attending: list[int]
    sliding_layers: int
    window: int


def context_memory(file: GGUFFile, tokens: int, kv_type: str) -> ContextMemory:
    """Keys, values and recurrent states of one sequence, in whole pages of ``PAGE`` tokens.

    Raises ModelFileError for metadata that contradicts itself, UnsupportedError for a model
    whose metadata does not say what its layers remember.
    """
    metadata = Metadata(file)
    if "attention.causal" in metadata and metadata.value("attention.causal") is False:
        return ContextMemory(tokens, kv_type, 0, 0, 0, [], 0, 0)
    if "decoder_block_count" in metadata:
        raise UnsupportedError("the memory of an encoder-decoder depends on both its texts")
    layers = metadata.integer("block_count", _MAX_LAYERS)
    heads = metadata.per_layer("attention.head_count", layers, 0)
    kv_heads = metadata.per_layer("attention.head_count_kv", layers, heads)
    window, slides = _sliding(metadata, layers)
    attending = [layer for layer in range(layers) if heads[layer] and kv_heads[layer]]
    constant = _state_bytes(metadata) * (layers - len(attending)) if len(attending) < layers else 0
    total = constant
    per_token = 0
    for layer in attending:
        token = kv_heads[layer] * _head_bytes(metadata, heads[layer], kv_type)
        total += token * _kept(tokens, window if slides[layer] else 0)
        per_token += 0 if slides[layer] else token
    return ContextMemory(
        tokens, kv_type, total, constant, per_token, attending, sum(slides), window
    )


class Metadata:
    """The architecture's own keys of a file, checked as they are read."""

    def __init__(self, file: GGUFFile) -> None:
        self.architecture = file.architecture
        self._file = file
        self._prefix = file.architecture + "."

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._file.metadata

    def value(self, name: str) -> object:
        """The value as it stands, None if there is none."""
        return self._file.metadata.get(self._prefix + name)

    def integer(self, name: str, most: int = _MAX_SIZE, default: int | None = None) -> int:
        """A number from 0 to ``most``. Without a default the key has to be there."""
        value = self.value(name)
        if value is None and default is not None:
            return default
        return self._checked(name, value, most)

    def per_layer(
        self, name: str, layers: int, default: int | list[int], kind: type = int
    ) -> list[int]:
        """A number, or a bool, a layer; files give one for all of them or a list."""
        value = self.value(name)
        if value is None:
            value = default
        if not isinstance(value, list):
            return [self._checked(name, value, _MAX_SIZE, kind)] * layers
        if len(value) < layers:
            raise self._wrong(name, f"has {len(value)} values for {layers} layers")
        return [self._checked(name, item, _MAX_SIZE, kind) for item in value[:layers]]

    def _checked(self, name: str, value: object, most: int, kind: type = int) -> int:
        if type(value) is not kind or not isinstance(value, int) or not 0 <= value <= most:
            shown = repr(value)[:40]
            wrong = "is missing" if value is None else f"is {shown}, not a number up to {most}"
            raise self._wrong(name, wrong)
        return value

    def _wrong(self, name: str, problem: str) -> ModelFileError:
        return ModelFileError(f"{self._file.path}: metadata key {self._prefix + name!r} {problem}")


def _sliding(metadata: Metadata, layers: int) -> tuple[int, list[bool]]:
    """The window in tokens, and which layers have it."""
    architecture = metadata.architecture
    window = metadata.integer("attention.sliding_window", default=_WINDOWS.get(architecture, 0))
    name = "attention.sliding_window_pattern"
    if not window:
        return 0, [False] * layers
    if isinstance(metadata.value(name), list):
        return window, [bool(flag) for flag in metadata.per_layer(name, layers, 0, bool)]
    period = metadata.integer(name, default=_PERIODS.get(architecture, 1))
    return window, [period == 0 or (i + 1) % period != 0 for i in range(layers)]


def _kept(tokens: int, window: int) -> int:
    """Tokens that a layer has room for once it has seen ``tokens``, in whole pages."""
    pages = -(-tokens // PAGE)
    if window:
        pages -= max(tokens - (window - 1 + REWIND), 0) // PAGE
    return pages * PAGE


def _head_bytes(metadata: Metadata, heads: int, kv_type: str) -> int:
    """Bytes of one token's key and value in one head."""
    width = metadata.integer("embedding_length") // heads
    key = metadata.integer("attention.key_length", default=width)
    value = metadata.integer("attention.value_length", default=width)
    if "attention.key_length_mla" in metadata:
        value = 0  # the compressed value is the first part of the compressed key
    if kv_type == "q8_0":
        return sum(n + 2 * -(-n // 32) for n in (key, value))
    return (key + value) * (4 if kv_type == "f32" else 2)


def _state_bytes(metadata: Metadata) -> int:
    """Bytes of one recurrent layer's state, in float32: Mamba 1 and 2, or RWKV."""
    if "ssm.state_size" in metadata:
        inner = metadata.integer("ssm.inner_size")
        state = metadata.integer("ssm.state_size")
        groups = metadata.integer("ssm.group_count", default=0)
        tail = max(metadata.integer("ssm.conv_kernel") - 1, 0)
        return 4 * (tail * (inner + 2 * groups * state) + inner * state)
    if "wkv.head_size" in metadata:
        width = metadata.integer("embedding_length")
        return 4 * width * (metadata.integer("wkv.head_size") + 2)
    raise UnsupportedError("the metadata does not say what this model's layers remember")
