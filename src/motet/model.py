"""Model: a file's weights, settings and tokenizer, ready to run."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from motet import checks
from motet.conversion.loading import LoraPair, LoraPath, prepared, read_adapters
from motet.errors import CapacityError, ModelFileError, MotetError, OptionError
from motet.kernels import CPU
from motet.kernels.interface import Kernels
from motet.machine import available_memory
from motet.models.config import Config
from motet.models.packed import TensorMapper
from motet.models.registry import declared
from motet.models.tensors import EMBEDDING, OUTPUT, POSITIONS, TensorLoader, only_f32, packed_bytes
from motet.opening import open_model
from motet.packed import PackedFile
from motet.packing.cache import PACKED_CACHE_BYTES, PackedCache, drop, open_entry
from motet.weights.fingerprint import Fingerprint, fingerprint_of
from motet.weights.source import ModelSource

if TYPE_CHECKING:
    from motet.context import Context
    from motet.self_extend import AutoExtend, SelfExtend

_EXPERTS = "_exps.weight"
_ENCODED = re.compile(r"^enc\.|\.cross_attn_[kv]\.")


class Model:
    """A loaded model. It does not change, and any number of contexts and threads may share it.

    ``config``: sizes and settings, frozen. ``tokenizer``: None where the file has no vocabulary.
    ``family``: its ``forward`` runs the layers; ``caches`` are those that each of them has.
    ``default_kv_type``: what "auto" stores keys and values as. ``bytes_per_token``: packed weights
    that the computation of one token reads; ``nbytes``: all of them. ``parameters``: numbers in
    the file's tensors. ``file``: what else is in the file, under GGUF's names; it is closed.
    """

    def __init__(
        self,
        file: ModelSource,
        kernels: Kernels,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Of an open file, on the given kernels; see ``load``. The file is not read any more."""
        declaration = declared(file)
        self.config: Config = declaration.config
        tensors: TensorLoader | TensorMapper
        if isinstance(file, PackedFile):
            tensors = TensorMapper(file, kernels)
            checking = file.checking(kernels.threads)
        else:
            _require_memory(packed_bytes(file, kernels))
            tensors = TensorLoader(file, kernels, progress)
            checking = nullcontext()
        with checking:
            self.tokenizer = _tokenizer(file, self.config.n_vocab)
            self.family = type(declaration)(self.config, tensors, kernels)
        self.bytes_per_token = _read_per_token(tensors.nbytes, self.config)
        self.nbytes = sum(tensors.nbytes.values())
        self.parameters = sum(math.prod(info.shape) for info in file.tensors.values())
        self.kernels = kernels
        self.caches = self.family.caches
        self.default_kv_type = "f32" if only_f32(file) else "f16"
        self.file = file
        file.require_unchanged()
        self._digests = tensors.digests
        self._fingerprint: Fingerprint | None = None

    @classmethod
    @checks.named
    def load(
        cls,
        path: "str | PathLike[str]",
        threads: int | None = None,
        *,
        type: str | None = None,
        lora: "LoraPath | LoraPair | Sequence[LoraPath | LoraPair]" = (),
        progress: Callable[[int, int], None] | None = None,
        packed_cache: "str | PathLike[str] | None" = None,
        packed_cache_bytes: int | None = None,
    ) -> "Model":
        """Open a model and pack its weights; those of a packed file are mapped as they are.

        ``path``: a GGUF file (of a split one the first part), a file of ``motet.pack``, or a
        Hugging Face directory: config.json, safetensors and a tokenizer; or an address,
        ``hf://org/name``, which ``motet.hub.local_path`` fetches.

        ``threads``: how many compute; None for MOTET_THREADS, or the cores this process may use.
        ``type``: quantise float matrices while they are packed, to a mixture such as "q8_0",
        "q4_0" or "q4_k_m" (``conversion.mixes.MIXES``). ``lora``: low-rank adapters that are merged
        into the weights: the path of a GGUF file or a PEFT directory, or several, each alone or
        with a strength, ``(path, 0.5)``. ``progress`` is called with the bytes done and the bytes
        in all, every few megabytes. ``packed_cache``: a directory in which the model is kept
        packed, in at most ``packed_cache_bytes`` (None: 32 GiB) with others, and found the next
        time.
        Raises ModelFileError for a damaged or contradictory file, UnsupportedError for one that
        asks for what Motet does not do, CapacityError for one that does not fit into memory,
        TokenizerError for an unusable vocabulary, OptionError for a wrong option,
        HubError where a model on the hub can't be had.
        """
        found = checks.path(
            "path", path, "give the path of a GGUF file or a Hugging Face directory"
        )
        threads = checks.optional_whole("threads", threads, 1)
        if progress is not None:
            checks.function("progress", progress, "the bytes done and the bytes in all")
        kernels = CPU(threads)
        mix = None if type is None else checks.text("type", type)
        most = checks.optional_whole("packed_cache_bytes", packed_cache_bytes)
        if packed_cache is None and most is not None:
            raise OptionError(
                f"packed_cache_bytes is {most}, and there is no packed_cache",
                hint="give a directory as packed_cache, or leave it out",
            )
        if packed_cache is not None:
            folder = checks.path("packed_cache", packed_cache, "give a directory")
            cache = PackedCache(folder, PACKED_CACHE_BYTES if most is None else most)
            loaded = _from_cache(cache.find(found, mix, lora, kernels, progress), found, kernels)
            if loaded is not None:
                return loaded
        adapters = read_adapters(lora, found)
        with open_model(found) as file:
            try:
                return cls(prepared(file, mix, adapters, kernels), kernels, progress)
            except MemoryError as error:
                raise _too_large(f"{found}: ", packed_bytes(file, kernels)) from error
            except MotetError as error:
                if error.message.startswith(file.path):
                    raise
                raise error.__class__(f"{found}: {error.message}", hint=error.hint) from error

    @property
    def fingerprint(self) -> Fingerprint:
        """Digests of what was loaded, by which what was computed with another is recognised."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self.file, self._digests)
        return self._fingerprint

    @property
    def name(self) -> str:
        """The file's."""
        return Path(self.file.path).name

    def __repr__(self) -> str:
        return (
            f"<motet.Model {self.name}: {self.file.architecture}, {self.parameters / 1e6:.1f} M"
            f" parameters in {self.nbytes / 1e6:.1f} MB, trained on {self.config.context_length}"
            " tokens>"
        )

    @property
    def n_vocab(self) -> int:
        """Tokens, which is logits a row."""
        return self.config.n_vocab

    @checks.named
    def context(
        self,
        max_sequences: int = 1,
        max_tokens: int | None = None,
        ubatch: int = 512,
        split: str = "auto",
        kv_type: str = "auto",
        self_extend: "SelfExtend | AutoExtend | str | None" = None,
        kv_bytes: int | None = None,
        checkpoint_bytes: int | None = None,
        context_length: int | None = None,
        pooling: str | None = None,
    ) -> "Context":
        """Memory for ``max_sequences`` sequences, and ``decode`` to run batches on it.

        ``max_tokens``: tokens held in all; None for the trained length times the sequences.
        ``ubatch``: tokens computed at once. ``split``: "auto", "simple", "equal" or "sequence".
        ``kv_type``: "auto" (``default_kv_type``), "f32", "f16", "bf16" or "q8_0".
        ``kv_bytes``: what caches may take; None for three quarters of the memory that is left.
        ``checkpoint_bytes``: what checkpoints may keep of it; None for an eighth, 0 for none.
        ``pooling``: "none", "mean", "cls", "last" or "rank"; None for what the file says.
        ``self_extend``, ``context_length``: see ``Context``. Raises OptionError for a value that
        makes no sense.
        """
        from motet.context import Context

        return Context(
            self,
            max_sequences=max_sequences,
            max_tokens=max_tokens,
            ubatch=ubatch,
            split=split,
            kv_type=kv_type,
            self_extend=self_extend,
            kv_bytes=kv_bytes,
            checkpoint_bytes=checkpoint_bytes,
            context_length=context_length,
            pooling=pooling,
        )


