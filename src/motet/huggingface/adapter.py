"""A PEFT directory, adapter_config.json and adapter_model.safetensors, as GGUF has adapters."""

import math
import os
import re
from pathlib import Path

import numpy as np

from motet.errors import ModelFileError, UnsupportedError, shown
from motet.hub.address import meant
from motet.huggingface.checkpoint import Checkpoint
from motet.huggingface.config import ConfigReader
from motet.huggingface.families import plan_of
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.safetensors import read_file
from motet.huggingface.tensors import Plain, Reordered, Weights

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PLACE = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<part>[AB])(?:\.[^.]+)?\.weight", re.DOTALL
)
_CHANGES_NOTHING = (
    *("r", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    *("rank_pattern", "task_type", "inference_mode", "base_model_name_or_path", "revision"),
    *("auto_mapping", "peft_version", "megatron_core", "megatron_config", "runtime_config"),
    *("loftq_config", "eva_config", "corda_config", "qalora_group_size", "arrow_config"),
    *("ensure_weight_tying",),
)
"""What was trained and how: the tensors show what came of it."""
_MERGE = "merge it with PEFT's merge_and_unload, and save the model"
_LISTED = 4
_LEAST, _MOST = 1e-30, 1e30
"""Of alpha: GGUF has it as a float32, of which 0 means that there is none."""


class AdapterDirectory(Checkpoint):
    """A low-rank adapter (LoRA) under GGUF's names. It is a ``ModelSource`` of type "adapter"."""

    format = "PEFT directory"

    def __init__(self, files: Directory, config: ConfigReader, plan: Plan) -> None:
        """``plan``: of the model that it changes; ``open`` is the way to make one."""
        rank = config.integer("r")
        stable = config.flag("use_rslora", default=False)
        try:
            alpha = _alpha(config, rank, stable)
        except UnsupportedError as error:
            raise UnsupportedError(error.message, hint=_MERGE) from error
        stored = read_file(files, WEIGHTS)
        parts: dict[str, Weights] = {}
        unknown: list[str] = []
        named = plan.gguf_names()
        for full, tensor in stored.items():
            place = _PLACE.fullmatch(full)
            name = named(plan.rename(f"{place['module']}.weight")) if place else None
            if place is None or name is None:
                unknown.append(full)
                continue
            part: Weights = Plain(tensor)
            if place["part"] == "B" and len(part.shape) == 2:
                part = _reordered(files.path, plan, name, part)
            target = f"{name}.lora_{place['part'].lower()}"
            if target in parts or len(part.shape) != 2:
                problem = "is there twice" if target in parts else "is no matrix"
                raise ModelFileError(f"{files.path}: {shown(full)}, {target}, {problem}")
            if place["part"] == "A" and stable and part.shape[0] != rank:
                raise UnsupportedError(
                    f"{files.path}: {shown(full)} is of rank {part.shape[0]}, and r is {rank}: with"
                    " use_rslora all have to be of one",
                    hint=_MERGE,
                )
            parts[target] = part
        if unknown:
            listed = ", ".join(map(shown, unknown[:_LISTED]))
            raise UnsupportedError(
                f"{files.path}: has tensors that are not A and B of a matrix: {listed}",
                hint=_MERGE,
            )
        super().__init__(files.path, parts, (tensor.file for tensor in stored.values()))
        self.metadata = {
            "general.architecture": plan.architecture,
            "general.type": "adapter",
            "general.name": files.name,
            "adapter.type": "lora",
            "adapter.lora.alpha": float(np.float32(alpha)),
        }

    @classmethod
    def open(cls, path: str | Path, base: str | Path | None = None) -> "AdapterDirectory":
        """Open the directory ``path``.

        ``base``: the directory of the model that it changes, whose config.json is needed, and
        nothing else; None for what adapter_config.json names, if that is a directory. Raises
        ModelFileError for damaged files, UnsupportedError for another kind of adapter.
        """
        files = Directory(str(path))
        config = ConfigReader(files.json(CONFIG), files.located(CONFIG))
        named = config.text("base_model_name_or_path", default="")
        found = Path(base if base is not None else named or ".")
        address = meant(named) or "DIRECTORY"
        if not os.path.lexists(os.path.join(found, "config.json")):  # noqa: PTH118 — for odd names
            raise ModelFileError(
                f"{files.path}: is an adapter of {shown(named) if named else 'an unnamed model'},"
                " whose config.json is needed to know its tensors",
                hint=f"motet convert {files.path} --base {address} makes a file of it that goes"
                " with any file of the model",
            )
        model = Directory(str(found))
        model_config = ConfigReader(model.json("config.json"), model.located("config.json"))
        return cls(files, config, plan_of(model_config, model))


def _alpha(config: ConfigReader, rank: int, stable: bool) -> float:
    """GGUF's alpha: B · A counts alpha / rank. Refuses adapters that are more than B · A."""
    config.only("peft_type", "LORA", "another kind of adapter")
    config.only("use_dora", False, "magnitudes beside the directions (DoRA)")
    config.only("use_qalora", False, "pooled inputs (QA-LoRA)")
    config.only("lora_bias", False, "biases beside the matrices")
    config.only("bias", "none", "biases beside the matrices")
    config.only("fan_in_fan_out", False, "matrices that are transposed")
    for name in ("modules_to_save", "trainable_token_indices", "layer_replication"):
        config.only(name, None, "whole tensors or layers beside A and B")
    config.only("target_parameters", None, "parameters that are no layer's weight")
    config.only("alpha_pattern", {}, "a strength of its own for each layer")
    config.only("alora_invocation_tokens", None, "an adapter that some tokens switch on")
    start = config.value("init_lora_weights", default=True)
    if isinstance(start, str) and start.split("_")[0] in ("pissa", "olora", "corda", "loftq"):
        raise UnsupportedError(
            f"{config.where}: init_lora_weights is {shown(start)}: the adapter belongs to a changed"
            " model, not to the original"
        )
    alpha = config.number("lora_alpha")
    if stable:
        alpha *= math.sqrt(rank)  # Kalajdzievski 2023, arXiv 2312.03732: alpha / sqrt(rank)
    config.ignore(*_CHANGES_NOTHING)
    config.refuse_unread()
    if rank < 1 or not _LEAST < abs(alpha) < _MOST:
        raise ModelFileError(f"{config.where}: r is {rank} and lora_alpha {alpha:g}")
    return alpha


def _reordered(path: str, plan: Plan, name: str, part: Weights) -> Weights:
    """B in the order that the matrix's rows have in GGUF."""
    change = plan.change_of(name)
    if change is None:
        return part
    after = change(part)
    if not isinstance(after, Reordered) or after.shape != part.shape:
        raise UnsupportedError(
            f"{path}: changes {name}, which GGUF has in another form than the checkpoint",
            hint=_MERGE,
        )
    return after
