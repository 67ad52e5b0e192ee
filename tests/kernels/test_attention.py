"""Paged attention against its definition, and the solo law inside one call."""

import numpy as np
import pytest

from motet.errors import NumericalError
from motet.kernels import CPU, PAGE, Kernels, Rope
from motet.kernels.interface import KV_TYPES, PagedKV
from motet.kernels.reference import Reference

REFERENCE = Reference()


class Case:
    """Some sequences in scattered pages, and the queries, keys and values of all their tokens."""

    def __init__(
        self,
        lengths: list[int],
        *,
        heads: int = 4,
        kv_heads: int = 2,
        head_dim: int = 32,
        value_dim: int = 32,
        latent: int = 0,
        kind: str = "f32",
        seed: int = 0,
    ) -> None:
        """``latent``: so many channels of a key are its value, and there are no others."""
        rng = np.random.default_rng(seed)
        self.lengths = lengths
        width = max(-(-n // PAGE) for n in lengths)
        count = len(lengths) * width + 3
        self.latent, stored = latent, 0 if latent else value_dim
        self.pages = REFERENCE.allocate_pages(count, kv_heads, head_dim, stored, kind)
        pages = rng.permutation(count)[: len(lengths) * width]
        self.tables = np.ascontiguousarray(pages.reshape(len(lengths), width), np.int32)
        shape = (sum(lengths), heads, head_dim)
        self.q = rng.standard_normal(shape).astype(np.float32)
        self.k = rng.standard_normal((shape[0], kv_heads, head_dim)).astype(np.float32)
        self.v = rng.standard_normal((shape[0], kv_heads, value_dim)).astype(np.float32)
        self.rows = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        self.positions = np.concatenate([np.arange(n, dtype=np.int32) for n in lengths])

    def view(self, kernels: Kernels, tokens: np.ndarray, held: np.ndarray) -> PagedKV:
        """``tokens`` as a micro-batch, when ``held`` positions of each row are valid after it."""
        bits = np.arange(self.tables.shape[1] * PAGE) < held[:, None]
        masks = np.packbits(bits, axis=1, bitorder="little").view(np.uint64)
        rows, positions = self.rows[tokens], self.positions[tokens]
        page = self.tables[rows, positions // PAGE].astype(np.int64)
        slots = page * PAGE + positions % PAGE
        return PagedKV(self.pages, kernels.block_tables(self.tables, masks, rows, positions, slots))

    def run(self, kernels: Kernels, parts: list[np.ndarray], **options) -> np.ndarray:
        """Attention over ``parts``, one micro-batch after another, in the order of the tokens."""
        held = np.zeros(len(self.lengths), np.int64)
        width = self.latent or self.v.shape[2]
        out = np.zeros((len(self.q), self.q.shape[1] * width), np.float32)
        for tokens in parts:
            np.maximum.at(held, self.rows[tokens], self.positions[tokens] + 1)
            q, k, v = (np.ascontiguousarray(x[tokens]) for x in (self.q, self.k, self.v))
            kv = self.view(kernels, tokens, held)
            value = None if self.latent else v
            out[tokens] = kernels.attention(q, k, value, kv, latent=self.latent, **options)
        return out

    def whole(self) -> list[np.ndarray]:
        return [np.arange(len(self.q))]


def rope_of(dim: int, pairing: str = "neox", scale: float = 1.0) -> Rope:
    return Rope(10000.0 ** (-np.arange(0, dim, 2) / dim), pairing, scale)


SINKS = np.array([0.3, -2.0, 4.0, 1.0], np.float32)
LATENT = (
    # Few heads and many, and no whole number of vectors or scales.
    ({"heads": 16, "kv_heads": 1, "head_dim": 96, "latent": 64}, {"rope": rope_of(32, "normal")}),
    ({"heads": 3, "kv_heads": 1, "head_dim": 44, "latent": 37}, {"rope": rope_of(6, "normal")}),
    ({"heads": 40, "kv_heads": 2, "head_dim": 34, "latent": 33}, {"window": 70, "softcap": 4.0}),
)
"""Keys that are values too."""


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ({"heads": 4, "kv_heads": 4}, {}),
        ({"heads": 8, "kv_heads": 1}, {"window": 50}),
        ({"heads": 4, "kv_heads": 2, "head_dim": 256, "value_dim": 256}, {"softcap": 5.0}),
        ({"head_dim": 33, "value_dim": 17}, {"window": 7, "softcap": 3.0}),
        ({"head_dim": 80, "value_dim": 48}, {"rope": rope_of(32, "normal")}),
        ({"head_dim": 64, "value_dim": 64}, {"rope": rope_of(64, scale=1.2)}),
        ({"head_dim": 6, "value_dim": 1}, {"rope": rope_of(6, "normal"), "window": 64}),
        ({"head_dim": 24}, {"rope": rope_of(24), "sinks": SINKS}),
        ({"head_dim": 33, "value_dim": 17}, {"window": 7, "softcap": 3.0, "sinks": SINKS}),
        *LATENT,
    ],
)
def test_equals_reference(cpu: CPU, shape: dict, options: dict) -> None:
    case = Case([3, 200, 65], **shape)
    expected = case.run(REFERENCE, case.whole(), scale=0.2, **options)
    got = case.run(cpu, case.whole(), scale=0.2, **options)
    np.testing.assert_allclose(got, expected, atol=3e-5)


@pytest.mark.parametrize("kind", KV_TYPES)
def test_kinds_store_what_the_reference_stores(cpu: CPU, kind: str) -> None:
    cases = [Case([130, 20], head_dim=48, value_dim=40, kind=kind) for _ in range(2)]
    outs = [
        case.run(kernels, case.whole(), scale=0.2, rope=rope_of(48))
        for case, kernels in zip(cases, (REFERENCE, cpu), strict=True)
    ]
    np.testing.assert_allclose(outs[1], outs[0], atol=3e-5)
    held = cases[0].view(REFERENCE, np.arange(150), np.array([130, 20]))
    page, slot = np.divmod(held.tables.slots, PAGE)
    for a, b in zip(*(case.pages.arrays.values() for case in cases), strict=True):
        assert np.array_equal(a[page, slot], b[page, slot])


def split_at(case: Case, sizes: list[int], seed: int) -> list[np.ndarray]:
    """All tokens in a random interleaving of their sequences, cut into pieces of ``sizes``."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(case.rows)
    starts = np.concatenate([[0], np.cumsum(case.lengths)])
    tokens = np.empty(len(order), np.int64)
    for row in range(len(case.lengths)):
        tokens[order == row] = np.arange(starts[row], starts[row + 1])
    parts, at = [], 0
    while at < len(tokens):
        size = sizes[len(parts) % len(sizes)]
        parts.append(tokens[at : at + size])
        at += size
    return parts


@pytest.mark.parametrize("kind", KV_TYPES)
@pytest.mark.parametrize(("shape", "options"), LATENT)
def test_values_that_are_a_part_of_the_keys(
    cpu: CPU, kind: str, shape: dict, options: dict
) -> None:
    """They take no memory, and are the keys' last channels as these are stored."""
    case, apart = Case([130, 20], kind=kind, **shape), Case([130, 20], kind=kind, **shape)
    latent, dim = case.latent, case.pages.head_dim
    assert {"values", "value_scales"}.isdisjoint(case.pages.arrays)
    scales = 2 * -(-dim // 32) if kind == "q8_0" else 0
    size = {"f32": 4, "q8_0": 1}.get(kind, 2)
    assert case.pages.page_bytes == PAGE * case.pages.kv_heads * (dim * size + scales)
    got = case.run(cpu, case.whole(), scale=0.2, **options)
    np.testing.assert_allclose(
        got, apart.run(REFERENCE, apart.whole(), scale=0.2, **options), atol=3e-5
    )
    if kind == "q8_0":
        return  # whose scales are of other channels where values stand apart
    apart.latent, apart.v = 0, np.ascontiguousarray(case.k[..., dim - latent :])
    apart.pages = REFERENCE.allocate_pages(case.pages.pages, case.pages.kv_heads, dim, latent, kind)
    assert np.array_equal(apart.run(cpu, apart.whole(), scale=0.2, **options), got)


def test_latent_values_that_do_not_fit(cpu: CPU) -> None:
    case = Case([3], heads=4, kv_heads=1, head_dim=32, latent=16)
    for latent, rope in ((33, None), (16, rope_of(18))):
        case.latent = latent
        with pytest.raises(ValueError, match="do not fit into keys"):
            case.run(cpu, case.whole(), scale=0.2, rope=rope)
    case.latent = 16
    kv = case.view(cpu, np.arange(3), np.array([3]))
    with pytest.raises(ValueError, match="values do not fit"):
        cpu.attention(case.q, case.k, case.k, kv, scale=0.2)
    plain = Case([3], kv_heads=1)
    kv = plain.view(cpu, np.arange(3), np.array([3]))
    with pytest.raises(ValueError, match="values do not fit"):
        cpu.attention(plain.q, plain.k, None, kv, scale=0.2, latent=16)


@pytest.mark.parametrize("kind", KV_TYPES)
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ({}, {"rope": rope_of(32)}),
        ({}, {"rope": rope_of(32), "window": 70, "softcap": 4.0}),
        ({}, {"rope": rope_of(32), "window": 70, "sinks": SINKS}),
        *LATENT[:2],
    ],
)
def test_any_split_gives_the_same_bits(cpu: CPU, kind: str, shape: dict, options: dict) -> None:
    lengths = [1, 700, 64, 129, 515]
    options = {"scale": 0.2, **options}
    case = Case(lengths, kind=kind, **shape)
    together = case.run(cpu, case.whole(), **options)
    at = 0
    for i, n in enumerate(lengths):
        alone = Case(lengths, kind=kind, **shape)
        tokens = np.arange(at, at + n)
        assert np.array_equal(alone.run(cpu, [tokens], **options)[tokens], together[tokens]), i
        at += n
    for seed, sizes in enumerate(([1], [7], [64], [3, 500])):
        again = Case(lengths, kind=kind, **shape)
        one_thread = CPU(threads=1, isa=cpu.isa)
        kernels = one_thread if seed % 2 else cpu
        assert np.array_equal(again.run(kernels, split_at(again, sizes, seed), **options), together)


