"""Which files of a repository are the model that an address means; by their names alone."""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from motet.errors import HubError
from motet.hub.address import SAFETENSORS, Address

INDEX = "model.safetensors.index.json"

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_LABEL = re.compile(
    r"(?<![A-Z0-9])((?:UD-)?(?:IQ|TQ|Q)\d(?:_(?:K|0|1|4|8|NL|XXS|XS|S|M|L|XL))*"
    r"|BF16|FP?(?:16|32)|(?:MX|NV)FP4(?:_MOE)?)(?![A-Z0-9])"
)
"""In a name in capitals; nothing of a longer word, as Q4 of IQ4."""
_NO_MODELS = ("mmproj", "imatrix")
_PREFERRED = (
    *("Q4_K_M", "UD-Q4_K_M", "Q4_K_L", "UD-Q4_K_XL", "Q4_K_S", "Q4_K", "Q4_0", "Q4_1", "Q4"),
    *("IQ4_NL", "IQ4_XS"),
)
_SHARD = re.compile(r"[^/]+-\d{5}-of-\d{5}\.safetensors")
_SMALL = re.compile(
    r"(?:config|generation_config|tokenizer|tokenizer_config|added_tokens|special_tokens_map|vocab"
    r"|modules|sentence_bert_config|config_sentence_transformers|chat_template)\.json"
    r"|merges\.txt|vocab\.txt|rwkv_vocab[^/]*\.txt|[^/]*\.jinja|additional_chat_templates/[^/]+\.jinja"
    r"|(?:tokenizer|spiece|sentencepiece\.bpe|spm)\.model|tokenizer\.model\.v\d+"
    r"|README\.md|\d+_[A-Za-z]+/(?:config\.json|model\.safetensors)"
)
"""What a directory needs beside its weights, with the modules of sentence-transformers. The card
says of some rerankers that they are such, and the licence."""
_SHOWN = 12
"""Names that an error lists."""


class GGUFModel(NamedTuple):
    """A GGUF file, or all the parts of a split one there are, the first one first.

    ``quantisation``: in capitals, "" where its name says none.
    """

    quantisation: str
    files: tuple[str, ...]
    is_complete: bool

    @property
    def file(self) -> str:
        """The one to open."""
        return self.files[0]

    @property
    def depth(self) -> int:
        """Folders above it."""
        return self.file.count("/")


class Chosen(NamedTuple):
    """``entry``: the file to open, None for the directory. ``files``: small ones come first, so
    that weights are there only if all is."""

    files: tuple[str, ...]
    entry: str | None


def quantisation_of(name: str) -> str:
    """What a GGUF file's name says of it, or else its folder: the last label; "" for none."""
    for part in reversed(name.upper().split("/")):
        if labels := _LABEL.findall(part):
            return labels[-1].replace("FP", "F") if labels[-1].startswith("FP") else labels[-1]
    return ""


def gguf_models(names: Iterable[str]) -> list[GGUFModel]:
    """Those among ``names`` that may be models, by name."""
    whole: list[GGUFModel] = []
    parts: dict[tuple[str, int], dict[int, str]] = {}
    for name in sorted(names):
        base = name.rsplit("/", 1)[-1].lower()
        if not base.endswith(".gguf") or any(word in base for word in _NO_MODELS):
            continue
        if part := _PART.fullmatch(name):
            parts.setdefault((part["stem"], int(part["count"])), {})[int(part["number"])] = name
        else:
            whole.append(GGUFModel(quantisation_of(name), (name,), True))
    for (stem, count), found in parts.items():
        files = tuple(found[number] for number in sorted(found))
        complete = len(found) == count and min(found) == 1 and max(found) == count
        whole.append(GGUFModel(quantisation_of(stem), files, complete))
    return sorted(whole, key=lambda model: model.file)


def matching(names: Collection[str], address: Address) -> list[GGUFModel]:
    """The GGUF models that ``address`` names, or all where it names none."""
    models = gguf_models(names)
    if address.file is not None:
        found = [model for model in models if address.file in model.files]
        if not found and address.file in names:
            return [GGUFModel(quantisation_of(address.file), (address.file,), True)]
        return found
    if address.quantisation is not None:
        wanted = re.sub(r"^FP(?=\d)", "F", address.quantisation)
        return [model for model in models if model.quantisation == wanted]
    return models


