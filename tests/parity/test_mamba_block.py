"""A trained Mamba block that others published, inside its keyword classifier."""

import numpy as np
import pytest
from motet.kernels.slots import RecurrentState, Runs

from motet.models.mamba import Block, mix
from motet.models.recurrent_config import MambaConfig
from motet.weights.formats import TensorType
from tests.parity.common import KERNELS
from tests.shared import SHARED, needs_shared

CONFIG = MambaConfig(
    architecture="mamba", n_layers=1, d_model=64, n_vocab=10, context_length=100, norm_eps=1e-5,
    d_inner=128, d_state=16, d_conv=4, dt_rank=4,
)  # fmt: skip


@needs_shared
@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("name", KERNELS)
def test_the_real_block(name: str, chunk: int) -> None:
    kernels = KERNELS[name]()
    data = np.load(SHARED / "mamba-block" / "mambakws-any-10.npz")

    def matrix(part: str):
        values = np.ascontiguousarray(data[part + "_weight"])
        return kernels.pack(values.view(np.uint8), TensorType.F32, *values.shape)

    block = Block(
        attn_norm=np.ones(64, np.float32),
        ssm_in=matrix("mamba_in_proj"),
        ssm_conv1d=data["mamba_conv1d_weight"],
        ssm_conv1d_bias=data["mamba_conv1d_bias"],
        ssm_x=matrix("mamba_x_proj"),
        ssm_dt=matrix("mamba_dt_proj"),
        ssm_dt_bias=data["mamba_dt_proj_bias"],
        ssm_a=np.ascontiguousarray(-np.exp(data["mamba_A_log"]).T),
        ssm_d=data["mamba_D"],
        ssm_out=matrix("mamba_out_proj"),
        ssm_dt_norm=None,
        ssm_b_norm=None,
        ssm_c_norm=None,
    )
    arrays = tuple(np.zeros((1, *shape), np.float32) for shape in CONFIG.state.shapes)
    x = data["sample_input"] @ data["linear_in_weight"].T + data["linear_in_bias"]
    parts = []
    for start in range(0, len(x), chunk):
        rows = np.ascontiguousarray(x[start : start + chunk])
        one = np.zeros(1, np.int32)
        runs = Runs(
            np.arange(len(rows), dtype=np.int32), np.array([0, len(rows)], np.int32), one, one
        )
        mixed = mix(kernels, CONFIG, block, rows, RecurrentState(arrays, runs))
        parts.append(kernels.linear(mixed, block.ssm_out)[0])
    ours = np.concatenate(parts)
    np.testing.assert_allclose(ours, data["expected_block_output"], rtol=0, atol=1e-4)
    logits = ours.mean(axis=0) @ data["classifier_weight"].T + data["classifier_bias"]
    np.testing.assert_allclose(logits, data["expected_logits"], rtol=0, atol=1e-4)