def test_sinks_take_a_share_of_attention_and_give_nothing(cpu: CPU) -> None:
    case = Case([700, 65])
    options = {"scale": 0.2, "rope": rope_of(32)}
    plain = case.run(cpu, case.whole(), **options)
    none = np.full(4, -np.inf, np.float32)
    assert np.array_equal(case.run(cpu, case.whole(), **options, sinks=none), plain)
    # Of one key, whose score is s, values count e^s / (e^s + e^sink).
    with_sinks = case.run(cpu, case.whole(), **options, sinks=SINKS).reshape(-1, 4, 32)
    for row in (0, 700):
        scores = 0.2 * np.einsum("hd,hd->h", case.q[row], np.repeat(case.k[row], 2, axis=0))
        share = 1 / (1 + np.exp(SINKS - scores))
        np.testing.assert_allclose(
            with_sinks[row], share[:, None] * plain[row].reshape(4, 32), rtol=2e-5, atol=1e-7
        )
    large = case.run(cpu, case.whole(), **options, sinks=np.full(4, 1e30, np.float32))
    assert not large.any()
    for wrong in (np.nan, np.inf):
        sinks = np.array([0, 0, wrong, 0], np.float32)
        got = case.run(cpu, case.whole(), **options, sinks=sinks).reshape(-1, 4, 32)
        assert np.isnan(got[:, 2]).all() and np.isfinite(got[:, :2]).all()
    with pytest.raises(ValueError, match="sinks of other heads"):
        case.run(cpu, case.whole(), **options, sinks=SINKS[:3])


