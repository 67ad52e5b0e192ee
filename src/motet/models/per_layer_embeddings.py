"""Per-layer embeddings (Gemma 3n, Google 2025): what each layer is given of each token itself."""

import math
from dataclasses import dataclass
from typing import Any

from motet.arrays import Float32, Int32, Int64
from motet.kernels.interface import Kernels
from motet.models.config import Config
from motet.models.family import View
from motet.models.layers import contiguous
from motet.models.norms import rms_norm
from motet.models.shared_kv import ViewOfRows
from motet.models.tensors import TensorReader


@dataclass(frozen=True)
class ViewWithInputs:
    """A view of memory, and beside it what each layer is given of each token."""

    view: View
    inputs: Float32 | None
    """``[T, layers, width]``; None where there are none."""

    @property
    def positions(self) -> Int32:
        """``[T]``."""
        return self.view.positions

    def cache(self, layer: int, k: int = 0) -> Any:
        """As in ``View``."""
        return self.view.cache(layer, k)

    def of_rows(self, kernels: Kernels, rows: Int64) -> "ViewWithInputs":
        """The same of some rows, for layers that write nothing."""
        inputs = None if self.inputs is None else self.inputs[rows]
        return ViewWithInputs(ViewOfRows(self.view, kernels, rows), inputs)


class PerLayerEmbeddings:
    """e = (norm(project(x) / √d) + √width · embedding[token]) / √2, x the scaled embedding.

    The embedding has a row of layers · width numbers for each token; it stays packed.
    """

    def __init__(self, t: TensorReader, kernels: Kernels, config: Config, width: int) -> None:
        d, layers = config.d_model, config.n_layers
        self._kernels, self._eps = kernels, config.norm_eps
        self._shape = -1, layers, width
        self._scales = 1 / math.sqrt(d), math.sqrt(width), 1 / math.sqrt(2)
        self.embedding = t.matrix("per_layer_token_embd.weight", config.n_vocab, layers * width)
        self.project = t.matrix("per_layer_model_proj.weight", layers * width, d)
        self.norm = t.array("per_layer_proj_norm.weight", width)

    def inputs(self, tokens: Int32, x: Float32) -> Float32:
        """``[T, layers, width]`` of tokens ``[T]`` and their scaled embeddings ``[T, d_model]``."""
        kernels = self._kernels
        of_x, of_token, of_both = self._scales
        (h,) = kernels.linear(x, self.project)
        h *= of_x
        h = kernels.rms_norm(h.reshape(self._shape), self.norm, self._eps)
        own = kernels.embedding(self.embedding, tokens).reshape(self._shape)
        own *= of_token
        h += own
        h *= of_both
        return h


class PerLayerInput:
    """norm(project(gelu(gate · x) ⊙ e)), which a layer adds to its residual at its end."""

    def __init__(
        self, t: TensorReader, kernels: Kernels, config: Config, layer: int, width: int
    ) -> None:
        d = config.d_model
        self._kernels, self._layer = kernels, layer
        self.gate = t.matrix("inp_gate.weight", width, d)
        self.project = t.matrix("proj.weight", d, width)
        self.norm = rms_norm(t, kernels, "post_norm", d, config.norm_eps)

    def forward(self, x: Float32, view: ViewWithInputs, wanted: Int64 | None) -> Float32:
        """Of the residual of the rows ``wanted``, ``[R, d_model]`` to the same."""
        kernels = self._kernels
        assert view.inputs is not None
        own = view.inputs[:, self._layer]
        (h,) = kernels.linear(x, self.gate)
        h = kernels.gated(h, contiguous(own if wanted is None else own[wanted]), "gelu_tanh")
        return self.norm(kernels.linear(h, self.project)[0])
