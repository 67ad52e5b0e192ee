"""Which function says what a kind of model is in GGUF's terms."""

from collections.abc import Callable

from motet.errors import UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.bert import bert, roberta
from motet.huggingface.families.deepseek import deepseek_v2, deepseek_v3
from motet.huggingface.families.falcon_h1 import falcon_h1
from motet.huggingface.families.gemma import gemma, gemma2
from motet.huggingface.families.gemma3 import gemma3, gemma3_text
from motet.huggingface.families.gemma4 import (
    gemma4,
    gemma4_text,
    gemma4_unified,
    gemma4_unified_text,
)
from motet.huggingface.families.glm4 import glm4, glm4_moe
from motet.huggingface.families.gpt2 import gpt2
from motet.huggingface.families.gpt_oss import gpt_oss
from motet.huggingface.families.granite import granite, granite_hybrid
from motet.huggingface.families.jamba import jamba
from motet.huggingface.families.kimi_linear import kimi_linear
from motet.huggingface.families.lfm2 import lfm2, lfm2_moe
from motet.huggingface.families.llama import llama
from motet.huggingface.families.mamba import mamba, original_mamba
from motet.huggingface.families.mamba2 import mamba2, original_mamba2
from motet.huggingface.families.ministral3 import ministral3
from motet.huggingface.families.modern_bert import modern_bert
from motet.huggingface.families.mpt import mpt
from motet.huggingface.families.nemotron_h import nemotron_h
from motet.huggingface.families.nomic_bert import nomic_bert
from motet.huggingface.families.olmo import olmo2, olmo3
from motet.huggingface.families.openelm import openelm
from motet.huggingface.families.phi3 import phi3
from motet.huggingface.families.qwen import qwen2, qwen3, qwen3_moe
from motet.huggingface.families.qwen_delta import (
    qwen3_5,
    qwen3_5_moe,
    qwen3_5_moe_text,
    qwen3_5_text,
    qwen3_next,
)
from motet.huggingface.families.rwkv6 import rwkv6
from motet.huggingface.families.rwkv7 import rwkv7
from motet.huggingface.families.smollm3 import smollm3
from motet.huggingface.families.starcoder2 import starcoder2
from motet.huggingface.families.t5 import t5
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan

Family = Callable[[ConfigReader, Directory], Plan]
FAMILIES: dict[str, Family] = {
    "bert": bert,
    "deepseek_v2": deepseek_v2,
    "deepseek_v3": deepseek_v3,
    "falcon_h1": falcon_h1,
    "falcon_mamba": mamba,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3": gemma3,
    "gemma3_text": gemma3_text,
    "gemma4": gemma4,
    "gemma4_text": gemma4_text,
    "gemma4_unified": gemma4_unified,
    "gemma4_unified_text": gemma4_unified_text,
    "glm4": glm4,
    "glm4_moe": glm4_moe,
    "gpt2": gpt2,
    "gpt_oss": gpt_oss,
    "granite": granite,
    "granitemoehybrid": granite_hybrid,
    "jamba": jamba,
    "kimi_linear": kimi_linear,
    "lfm2": lfm2,
    "lfm2_moe": lfm2_moe,
    "llama": llama,
    "mamba": mamba,
    "mamba2": mamba2,
    "ministral3": ministral3,
    "mistral": llama,
    "mixtral": llama,
    "modernbert": modern_bert,
    "mpt": mpt,
    "mt5": t5,
    "nemotron_h": nemotron_h,
    "nomic_bert": nomic_bert,
    "olmo2": olmo2,
    "olmo3": olmo3,
    "openelm": openelm,
    "phi3": phi3,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "qwen3_5": qwen3_5,
    "qwen3_5_moe": qwen3_5_moe,
    "qwen3_5_moe_text": qwen3_5_moe_text,
    "qwen3_5_text": qwen3_5_text,
    "qwen3_moe": qwen3_moe,
    "qwen3_next": qwen3_next,
    "roberta": roberta,
    "rwkv6": rwkv6,
    "rwkv7": rwkv7,
    "smollm3": smollm3,
    "starcoder2": starcoder2,
    "t5": t5,
    "umt5": t5,
    "xlm-roberta": roberta,
}
"""By ``model_type``."""


def plan_of(config: ConfigReader, files: Directory) -> Plan:
    """What the directory is in GGUF's terms.

    Every key of ``config`` has been found to be used or to change nothing. Raises UnsupportedError
    for a kind of model or a key that Motet does not know, ModelFileError for a wrong value.
    """
    family = _original(config)
    kind = config.text("model_type") if family is None else ""
    family = family or FAMILIES.get(kind)
    if family is None:
        own_code = "; its auto_map names code of its own, which is never run"
        raise UnsupportedError(
            f"{config.where}: model_type is {shown(kind)}"
            + (own_code if config.has("auto_map") else ""),
            hint=f"Motet opens directories of {', '.join(FAMILIES)}; of others a GGUF file may run",
        )
    plan = family(config, files)
    config.refuse_unread()
    return plan


def _original(config: ConfigReader) -> Family | None:
    """The function for a config.json that mamba_ssm wrote, which has no model_type, or Codestral's.

    transformers' own have ``num_hidden_layers``.
    """
    if config.has("num_hidden_layers") or not config.has("d_model", "dim"):
        return None
    layer = config.values.get("ssm_cfg")
    if config.has("n_groups") or (isinstance(layer, dict) and layer.get("layer") == "Mamba2"):
        return original_mamba2
    return original_mamba if layer is not None else None
