"""What a file is that holds no model: of another format, from its first bytes, or GGUF itself."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from motet.errors import shown

_TRUSTED = (
    "reading one can run code: get the model as safetensors or GGUF, or load it where you trust it"
    " and save it again as safetensors"
)
_DIRECTORY = "give the directory that it is in, with config.json and the tokenizer"
_FETCH = "fetch the file again, from a direct link"

_BEGINNINGS = (
    (b"lmgg", "a GGML file from before GGUF", "get the model as GGUF"),
    (b"fmgg", "a GGML file from before GGUF (llama.cpp or rwkv.cpp)", "get the model as GGUF"),
    (b"tjgg", "a GGML file from before GGUF", "get the model as GGUF"),
    (b"algg", "a GGML adapter from before GGUF", "get the model as GGUF"),
    (b"version https://git-lfs", "a Git LFS pointer, not the model itself", "run `git lfs pull`"),
    (b"PK\x03\x04", "a PyTorch checkpoint or another zip archive", _TRUSTED),
    (b"\x80\x02", "a pickle, such as an old PyTorch checkpoint", _TRUSTED),
    (b"\x80\x03", "a pickle, such as an old PyTorch checkpoint", _TRUSTED),
    (b"\x80\x04", "a pickle, such as an old PyTorch checkpoint", _TRUSTED),
    (b"\x80\x05", "a pickle, such as an old PyTorch checkpoint", _TRUSTED),
    (b"\x93NUMPY", "a NumPy array", ""),
    (b"\x89HDF", "an HDF5 file", "get the model as safetensors or GGUF"),
    (b"\x1f\x8b", "gzip-compressed", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "unpack it first"),
    (b"<", "a web page or XML, such as an error page saved in place of the model", _FETCH),
    (b"{", "JSON, such as a Hugging Face config.json", _DIRECTORY),
)


def describe(beginning: bytes, size: int) -> tuple[str, str]:
    """What a file of ``size`` bytes with this ``beginning`` looks like, and what to do about it."""
    if not size:
        return "is empty", _FETCH
    for magic, what, hint in _BEGINNINGS:
        if beginning.lstrip().startswith(magic):
            return f"is not GGUF but looks like {what}", hint
    header = int.from_bytes(beginning[:8], "little")
    if beginning[8:9] == b"{" and 2 <= header <= size - 8:
        return "is not GGUF but looks like a safetensors file", _DIRECTORY
    if not any(beginning):
        return "is not GGUF: it begins with zeros, as an unfinished download does", _FETCH
    return f"is not GGUF: it begins with {beginning[:4]!r}, not b'GGUF'", ""


def describe_directory(path: Path) -> tuple[str, str]:
    """The same for a directory."""
    files = sorted(path.glob("*.gguf"))
    if files:
        return "is a directory", f"give a file in it, such as {files[0]}"
    return "is a directory without a config.json, and no GGUF file", "give a model's directory"


def describe_other(metadata: Mapping[str, Any], tensors: Iterable[str]) -> tuple[str, str] | None:
    """What a GGUF file is, and what to do about it; None for a model, or if it does not say.

    Files of before ``general.type`` are known by their architecture, keys or tensors.
    """
    kind = metadata.get("general.type", "model")
    architecture = metadata.get("general.architecture")
    endings = {name.rpartition(".")[2] for name in tensors}
    if architecture == "controlvector":
        return "a control vector", "give the file of the model that it steers"
    if kind == "adapter" or "adapter.type" in metadata or "lora_a" in endings:
        return "a LoRA adapter", "give the model that it changes, and it beside that with --lora"
    if kind == "imatrix" or "imatrix.chunk_count" in metadata or "in_sum2" in endings:
        return "an importance matrix, used to quantise a model", "give the file of the model"
    if kind == "mmproj" or architecture == "clip":
        what = "a projector of images or sounds (mmproj)"
        return what, "give the file of the language model that it belongs to"
    if kind != "model":
        return f"of general.type {shown(kind)}", "give the file of the model itself"
    return None
