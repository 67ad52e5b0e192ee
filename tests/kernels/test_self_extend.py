"""Self-Extend in attention, against the paper's formula, and its identities."""

import numpy as np
import pytest

from motet.kernels import CPU, Kernels
from motet.kernels.interface import KV_TYPES, PagedKV
from motet.kernels.reference import Reference
from motet.self_extend import AutoExtend, SelfExtend, extend
from tests.kernels.test_attention import LATENT, SINKS, Case, rope_of, split_at

REFERENCE = Reference()
Setting = SelfExtend | AutoExtend
TRAINED = 100


class ExtendedCase(Case):
    """A case whose queries are extended by a setting, for a trained length of TRAINED."""

    def __init__(self, lengths: list[int], setting: Setting, **shape) -> None:
        super().__init__(lengths, **shape)
        self.setting = setting

    def view(self, kernels: Kernels, tokens: np.ndarray, held: np.ndarray) -> PagedKV:
        kv = super().view(kernels, tokens, held)
        return kv._replace(extended=extend(self.setting, kv.tables.positions, TRAINED))


SETTINGS = [
    SelfExtend(2, 4),
    SelfExtend(3, 4),
    SelfExtend(8, 64),
    SelfExtend(5, 37),
    SelfExtend(128, 30),
    SelfExtend(7, 70, scale="log"),
    AutoExtend(),
    AutoExtend(scale="log"),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ({}, {"rope": rope_of(32)}),
        ({"heads": 8, "kv_heads": 1, "head_dim": 48}, {"rope": rope_of(16, "normal", 1.1)}),
        ({"heads": 2, "head_dim": 16}, {"rope": rope_of(16), "softcap": 5.0}),
        ({}, {"rope": rope_of(32), "sinks": SINKS}),
        LATENT[0],
    ],
)
def test_equals_reference(cpu: CPU, setting: Setting, shape: dict, options: dict) -> None:
    case = ExtendedCase([3, 300, 65], setting, **shape)
    expected = case.run(REFERENCE, case.whole(), scale=0.2, **options)
    got = case.run(cpu, case.whole(), scale=0.2, **options)
    np.testing.assert_allclose(got, expected, atol=3e-5)
    plain = Case([3, 300, 65], **shape).run(cpu, case.whole(), scale=0.2, **options)
    assert np.abs(got - plain).max() > 1e-3


@pytest.mark.parametrize("kind", KV_TYPES)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_any_split_gives_the_same_bits(cpu: CPU, kind: str, setting: Setting) -> None:
    lengths = [1, 600, 64, 129]
    options = {"scale": 0.2, "rope": rope_of(32)}
    together = ExtendedCase(lengths, setting, kind=kind)
    together = together.run(cpu, together.whole(), **options)
    for seed, sizes in enumerate(([1], [7], [64], [3, 500])):
        again = ExtendedCase(lengths, setting, kind=kind)
        kernels = CPU(threads=1, isa=cpu.isa) if seed % 2 else cpu
        assert np.array_equal(again.run(kernels, split_at(again, sizes, seed), **options), together)


@pytest.mark.parametrize(
    "setting",
    [SelfExtend(1, 4), SelfExtend(1, 70), SelfExtend(9, 300), SelfExtend(3, 300, scale="log")],
    ids=str,
)
def test_identity_to_the_bit(cpu: CPU, setting: Setting) -> None:
    """Groups of one, and contexts within the window, are plain attention."""
    lengths = [3, 300, 65]
    options = {"scale": 0.2, "rope": rope_of(32)}
    case, plain = ExtendedCase(lengths, setting), Case(lengths)
    got = case.run(cpu, case.whole(), **options)
    expected = plain.run(cpu, plain.whole(), **options)
    within = case.positions < TRAINED  # beyond the trained length the log scale sets in
    assert np.array_equal(got[within], expected[within])
    if not setting.scale:
        assert np.array_equal(got, expected)
