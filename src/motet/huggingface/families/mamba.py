"""Mamba-1 kinds: Mamba and Falcon-Mamba, and the authors' own Mamba checkpoints."""

import numpy as np

from motet.arrays import Float32
from motet.huggingface.config import ConfigReader
from motet.huggingface.families.common import WIDTH, Keys, layer_count, tied
from motet.huggingface.files import Directory
from motet.huggingface.plan import Plan
from motet.huggingface.tensors import pointwise, rearranged

CONTEXT = 1 << 20
"""Tokens: there is no bound; llama.cpp's converter writes this."""
_EPS = 1e-5
"""Of the authors' norms; their config.json does not have it."""


def negative_exp(a_log: Float32) -> Float32:
    """A = -exp(A_log) (Gu, Dao 2023, arXiv 2312.00752, §3.6), rounded correctly.

    Libraries' float32 exp is off by a last bit here and there, each by its own.
    """
    with np.errstate(over="ignore"):
        return -np.exp(a_log.astype(np.float64)).astype(np.float32)


CONV = rearranged(lambda values: values.reshape(values.shape[0], values.shape[2]))
"""A convolution's kernels, [channels, 1, tokens], without the axis of one."""
SCAN = {"ssm_conv1d.weight": CONV, "ssm_a": pointwise(negative_exp)}
"""``Plan.changes`` of a Mamba-1 layer."""


def mamba(config: ConfigReader, files: Directory) -> Plan:
    """The ``mamba`` architecture, for model types mamba and falcon_mamba."""
    keys = scan_sizes(config)
    width = keys["embedding_length"]
    keys |= {
        "ssm.conv_kernel": config.integer("conv_kernel", "d_conv", default=4),
        "ssm.inner_size": inner_size(config, width, "intermediate_size", "d_inner"),
        "ssm.state_size": config.integer("state_size", "d_state", default=16),
        "ssm.time_step_rank": time_step_rank(config, "time_step_rank", width),
    }
    eps = config.number("layer_norm_epsilon", "rms_norm_eps", default=_EPS)
    keys["attention.layer_norm_rms_epsilon"] = eps
    of_scans = config.value("model_type") == "falcon_mamba"
    keys["ssm.dt_b_c_rms"] = of_scans
    if of_scans:
        own_eps = config.number("mixer_rms_eps", default=1e-6)
        if own_eps != eps:
            # No key of llama.cpp's; it takes the layers' own eps.
            keys["ssm.dt_b_c_rms_eps"] = own_eps
    ignore_training(config)
    return _plan(config, keys)


def original_mamba(config: ConfigReader, files: Directory) -> Plan:
    """The ``mamba`` architecture, of a config.json of the authors' library, mamba_ssm."""
    keys = scan_sizes(config)
    layer = config.part("ssm_cfg")
    layer.only("layer", "Mamba1", "another kind of layer")
    width = keys["embedding_length"]
    keys |= {
        "ssm.conv_kernel": layer.integer("d_conv", default=4),
        "ssm.inner_size": inner_size(layer, width),
        "ssm.state_size": layer.integer("d_state", default=16),
        "ssm.time_step_rank": time_step_rank(layer, "dt_rank", width),
        "attention.layer_norm_rms_epsilon": _EPS,
        "ssm.dt_b_c_rms": False,
    }
    read_original(config, layer)
    return _plan(config, keys)


def _plan(config: ConfigReader, keys: Keys) -> Plan:
    head = tied(config, True)
    return Plan("mamba", keys["block_count"], keys, tied=head, changes=SCAN)


def scan_sizes(config: ConfigReader) -> Keys:
    """What llama.cpp wants of every file, where there are scans alone."""
    return {
        "block_count": layer_count(config),
        "context_length": CONTEXT,
        "embedding_length": config.integer(*WIDTH, "dim"),
        "feed_forward_length": 0,
        "attention.head_count": 0,
    }


def inner_size(config: ConfigReader, width: int, *names: str) -> int:
    """Channels of a scan: what one of the names says, or so many times the layers' ``width``."""
    if config.has(*names):
        return config.integer(*names)
    expanded = config.number("expand", default=2.0) * width
    if not 0 < expanded < 1 << 31:
        raise config.wrong(("expand",), config.value("expand"), "a sound factor")
    return int(expanded)


def time_step_rank(config: ConfigReader, name: str, width: int) -> int:
    """The rank of the matrix that gives the time step."""
    if config.value(name, default="auto") == "auto":
        return -(-width // 16)
    return config.integer(name)


def ignore_training(config: ConfigReader) -> None:
    """Keys of transformers' Mamba kinds that say how to train, or how fast to compute."""
    config.only("hidden_act", "silu", "another activation")
    config.only("rms_norm", True, "norms with a mean")
    config.ignore("use_conv_bias", "use_bias")  # biases show in the tensors
    config.ignore("residual_in_fp32", "fused_add_norm", "use_mambapy", "use_falcon_mambapy")
    config.ignore("use_associative_scan", "use_mamba_kernels", "chunk_size", "expand")
    config.ignore("time_step_scale", "time_step_min", "time_step_max", "time_step_floor")
    config.ignore("time_step_init_scheme", "rescale_prenorm_residual", "pad_vocab_size_multiple")
    # What the authors' configuration was, beside transformers' own keys.
    config.ignore("d_model", "n_layer", "d_inner", "ssm_cfg")


def read_original(config: ConfigReader, layer: ConfigReader) -> None:
    """The keys of mamba_ssm's MambaConfig, and those of its layers, that have one value here."""
    config.only("rms_norm", True, "norms with a mean")
    config.only("d_intermediate", 0, "feed-forward networks, which Motet's Mamba has not")
    config.only("attn_layer_idx", [], "layers of attention, which Motet's Mamba has not")
    # Which sums are kept in which type, and how many rows a vocabulary has, shows in the tensors.
    config.ignore("residual_in_fp32", "fused_add_norm", "pad_vocab_size_multiple", "attn_cfg")
    layer.ignore("conv_bias", "bias", "use_fast_path", "chunk_size", "use_mem_eff_path")
    layer.ignore("dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor", "conv_init")
    layer.ignore("A_init_range")
    layer.refuse_unread()
