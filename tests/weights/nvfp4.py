"""NVFP4 for tests, rounded as GGML's ``quantize_row_nvfp4_ref`` does."""

import numpy as np
from gguf.quants import NVFP4


def nvfp4_blocks(values: np.ndarray) -> np.ndarray:
    """The bytes ``[…, columns / 64 · 36]`` of values ``[…, columns]``."""
    groups = np.asarray(values, np.float32).reshape(-1, 4, 16)
    scales = NVFP4.fp32_to_ue4m3(np.abs(groups).max(axis=2) / np.float32(6))
    steps = np.array(NVFP4.kvalues, np.float32) * NVFP4.ue4m3_to_fp32(scales)[..., None]
    codes = np.abs(steps[:, :, None] - groups[..., None]).argmin(axis=3).astype(np.uint8)
    pairs = codes[:, :, :8] | codes[:, :, 8:] << 4
    blocks = np.concatenate([scales, pairs.reshape(-1, 32)], axis=1)
    return blocks.reshape(*values.shape[:-1], -1)
