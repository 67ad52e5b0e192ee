"""Rotary position embedding as data: frequencies, pairing, and a table of cosines and sines.

RoPE (Su et al. 2021, arXiv 2104.09864, eq. 15) rotates the channel pair (a, b) with frequency f at
position p into (a·cos(pf) − b·sin(pf), a·sin(pf) + b·cos(pf)). Only differences of positions
matter to a score, so attention rotates keys by their place in their page and queries by their
distance from the page's start: both angles come from this one table.
"""

import math

import numpy as np

from motet.arrays import Array, Float32
from motet.cached import cached_property
from motet.kernels.sizes import LANES, PAGE

_GROWTH = 1024
"""Distances by which the table grows."""
_LINE = 16
"""Numbers in a cache line."""


class Rope:
    """Rotation of the first ``rotary_dim`` channels of a head.

    ``inv_freq``: float64 ``[rotary_dim / 2]``, radians per position, every scaling (linear, YaRN,
    llama3, frequency factors) already applied. ``pairing``: "neox" pairs channel i with
    i + rotary_dim / 2, "normal" pairs 2i with 2i + 1. ``scale`` multiplies the rotated queries and
    the rotated keys (YaRN's attention factor).
    """

    def __init__(self, inv_freq: Array, pairing: str = "neox", scale: float = 1.0) -> None:
        if pairing not in ("neox", "normal"):
            raise ValueError(f"pairing is {pairing!r}, not 'neox' or 'normal'")
        self.inv_freq = np.asarray(inv_freq, np.float64)
        self.pairing = pairing
        self.scale = scale
        self.rotary_dim = 2 * len(self.inv_freq)
        padded = -(-len(self.inv_freq) // LANES) * LANES
        self._table = np.zeros((0, 2, padded), np.float32)
        self._grouped: dict[int, Float32] = {}

    @cached_property
    def places(self) -> Float32:
        """Cosines and sines of the places in a page, float32 ``[rotary_dim / 2, 2, PAGE]``.

        Made at the first use: a model whose file is only looked at has no need of them.
        """
        places = self.table(PAGE)[:PAGE, :, : len(self.inv_freq)]
        return _on_cache_lines(np.transpose(places, (2, 1, 0)))

    def table(self, count: int) -> Float32:
        """Cosines and sines, float32 ``[≥ count, 2, rotary_dim / 2 padded to LANES]``.

        Entry ``[d, 0, i]`` is cos(d · inv_freq[i]), ``[d, 1, i]`` the sine, computed in float64:
        the rotation by a distance of d positions, whatever the length of the table.
        """
        old = self._table
        if len(old) >= count:
            return old
        # Threads that make it longer at once do so each for itself: a lock would stay locked in a
        # fork, and equal distances have equal entries.
        count = -(-max(count, 2 * len(old)) // _GROWTH) * _GROWTH
        angles = np.arange(len(old), count)[:, None] * self.inv_freq
        new = np.zeros((count - len(old), 2, old.shape[2]), np.float32)
        new[:, 0, : len(self.inv_freq)] = np.cos(angles)
        new[:, 1, : len(self.inv_freq)] = np.sin(angles)
        table = np.concatenate([old, new])
        self._table = table
        return table

    def grouped_places(self, group: int) -> Float32:
        """As ``places``, where each ``group`` positions from the sequence's start share one place.

        float32 ``[group / gcd(group, PAGE), rotary_dim / 2, 2, PAGE]``: a page may begin anywhere
        in a group that is no divisor of its size; entry i is for pages whose start is
        i · gcd(group, PAGE) positions into a group.
        """
        places = self._grouped.get(group)
        if places is None:
            step = math.gcd(group, PAGE)
            table = self.table(PAGE)
            starts = np.arange(0, group, step)[:, None]
            at = (starts + np.arange(PAGE)) // group
            turns = table[at][..., : len(self.inv_freq)]
            places = _on_cache_lines(np.transpose(turns, (0, 3, 2, 1)))
            self._grouped[group] = places
        return places


def _on_cache_lines(values: Array) -> Float32:
    """A copy, float32 in C order, that begins on a cache line.

    A kernel reads 64 bytes at once, every key of every block; off the lines each costs two reads,
    and where NumPy puts an array is chance.
    """
    raw = np.empty(values.size + _LINE, np.float32)
    first = -raw.ctypes.data % (4 * _LINE) // 4
    out = raw[first : first + values.size].reshape(values.shape)
    out[:] = values
    return out
