"""A trained Mamba block that others published, inside its keyword classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from motet.kernels.interface_recurrent import RecurrentState, Runs
from motet.models.config import Config
from motet.models.scans import MambaMixer, MambaSizes
from motet.models.tensors import TensorReader
from motet.weights.formats import TensorType
from tests.parity.common import KERNELS
from tests.shared import SHARED, needs_shared

CONFIG = Config(
    architecture="mamba", n_layers=1, d_model=64, n_vocab=10, context_length=100, norm_eps=1e-5
)
SIZES = MambaSizes(d_inner=128, d_state=16, d_conv=4, dt_rank=4)
NAMES = {
    "ssm_in.weight": "mamba_in_proj_weight",
    "ssm_conv1d.weight": "mamba_conv1d_weight",
    "ssm_conv1d.bias": "mamba_conv1d_bias",
    "ssm_x.weight": "mamba_x_proj_weight",
    "ssm_dt.weight": "mamba_dt_proj_weight",
    "ssm_dt.bias": "mamba_dt_proj_bias",
    "ssm_d": "mamba_D",
    "ssm_out.weight": "mamba_out_proj_weight",
}


class Arrays(TensorReader):
    """Tensors that are in memory already, by their GGUF names."""

    def __init__(self, arrays: Mapping[str, np.ndarray], kernels: Any) -> None:
        super().__init__(arrays)  # type: ignore[arg-type]  # of which only the names are used
        self._arrays, self._kernels = arrays, kernels

    def _skip(self, beginnings: tuple[str, ...]) -> None:
        raise NotImplementedError

    def ones(self, size: int) -> np.ndarray:
        return np.ones(size, np.float32)

    def _array(self, name: str, shape: tuple[int, ...], transposed: bool = False) -> np.ndarray:
        array = self._arrays[name].reshape(shape)
        return np.ascontiguousarray(array.T) if transposed else array

    def _matrices(
        self,
        name: str,
        shape: tuple[int, ...],
        parts: Sequence[int],
        scales: Sequence[float],
        order: Sequence[int] | None = None,
    ) -> tuple[Any, ...]:
        assert (parts, scales, order) == ((shape[0],), (1.0,), None)
        values = np.ascontiguousarray(self._arrays[name].reshape(shape))
        return (self._kernels.pack(values.view(np.uint8), TensorType.F32, *shape),)


@dataclass
class View:
    """The one cache that there is."""

    state: RecurrentState

    @property
    def positions(self) -> np.ndarray:
        raise NotImplementedError

    def cache(self, layer: int, k: int = 0) -> RecurrentState:
        assert layer == k == 0
        return self.state


@needs_shared
@pytest.mark.parametrize("chunk", [1, 3, 100])
@pytest.mark.parametrize("name", KERNELS)
def test_the_real_block(name: str, chunk: int) -> None:
    kernels = KERNELS[name]()
    data = np.load(SHARED / "mamba-block" / "mambakws-any-10.npz")
    tensors = {name: data[theirs] for name, theirs in NAMES.items()}
    tensors["ssm_a"] = -np.exp(data["mamba_A_log"])
    mixer = MambaMixer(Arrays(tensors, kernels), kernels, 0, CONFIG, SIZES)
    (spec,) = mixer.caches
    arrays = tuple(np.zeros((1, *shape), np.float32) for shape in spec.shapes)
    x = data["sample_input"] @ data["linear_in_weight"].T + data["linear_in_bias"]
    parts = []
    for start in range(0, len(x), chunk):
        rows = np.ascontiguousarray(x[start : start + chunk])
        one = np.zeros(1, np.int32)
        runs = Runs(
            np.arange(len(rows), dtype=np.int32), np.array([0, len(rows)], np.int32), one, one
        )
        parts.append(mixer.forward(rows, View(RecurrentState(arrays, runs)), None))
    ours = np.concatenate(parts)
    np.testing.assert_allclose(ours, data["expected_block_output"], rtol=0, atol=1e-4)
    logits = ours.mean(axis=0) @ data["classifier_weight"].T + data["classifier_bias"]
    np.testing.assert_allclose(logits, data["expected_logits"], rtol=0, atol=1e-4)
