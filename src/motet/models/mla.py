"""Multi-head latent attention (DeepSeek-AI 2024, arXiv 2405.04434, §2.1), in its absorbed form.

Keys and values of all heads are made of one latent vector a token, c = norm(W^DKV·h). The product
of a query's unrotated part with W^UK·c is that of W^UKᵀ·q with c, and the weighted sum of W^UV·c is
W^UV of the weighted sum of c: so a token's rotated key and c are all that a layer keeps, once, and
the heads attend to them as if to one key and value.
"""

from dataclasses import dataclass
from typing import cast

from motet.arrays import Float32, Int64
from motet.errors import UnsupportedError
from motet.kernels.interface import Kernels
from motet.kernels.rope import Rope
from motet.models.config import HeadsConfig
from motet.models.family import View
from motet.models.layers import contiguous
from motet.models.tensors import TensorReader
from motet.spec import FullAttention


@dataclass(frozen=True)
class LatentSizes:
    """Of latent attention: its widths, in channels."""

    kv: int
    """Of the latent vector that keys and values are made of."""
    rotary: int
    """Of the rotated part of a query, and of the key that all heads share."""
    q: int
    """Of the latent vector that queries are made of; 0 where they are made of the hidden state."""
    eps: float
    """Epsilon of the norms of latent vectors."""


class LatentAttention:
    """Heads of ``config.head_dim`` and ``config.value_dim``, the last of the former rotated.

    ``cache``: which of the layer's caches is its own.
    """

    def __init__(
        self,
        t: TensorReader,
        kernels: Kernels,
        layer: int,
        config: HeadsConfig,
        sizes: LatentSizes,
        *,
        rope: Rope | None,
        cache: int = 0,
    ) -> None:
        d, heads, kv, rotary = config.d_model, config.n_heads, sizes.kv, sizes.rotary
        self.caches = (FullAttention(1, rotary + kv, 0),)
        self._layer, self._cache = layer, cache
        self._kernels = kernels
        self._scale, self._rope, self._eps = config.attention_scale, rope, sizes.eps
        self._sizes, self._plain = sizes, config.head_dim - rotary
        self._q_shape, self._kv_shape = (-1, heads, config.head_dim), (-1, 1, rotary + kv)
        self._out_shape, self._width = (-1, heads, kv), heads * config.value_dim
        if sizes.q:
            self.q_a = t.matrix("attn_q_a.weight", sizes.q, d)
            self.q_norm = t.array("attn_q_a_norm.weight", sizes.q)
            self.q = t.matrix("attn_q_b.weight", heads * config.head_dim, sizes.q)
        else:
            self.q = t.matrix("attn_q.weight", heads * config.head_dim, d)
        self.kv = t.matrix("attn_kv_a_mqa.weight", kv + rotary, d)
        self.kv_norm = t.array("attn_kv_a_norm.weight", kv)
        self.k_b = t.experts("attn_k_b.weight", heads, kv, self._plain)
        self.v_b = t.experts("attn_v_b.weight", heads, config.value_dim, kv)
        self.output = t.matrix("attn_output.weight", d, self._width)

    def forward(self, h: Float32, view: View, wanted: Int64 | None) -> Float32:
        kernels, latent, plain = self._kernels, self._sizes.kv, self._plain
        if self._sizes.q:
            q, kv = kernels.linear(h, self.q_a, self.kv)
            (q,) = kernels.linear(kernels.rms_norm(q, self.q_norm, self._eps), self.q)
        else:
            q, kv = kernels.linear(h, self.q, self.kv)
        # The file has the latent part of a key first, the cache the rotated one.
        rotary = cast(Float32, kv[:, latent:].copy())
        normed = kernels.rms_norm(contiguous(kv[:, :latent]), self.kv_norm, self._eps)
        kv[:, : self._sizes.rotary], kv[:, self._sizes.rotary :] = rotary, normed
        q = q.reshape(self._q_shape)
        q = kernels.head_linear(q[..., :plain], self.k_b, before=q[..., plain:])
        h = kernels.attention(
            q,
            kv.reshape(self._kv_shape),
            None,
            view.cache(self._layer, self._cache),
            scale=self._scale,
            rope=self._rope,
            latent=latent,
        )
        h = (h if wanted is None else h[wanted]).reshape(self._out_shape)
        h = kernels.head_linear(h, self.v_b).reshape(-1, self._width)
        return kernels.linear(h, self.output)[0]


def unabsorbed(found: str) -> UnsupportedError:
    """For a file of latent attention that is not in the absorbed form."""
    return UnsupportedError(
        f"{found}: a conversion that keeps keys and values of every head",
        hint="convert the model again, with a llama.cpp of April 2025 or later",
    )
