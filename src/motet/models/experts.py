"""Mixtures of experts (Shazeer et al. 2017, arXiv 1701.06538)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from motet.arrays import Float32
from motet.errors import UnsupportedError
from motet.kernels.interface import Kernels, Matrix
from motet.kernels.routing import Routing
from motet.models.config import Config, HeadsConfig
from motet.models.keys import MAX_WIDTH, Keys
from motet.models.layers import FeedForward, GatedMLP
from motet.models.tensors import TensorReader

_GATING = {1: "softmax", 2: "sigmoid"}
"""``expert_gating_func``, as llama.cpp numbers them."""
_LEAST = 1e-20
"""Added to the sum by which weights are divided, as in DeepSeek's code."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Layers whose feed-forward network is a mixture of experts, all but the first ones."""

    routing: Routing
    d_ff: int
    """Channels of an expert."""
    shared_d_ff: int = 0
    """Of a network that every token goes to; 0 where there is none."""
    shared_gate: bool = False
    """Whether that network's output is multiplied by the sigmoid of a number of each token."""
    dense_layers: int = 0
    """First layers without experts; their network has ``d_ff`` of the config."""
    latent: int = 0
    """Channels that experts read and write; 0: the model's own."""


class MixtureOfExperts:
    """Networks, of which a router chooses some for each token.

    ``routing``: how they are chosen, and what each counts. ``biased``: whether the file may have a
    bias for the choice. ``biases``: whether router and experts have those that products have.
    ``gated``: whether they are gated networks. ``latent``: if not 0, experts read so many channels
    made of the input, and channels are made of the sum of what they write.
    ``shared``: a network that every token goes to, added to the chosen ones.
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
        biases: bool = False,
        gated: bool = True,
        latent: int = 0,
        shared: FeedForward | None = None,
    ) -> None:
        count, d, ff = config.n_experts, config.d_model, config.d_ff
        width = latent or d
        self._kernels = kernels
        self._activation = activation
        self._routing = routing
        self._shared = shared
        self.router = t.matrix("ffn_gate_inp.weight", count, d)
        self.bias = t.optional_array("exp_probs_b.bias", count) if biased else None
        self.router_biases = (t.array("ffn_gate_inp.bias", count),) if biases else ()
        self.latent_down = t.matrix("ffn_latent_down.weight", latent, d) if latent else None
        self.latent_up = t.matrix("ffn_latent_up.weight", d, latent) if latent else None
        if gated:
            self.gate, self.up = gates_and_ups(t, count, ff, width)
        else:
            self.gate, self.up = None, t.experts("ffn_up_exps.weight", count, ff, width)
        self.down = t.experts("ffn_down_exps.weight", count, width, ff)
        sizes = {"gate": ff, "up": ff, "down": width} if biases else {}
        self.biases = [t.array(f"ffn_{name}_exps.bias", count, n) for name, n in sizes.items()]

    def forward(self, h: Float32) -> Float32:
        kernels = self._kernels
        (logits,) = kernels.linear(h, self.router, biases=self.router_biases)
        ids, weights = kernels.route(logits, self._routing, self.bias)
        x = h if self.latent_down is None else kernels.linear(h, self.latent_down)[0]
        matrices = self.gate, self.up, self.down
        out = kernels.experts(x, ids, weights, *matrices, self._activation, self.biases)
        if self.latent_up is not None:
            (out,) = kernels.linear(out, self.latent_up)
        if self._shared is not None:
            out += self._shared.forward(h)
        return out


def gates_and_ups(
    t: TensorReader, count: int, rows: int, columns: int, *, together: bool = False
) -> tuple[Sequence[Matrix], Sequence[Matrix]]:
    """Gates and what they are multiplied by, which files have in one tensor or in two.

    ``together``: which of them a file with neither lacks.
    """
    one, two = "ffn_gate_up_exps.weight", "ffn_gate_exps.weight"
    if t.has(one) or (together and not t.has(two)):
        return t.expert_pairs(one, count, rows, columns)
    gates = t.experts(two, count, rows, columns)
    return gates, t.experts("ffn_up_exps.weight", count, rows, columns)


class Gated:
    """A network whose output is multiplied by σ(w · x), a number for each token."""

    def __init__(
        self, t: TensorReader, kernels: Kernels, config: Config, inner: FeedForward
    ) -> None:
        self._kernels = kernels
        self._inner = inner
        self.gate = t.matrix("ffn_gate_inp_shexp.weight", 1, config.d_model)

    def forward(self, h: Float32) -> Float32:
        out = self._inner.forward(h)
        out *= self._kernels.activate(self._kernels.linear(h, self.gate)[0], "sigmoid")
        return out


def feed_forward(
    t: TensorReader, kernels: Kernels, config: HeadsConfig, mixture: Mixture | None, layer: int
) -> FeedForward:
    """The gated network of a layer, or its experts, where ``mixture`` has some for it."""
    if mixture is None or layer < mixture.dense_layers:
        return GatedMLP(t, kernels, config, "silu")
    shared: FeedForward | None = None
    if mixture.shared_d_ff:
        wide = replace(config, d_ff=mixture.shared_d_ff)
        shared = GatedMLP(t, kernels, wide, "silu", suffix="_shexp")
        if mixture.shared_gate:
            shared = Gated(t, kernels, config, shared)
    expert = replace(config, d_ff=mixture.d_ff)
    return MixtureOfExperts(t, kernels, expert, "silu", mixture.routing, biased=True, shared=shared)


def read_mixture(keys: Keys, sizes: Config, *, normalised: bool = False) -> Mixture | None:
    """The keys of a mixture as DeepSeek has it; None where the model has no experts.

    ``normalised``: whether weights are shares of 1 where the file does not say.
    """
    dense = keys.integer("leading_dense_block_count", 0, sizes.n_layers, 0)
    if not sizes.n_experts:
        return None
    width = keys.integer("expert_feed_forward_length", 1, MAX_WIDTH)
    return Mixture(
        routing=read_routing(keys, sizes.n_experts, sizes.n_experts_used, normalised=normalised),
        d_ff=width,
        shared_d_ff=keys.integer("expert_shared_count", 0, 64, 0) * width,
        dense_layers=dense,
    )


def read_routing(
    keys: Keys, experts: int, used: int, *, gating: int = 1, normalised: bool = False
) -> Routing:
    """How DeepSeek's kind of mixture is routed.

    ``gating``, ``normalised``: its function, and whether weights are, if the file does not say.
    """
    gating = keys.integer("expert_gating_func", 0, 255, gating) or gating
    if gating not in _GATING:
        raise UnsupportedError(
            f"{keys.key('expert_gating_func')} is {gating}",
            hint=f"Motet knows 1 (softmax) and 2 (sigmoid) for {keys.architecture}",
        )
    groups = keys.integer("expert_group_count", 0, experts, 1) or 1
    # V2 takes the groups with the best expert (its §2.2.2), V3 those with the best two (its
    # §2.1.2); the file says which only by how experts are scored.
    routing = Routing(
        used,
        scores=_GATING[gating],
        groups=groups,
        groups_used=keys.integer("expert_group_used_count", 0, groups, 1) or 1,
        group_best=2 if groups > 1 and gating == 2 else 1,
        weights="normalised" if keys.flag("expert_weights_norm", normalised) else "scores",
        epsilon=_LEAST,
        scale=keys.positive("expert_weights_scale", 1.0, or_zero=True) or 1.0,
    )
    if not routing.fits(experts):
        raise keys.wrong(
            "expert_group_count", groups, f"groups of {experts} experts from which to take {used}"
        )
    return routing