@pytest.mark.parametrize("kind", KV_TYPES)
@pytest.mark.parametrize(
    ("shape", "options"), [({}, {"rope": rope_of(32), "window": 70, "softcap": 4.0}), *LATENT[:2]]
)
def test_what_was_stored_is_read_again(cpu: CPU, kind: str, shape: dict, options: dict) -> None:
    """Any rows, in any order and number, are given what they were when all was stored."""
    case = Case([130, 20, 1], kind=kind, **shape)
    whole = case.run(cpu, case.whole(), scale=0.2, **options)
    options = {**options, "scale": 0.2, "latent": case.latent}
    before = case.pages.buffer.copy()
    for count in (0, 1, 40, 151):
        rows = np.random.default_rng(count).permutation(151)[:count]
        kv, q = case.view(cpu, rows, np.array(case.lengths)), case.q[rows]
        read = cpu.attention(q, None, None, kv, **options)
        assert np.array_equal(read, whole[rows])
        if count:
            defined = REFERENCE.attention(q, None, None, kv, **options)
            np.testing.assert_allclose(read, defined, atol=3e-5)
    assert np.array_equal(case.pages.buffer, before)
    with pytest.raises(ValueError, match="values without keys"):
        cpu.attention(q, None, case.v, kv, **options)


def test_gaps_and_stale_pages_change_nothing(cpu: CPU) -> None:
    """Keys whose bit is not set are as if they were not there, whatever their page holds."""
    case = Case([200])
    case.run(cpu, case.whole(), scale=0.2)
    last = np.array([199])
    seen = case.view(REFERENCE, last, np.array([200])).tables
    seen.masks[0, 1] = 0
    seen.masks[0, 0] &= np.uint64(0xFFFF0000FFFF0000)
    arrays = seen.tables, seen.masks, seen.rows, seen.positions, seen.slots
    masked = [PagedKV(case.pages, kernels.block_tables(*arrays)) for kernels in (cpu, REFERENCE)]
    q, k, v = case.q[last], case.k[last], case.v[last]
    got = cpu.attention(q, k, v, masked[0], scale=0.2)
    expected = REFERENCE.attention(q, k, v, masked[1], scale=0.2)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    stale = Case([200])
    buffer = stale.pages.buffer
    buffer[:] = np.random.default_rng(5).integers(0, 60, buffer.shape)
    assert np.array_equal(
        stale.run(cpu, stale.whole(), scale=0.2), case.run(cpu, case.whole(), scale=0.2)
    )


@pytest.mark.parametrize(("kind", "value"), [("f16", 1e5), ("f32", np.nan), ("bf16", np.inf)])
def test_a_number_beyond_the_pool_is_refused(cpu: CPU, kind: str, value: float) -> None:
    case = Case([3], kind=kind)
    case.k[1, 0, 5] = value
    with pytest.raises(NumericalError, match=kind):
        case.run(cpu, case.whole(), scale=0.2)
    assert np.isfinite(case.pages.keys.astype(np.float32)).all()


def test_tables_for_keys_begin_on_cache_lines() -> None:
    """So that no vector that is read for a block's keys lies on two of them."""
    for dim in (8, 24, 64):
        r = rope_of(dim)
        tables = [r.places, *(r.grouped_places(group) for group in (1, 3, 5, 8, 96))]
        assert all(t.ctypes.data % 64 == 0 and t.flags.c_contiguous for t in tables)
        assert np.array_equal(r.grouped_places(1)[0], r.places)
