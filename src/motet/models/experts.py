"""Mixtures of experts (Shazeer et al. 2017, arXiv 1701.06538)."""

from motet.arrays import Float32
from motet.kernels.interface import Kernels
from motet.kernels.routing import Routing
from motet.models.config import HeadsConfig
from motet.models.layers import FeedForward
from motet.models.tensors import TensorReader


class MixtureOfExperts:
    """Gated networks, of which a router chooses some for each token.

    ``routing``: how they are chosen, and what each counts. ``biased``: whether the file may have a
    bias for the choice. ``shared``: a network that every token goes to, added to the chosen ones.
    """

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        config: HeadsConfig,
        activation: str,
        routing: Routing,
        *,
        biased: bool = False,
        shared: FeedForward | None = None,
    ) -> None:
        count, d, ff = config.n_experts, config.d_model, config.d_ff
        self._kernels = kernels
        self._activation = activation
        self._routing = routing
        self._shared = shared
        self.router = t.matrix("ffn_gate_inp.weight", count, d)
        self.bias = t.optional_array("exp_probs_b.bias", count) if biased else None
        self.gate = t.experts("ffn_gate_exps.weight", count, ff, d)
        self.up = t.experts("ffn_up_exps.weight", count, ff, d)
        self.down = t.experts("ffn_down_exps.weight", count, d, ff)

    def forward(self, h: Float32) -> Float32:
        kernels = self._kernels
        (logits,) = kernels.linear(h, self.router)
        ids, weights = kernels.route(logits, self._routing, self.bias)
        out = kernels.experts(h, ids, weights, self.gate, self.up, self.down, self._activation)
        if self._shared is not None:
            out += self._shared.forward(h)
        return out
