"""Which class runs which architecture, and what a file declares to it."""

from typing import Any

from motet.errors import ModelFileError, UnsupportedError, shown
from motet.kernels.reference import Reference
from motet.models.bert import Bert, JinaBert2, NomicBert
from motet.models.deepseek2 import DeepSeek2
from motet.models.falcon_h1 import FalconH1
from motet.models.family import Family
from motet.models.gemma import Gemma
from motet.models.gemma2 import Gemma2
from motet.models.gemma3 import Gemma3
from motet.models.gemma4 import Gemma4
from motet.models.gemma_embedding import GemmaEmbedding
from motet.models.glm4 import Glm4, Glm4Moe
from motet.models.gpt2 import Gpt2
from motet.models.gpt_oss import GptOss
from motet.models.granite import Granite
from motet.models.granite_hybrid import GraniteHybrid
from motet.models.jamba import Jamba
from motet.models.keys import MAX_CONTEXT, Keys
from motet.models.kimi_linear import KimiLinear
from motet.models.lfm2 import Lfm2, Lfm2Moe
from motet.models.llama import Llama
from motet.models.mamba import Mamba
from motet.models.mamba2 import Mamba2
from motet.models.ministral3 import Ministral3
from motet.models.modern_bert import ModernBert
from motet.models.mpt import Mpt
from motet.models.nemotron_h import NemotronH, NemotronHMoe
from motet.models.olmo2 import Olmo2
from motet.models.openelm import OpenElm
from motet.models.phi3 import Phi3
from motet.models.pooled_heads import Classifier
from motet.models.qwen import Qwen2, Qwen3, Qwen3Moe
from motet.models.qwen_delta import Qwen3Next, Qwen35, Qwen35Moe
from motet.models.rwkv6 import Rwkv6
from motet.models.rwkv7 import Rwkv7
from motet.models.smollm3 import SmolLM3
from motet.models.starcoder2 import StarCoder2
from motet.models.t5 import T5, T5Encoder
from motet.models.tensors import EMBEDDING, TensorChecker
from motet.weights.identify import describe_other
from motet.weights.source import ModelSource

FAMILIES: dict[str, type[Family[Any]]] = {
    "bert": Bert,
    "deepseek2": DeepSeek2,
    "falcon-h1": FalconH1,
    "gemma": Gemma,
    "gemma2": Gemma2,
    "gemma3": Gemma3,
    "gemma4": Gemma4,
    "gemma-embedding": GemmaEmbedding,
    "glm4": Glm4,
    "glm4moe": Glm4Moe,
    "gpt2": Gpt2,
    "gpt-oss": GptOss,
    "granite": Granite,
    "granitehybrid": GraniteHybrid,
    "jamba": Jamba,
    "jina-bert-v2": JinaBert2,
    "kimi-linear": KimiLinear,
    "lfm2": Lfm2,
    "lfm2moe": Lfm2Moe,
    "llama": Llama,
    "mamba": Mamba,
    "mamba2": Mamba2,
    "mistral3": Ministral3,
    "modern-bert": ModernBert,
    "nomic-bert": NomicBert,
    "mpt": Mpt,
    "nemotron_h": NemotronH,
    "nemotron_h_moe": NemotronHMoe,
    "olmo2": Olmo2,
    "openelm": OpenElm,
    "phi3": Phi3,
    "qwen2": Qwen2,
    "qwen3": Qwen3,
    "qwen3moe": Qwen3Moe,
    "qwen3next": Qwen3Next,
    "qwen35": Qwen35,
    "qwen35moe": Qwen35Moe,
    "rwkv6": Rwkv6,
    "rwkv7": Rwkv7,
    "smollm3": SmolLM3,
    "starcoder2": StarCoder2,
    "t5": T5,
    "t5encoder": T5Encoder,
}


def family_of(architecture: str) -> type[Family[Any]]:
    """The class for ``general.architecture``. Raises UnsupportedError that lists the known ones."""
    if architecture not in FAMILIES:
        raise UnsupportedError(
            f"general.architecture is {shown(architecture)}",
            hint=f"Motet runs {', '.join(FAMILIES)}",
        )
    return FAMILIES[architecture]


def declared(file: ModelSource, *, strict: bool = True) -> Family[Any]:
    """The family of a file, with its ``config`` and ``caches``, but without weights: not to be run.

    Every key and every tensor of the file has been found to be used; with ``strict`` False tensors
    may be unknown, of another shape or missing. Raises ModelFileError for what is missing or
    contradicts itself, UnsupportedError for what Motet does not know.
    """
    other = describe_other(file.metadata, file.tensors)
    if other is not None:
        what, hint = other
        raise UnsupportedError(f"the file is {what}, not a model", hint=hint)
    family = family_of(file.architecture)
    if strict and EMBEDDING not in file.tensors:
        raise ModelFileError(
            f"the file lacks {EMBEDDING}", hint="it holds a vocabulary alone, or is incomplete"
        )
    keys, embedding = Keys(file.metadata, file.architecture), file.tensors.get(EMBEDDING)
    rows = embedding.rows if embedding else keys.integer("vocab_size", 1, MAX_CONTEXT, 1)
    config = family.read_config(keys, rows)
    checker = TensorChecker(file.tensors)
    keys.refuse_unread()
    declaration = family(config, checker, Reference())
    if strict:
        checker.check(file.architecture)
        rank = declaration.pooled_heads.get("rank")
        named = len(config.labels)
        if named and isinstance(rank, Classifier) and rank.output.rows != named:
            raise ModelFileError(
                f"{keys.key('classifier.output_labels')} names {named} labels, but"
                f" cls.output.weight has {rank.output.rows} rows"
            )
    return declaration