def choose(names: Collection[str], address: Address) -> Chosen:
    """The model that ``address`` means, of the files that there are.

    Where it does not say which: if there are GGUF files, that of Q4_K_M, else another with 4 bits,
    else the first; or else the directory of safetensors. Raises HubError, with what there is, if
    there is no such model, several are meant, or parts of it are missing.
    """
    if address.quantisation == SAFETENSORS:
        return _directory(names, address)
    found = matching(names, address)
    if not found:
        if address.file is None and address.quantisation is None:
            return _directory(names, address)
        raise _none_such(names, address)
    if address.file is None and address.quantisation is None:
        label = next(
            (each for each in _PREFERRED if any(m.quantisation == each for m in found)), ""
        )
        found = [model for model in found if model.quantisation == label] if label else found[:1]
    model = _only(found, address)
    if not model.is_complete:
        raise HubError(f"{address}: parts of {model.file} are missing there", hint=_offer(names))
    return Chosen(model.files, model.file)


def _only(found: list[GGUFModel], address: Address) -> GGUFModel:
    """The one that lies in fewer folders than any other. Raises HubError if two do."""
    depth = min(model.depth for model in found)
    nearest = [model for model in found if model.depth == depth]
    if len(nearest) == 1:
        return nearest[0]
    files = _listed(model.file for model in nearest)
    raise HubError(
        f"{address} may be any of {files}", hint=f"name one: {address.named(nearest[0].file)}"
    )


def is_directory(names: Collection[str]) -> bool:
    """Whether among ``names`` is what a directory of safetensors has at least."""
    return "config.json" in names and bool(weights(names))


def weights(names: Collection[str]) -> list[str]:
    """The safetensors files of a directory's model.

    Others beside them are the same weights in another form, or adapters.
    """
    if "model.safetensors" in names:
        return ["model.safetensors"]
    top = sorted(name for name in names if name.endswith(".safetensors") and "/" not in name)
    shards = [name for name in top if _SHARD.fullmatch(name)]
    return shards if INDEX in names and shards else top


def _directory(names: Collection[str], address: Address) -> Chosen:
    if not is_directory(names):
        raise _no_directory(names, address)
    small = sorted(name for name in names if _SMALL.fullmatch(name))
    large = weights(names)
    return Chosen((*small, *([INDEX] if INDEX in names else []), *large), None)


def _no_directory(names: Collection[str], address: Address) -> HubError:
    pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if address.quantisation is None and pickled:
        return HubError(
            f"{address} has weights as Python pickles only ({_listed(pickled)}), which may run"
            " anything when they are opened",
            hint="look for a repository that has it as safetensors or as GGUF",
        )
    if address.quantisation is None:
        return HubError(f"{address} has no model: no GGUF file, no config.json with safetensors")
    return HubError(f"{address}: there are no config.json and safetensors", hint=_offer(names))


def _none_such(names: Collection[str], address: Address) -> HubError:
    if address.file is None:
        return HubError(
            f"hf://{address.repo} has no GGUF file of {address.quantisation}", hint=_offer(names)
        )
    from difflib import get_close_matches

    files = [model.file for model in gguf_models(names)]
    near = get_close_matches(address.file, files[:1000], 2, 0.7)
    hint = f"did you mean {' or '.join(near)}?" if near else _offer(names)
    return HubError(f"hf://{address.repo} has no file {address.file}", hint=hint)


def _offer(names: Collection[str]) -> str:
    """What there is instead."""
    models = gguf_models(names)
    labels = dict.fromkeys(model.quantisation for model in models if model.is_complete)
    offered = [label for label in labels if label]
    if is_directory(names):
        offered.append(SAFETENSORS)
    if offered:
        return f"it has {_listed(offered)}"
    return f"it has {_listed(m.file for m in models)}" if models else "it has no GGUF file at all"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