def loaded_model(
    model: Any,
    threads: int | None,
    type: str | None,
    lora: "LoraPath | LoraPair | Sequence[LoraPath | LoraPair]",
    packed_cache: "str | PathLike[str] | None",
    packed_cache_bytes: int | None,
) -> Model:
    """The model that is given, or the one at a path, loaded so.

    Raises what ``Model.load`` does, and OptionError for what a model given can't be loaded with.
    """
    if isinstance(model, str | PathLike) or not hasattr(model, "context"):
        hint = "give the path of a GGUF file or a Hugging Face directory, or a loaded motet.Model"
        return Model.load(
            checks.path("model", cast(object, model), hint),
            threads,
            type=type,
            lora=lora,
            packed_cache=packed_cache,
            packed_cache_bytes=packed_cache_bytes,
        )
    given: dict[str, object] = {
        "threads": threads,
        "type": type,
        "lora": None if isinstance(lora, tuple | list) and not lora else lora,
        "packed_cache": packed_cache,
        "packed_cache_bytes": packed_cache_bytes,
    }
    for name, value in given.items():
        if value is not None:
            raise OptionError(
                f"{name} is {checks.shown(value)} for a model already loaded",
                hint="give it to Model.load",
            )
    return model


def _from_cache(entry: Path | None, path: Path, kernels: Kernels) -> Model | None:
    """The model of a packed cache's entry; None if there is none, or it is damaged."""
    file = None if entry is None else open_entry(entry, path)
    if entry is None or file is None:
        return None
    with file:
        try:
            return Model(file, kernels)
        except ModelFileError as error:
            drop(entry, error)
            return None


def _require_memory(needed: int) -> None:
    """Raise CapacityError, before anything is packed, if there is not so much memory."""
    available = available_memory()
    if available is not None and needed > available:
        raise _too_large("", needed, f", and {available / 1e6:,.0f} MB are available")


def _too_large(where: str, needed: int, available: str = "") -> CapacityError:
    return CapacityError(
        f"{where}the model's weights take {needed / 1e6:,.0f} MB of memory{available}",
        hint="use a smaller model or quantisation, or raise the limit of the container or shell",
    )


def _read_per_token(nbytes_of: Mapping[str, int], config: Config) -> int:
    """All bytes, but only a row of learned positions, and of an embedding that is no output head.

    Of a mixture of experts, those that a token goes to; of an encoder-decoder, the decoder's, less
    those that see what was encoded.
    """
    untied = OUTPUT in nbytes_of
    total = 0
    for name, nbytes in nbytes_of.items():
        if name == POSITIONS or (untied and name == EMBEDDING):
            continue
        if config.decoder_start is not None and _ENCODED.search(name):
            continue
        if name.endswith(_EXPERTS):
            nbytes = nbytes // config.n_experts * config.n_experts_used
        total += nbytes
    return total


def _tokenizer(file: ModelSource, n_vocab: int) -> Any:
    from motet.tokenizer import from_gguf

    tokens = file.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list) and len(tokens) != n_vocab:
        raise ModelFileError(
            f"tokenizer.ggml.tokens has {len(tokens)} tokens, but {EMBEDDING} has {n_vocab} rows"
        )
    return from_gguf(file.metadata)
