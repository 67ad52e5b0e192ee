"""Mamba-2: transformers' checkpoints, the authors' own, and Mamba-Codestral's."""

from collections.abc import Callable
from typing import Any

import numpy as np

from motet.errors import ModelFileError, UnsupportedError, shown
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import Keys, tied
from motet.huggingface.families.mamba import (
    CONV,
    ignore_training,
    inner_size,
    negative_exp,
    read_original,
    scan_sizes,
)
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import computed, reshaped

_EPS = 1e-5
"""Of the authors' norms; their config.json does not have it."""
_LEAST_AND_MOST = 0.0, float("inf")


def mamba2(config: ConfigReader, files: Directory) -> Plan:
    """The ``mamba2`` architecture, for model type mamba2."""
    keys = scan_sizes(config)
    inner = inner_size(config, keys["embedding_length"])
    keys |= _scan(config, inner, groups=8)
    heads, width = keys["ssm.time_step_rank"], config.integer("head_dim", default=64)
    if config.integer("num_heads", default=heads) != heads:
        raise ModelFileError(
            f"{config.where}: num_heads is {config.value('num_heads')}, but {inner} channels are"
            f" {heads} heads of {width}"
        )
    keys["attention.layer_norm_rms_epsilon"] = config.number(
        "layer_norm_epsilon", "rms_norm_eps", default=_EPS
    )
    refuse_bounds(config, "time_step_limit")
    # No program that reads these keys takes them from here.
    config.ignore("intermediate_size", "time_step_rank", "norm_before_gate")
    ignore_training(config)
    return _plan(keys, tied(config, False))


def original_mamba2(config: ConfigReader, files: Directory) -> Plan:
    """The ``mamba2`` architecture, of a config.json of the authors' library or Mamba-Codestral's.

    The latter has ``n_groups`` beside the sizes.
    """
    keys = scan_sizes(config)
    layer = config.part("ssm_cfg")
    if not config.has("n_groups"):
        layer.only("layer", "Mamba2", "another kind of layer")
    layer.ignore("layer")
    inner = inner_size(layer, keys["embedding_length"])
    groups = config.integer("n_groups", default=layer.integer("ngroups", default=1))
    keys |= _scan(layer, layer.integer("d_ssm", default=inner), groups=groups)
    layer.integer("ngroups", default=groups)
    if keys["ssm.inner_size"] != inner:
        raise UnsupportedError(f"{layer.where}: d_ssm is {layer.value('d_ssm')}, not {inner}")
    keys["attention.layer_norm_rms_epsilon"] = _EPS
    refuse_bounds(layer, "dt_limit")
    layer.only("rmsnorm", True, "no norm after the gate")
    layer.only("norm_before_gate", False, "a norm before the gate")
    layer.only("D_has_hdim", False, "a D for each channel")
    read_original(config, layer)
    return _plan(keys, tied(config, True))


def _scan(config: ConfigReader, inner: int, *, groups: int) -> Keys:
    width = config.integer("head_dim", "headdim", default=64)
    if not width or inner % width:
        raise ModelFileError(f"{config.where}: {inner} channels are not heads of {width}")
    groups = config.integer("n_groups", default=groups)
    if not groups or inner // width % groups:
        raise ModelFileError(
            f"{config.where}: {inner // width} heads are not {groups} groups of B and C"
        )
    return {
        "ssm.conv_kernel": config.integer("conv_kernel", "d_conv", default=4),
        "ssm.inner_size": inner,
        "ssm.state_size": config.integer("state_size", "d_state", default=128),
        "ssm.time_step_rank": inner // width,
        "ssm.group_count": groups,
    }


def refuse_bounds(config: ConfigReader, name: str) -> None:
    """Refuse time steps that are cut off: a value Motet's scan does not take."""
    bounds: Any = config.value(name, default=list(_LEAST_AND_MOST))
    if not isinstance(bounds, list) or tuple(bounds) != _LEAST_AND_MOST:
        raise UnsupportedError(
            f"{config.where}: {name} is {shown(bounds)}: time steps with bounds",
            hint="Motet runs such models with [0, Infinity]",
        )


def _plan(keys: Keys, head: bool | None) -> Plan:
    groups = keys["ssm.group_count"]
    return Plan(
        "mamba2",
        keys["block_count"],
        keys,
        renamed=(
            (r"^model\.(backbone|lm_head)\.", r"\1."),  # Mamba-Codestral
            (r"\.dt_bias$", ".dt_proj.bias"),
        ),
        tied=head,
        changes=SCAN_OF_HEADS | {"ssm_norm.weight": reshaped(groups, -1)},
    )


def _column(make: Callable[[Any], Any]) -> Any:
    return computed(lambda values: make(np.reshape(values, (values.size, 1))))


SCAN_OF_HEADS = {
    "ssm_conv1d.weight": CONV,
    "ssm_a": _column(negative_exp),
    "ssm_d": _column(lambda values: values),
}
"""``Plan.changes`` of a Mamba-2 layer, without those of its norm."""
