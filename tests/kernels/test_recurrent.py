"""Recurrent kernels against their definition, and the solo law at any division into runs."""

import numpy as np
import pytest

from motet.kernels import CPU
from motet.kernels.interface_recurrent import Runs
from motet.kernels.reference import Reference
from tests.kernels.recurrent_cases import LAYERS, Layer, convolution, normal, runs_of, shift

REFERENCE = Reference()
LENGTHS = (1, 5, 23, 40)
each_layer = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)


def alone(cpu: CPU, layer: Layer, rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and last state of one sequence in one run, from zeros."""
    states = layer.states(1)
    count = len(rows[0])
    out = layer.call(cpu, rows, states, runs_of(range(count), [count], [-1], [0]))
    return out, states[0]


def one(rows: list[np.ndarray]) -> Runs:
    """All in one run, from zeros."""
    return runs_of(range(len(rows[0])), [len(rows[0])], [-1], [0])


def strided(rows: list[np.ndarray]) -> list[np.ndarray]:
    """The same arrays as columns of one wide array, with something between them."""
    wide = np.concatenate([np.pad(x, ((0, 0), (3, 2)), constant_values=7.0) for x in rows], axis=1)
    ends = np.cumsum([x.shape[1] + 5 for x in rows])
    return [wide[:, e - x.shape[1] - 2 : e - 2] for e, x in zip(ends, rows, strict=True)]


@each_layer
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_equals_reference(cpu: CPU, layer: Layer, scale: float) -> None:
    order = np.random.default_rng(1).permutation(33)
    runs = runs_of(order, [1, 30, 2], [4, -1, 0], [4, 2, 1])
    rows = layer.tokens(33, scale=scale)
    expected_states = layer.states(6)
    expected = layer.call(REFERENCE, rows, expected_states, runs)
    states = layer.states(6)
    got = layer.call(cpu, strided(rows), states, runs)
    for one, other in ((got, expected), (states, expected_states)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=4e-6 * np.abs(other).max(initial=1))
    assert np.array_equal(states[[0, 3, 5]], layer.states(6)[[0, 3, 5]])


@each_layer
def test_a_sequence_is_the_same_in_chunks_and_steps(cpu: CPU, layer: Layer) -> None:
    rows = layer.tokens(40)
    expected, last = alone(cpu, layer, rows)
    for sizes in ([1], [2], [3], [7], [1, 13, 2]):
        states, at, piece = layer.states(3), 0, 0
        out = np.empty_like(expected)
        while at < 40:
            stop = min(40, at + sizes[piece % len(sizes)])
            read = -1 if at == 0 else piece % 2
            write = (piece + 1) % 2
            some = [x[at:stop] for x in rows]
            runs = runs_of(range(stop - at), [stop - at], [read], [write])
            out[at:stop] = layer.call(cpu, some, states, runs)
            at, piece = stop, piece + 1
        assert np.array_equal(out, expected), sizes
        assert np.array_equal(states[piece % 2], last), sizes


@each_layer
@pytest.mark.parametrize("seed", range(6))
def test_a_sequence_is_the_same_among_others(cpu: CPU, layer: Layer, seed: int) -> None:
    """Random interleavings, chunks and slots, in place or not, on one thread and on two."""
    rng = np.random.default_rng(seed)
    kernels = CPU(threads=1, isa=cpu.isa) if seed % 2 else cpu
    rows = [layer.tokens(n, seed=10 * i) for i, n in enumerate(LENGTHS)]
    expected = [alone(cpu, layer, own) for own in rows]
    states = layer.states(12)
    slots, done = [-1] * len(LENGTHS), [0] * len(LENGTHS)
    outs = [np.empty_like(out) for out, _ in expected]
    while any(d < n for d, n in zip(done, LENGTHS, strict=True)):
        open_ones = [i for i, n in enumerate(LENGTHS) if done[i] < n]
        chosen = rng.permutation(open_ones)[: rng.integers(1, len(open_ones) + 1)]
        counts = [int(rng.integers(1, min(9, LENGTHS[i] - done[i]) + 1)) for i in chosen]
        places = np.split(rng.permutation(sum(counts)), np.cumsum(counts)[:-1])
        places = [np.sort(place) for place in places]
        free = iter(rng.permutation([s for s in range(12) if s not in slots]))
        write = [
            slots[i] if slots[i] >= 0 and rng.random() < 0.5 else int(next(free)) for i in chosen
        ]
        batch = [np.empty((sum(counts), w), np.float32) for w in layer.widths]
        for i, place in zip(chosen, places, strict=True):
            for whole, own in zip(batch, rows[i], strict=True):
                whole[place] = own[done[i] : done[i] + len(place)]
        runs = runs_of(np.concatenate(places), counts, [slots[i] for i in chosen], write)
        out = layer.call(kernels, strided(batch) if seed % 3 else batch, states, runs)
        for i, place, slot in zip(chosen, places, write, strict=True):
            outs[i][done[i] : done[i] + len(place)] = out[place]
            done[i] += len(place)
            slots[i] = slot
    for i, (out, last) in enumerate(expected):
        assert np.array_equal(outs[i], out), LENGTHS[i]
        assert np.array_equal(states[slots[i]], last), LENGTHS[i]


@each_layer
@pytest.mark.parametrize("seed", range(4))
def test_runs_that_go_on_from_each_other_keep_every_state(
    cpu: CPU, layer: Layer, seed: int
) -> None:
    """Chains of runs of any lengths, among others: as one call a run."""
    rng = np.random.default_rng(seed)
    kernels = CPU(threads=1, isa=cpu.isa) if seed % 2 else cpu
    chains = [rng.integers(1, most, rng.integers(1, 7)).tolist() for most in (2, 2, 4, 9)]
    lengths = [length for chain in chains for length in chain]
    rows = layer.tokens(sum(lengths))
    order, slots = rng.permutation(len(rows[0])), rng.permutation(len(lengths) + 2)
    places = np.split(order, np.cumsum(lengths)[:-1])
    read, write = [], slots[: len(lengths)].tolist()
    for first, chain in zip(np.cumsum([0, *map(len, chains)]), chains, strict=False):
        read += [int(rng.choice([-1, slots[-1]])), *write[first : first + len(chain) - 1]]
    states, expected_states = layer.states(len(slots)), layer.states(len(slots))
    expected = np.empty((len(order), layer.call(cpu, rows, layer.states(1), one(rows)).shape[1]))
    for place, before, after in zip(places, read, write, strict=True):
        runs = runs_of(range(len(place)), [len(place)], [before], [after])
        expected[place] = layer.call(cpu, [x[place] for x in rows], expected_states, runs)
    got = layer.call(kernels, strided(rows), states, runs_of(order, lengths, read, write))
    assert np.array_equal(got, expected)
    assert np.array_equal(states, expected_states)
    reference_states = layer.states(len(slots))
    reference = layer.call(REFERENCE, rows, reference_states, runs_of(order, lengths, read, write))
    for one_of, other in ((got, reference), (states, reference_states)):
        close = 4e-6 * np.abs(other).max(initial=1)
        np.testing.assert_allclose(one_of, other, rtol=1e-5, atol=close)


@each_layer
def test_forks_read_one_slot(cpu: CPU, layer: Layer) -> None:
    rows = layer.tokens(30)
    states = layer.states(4)
    layer.call(cpu, [x[:10] for x in rows], states, runs_of(range(10), [10], [-1], [2]))
    base = states[2].copy()
    order = [*range(0, 20, 2), *range(1, 20, 2)]
    forked = layer.call(
        cpu, [x[10:] for x in rows], states, runs_of(order, [10, 10], [2, 2], [3, 0])
    )
    assert np.array_equal(states[2], base)
    for first, slot in ((0, 3), (1, 0)):
        own = [np.concatenate([x[:10], x[10 + first :: 2]]) for x in rows]
        out, last = alone(cpu, layer, own)
        assert np.array_equal(forked[first::2], out[10:])
        assert np.array_equal(states[slot], last)


@each_layer
def test_avx2_and_avx512_agree_to_the_bit(cpu: CPU, layer: Layer) -> None:
    if cpu.isa != "avx512":
        pytest.skip("compares AVX-512 with AVX2")
    for scale in (1.0, 30.0):
        rows = layer.tokens(40, scale=scale)
        both = [alone(kernels, layer, rows) for kernels in (cpu, CPU(threads=1, isa="avx2"))]
        assert np.array_equal(both[0][0], both[1][0])
        assert np.array_equal(both[0][1], both[1][1])


@each_layer
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_broken_number_stays_in_its_run(cpu: CPU, layer: Layer, value: float) -> None:
    rows = layer.tokens(20)
    expected, last = alone(cpu, layer, [x[10:] for x in rows])
    for x in rows:
        x[4, 0] = value
    states = layer.states(2)
    out = layer.call(cpu, rows, states, runs_of(range(20), [10, 10], [-1, -1], [1, 0]))
    assert not np.isfinite(out[:10]).all()
    assert np.array_equal(out[10:], expected)
    assert np.array_equal(states[0], last)


@each_layer
def test_no_tokens(cpu: CPU, layer: Layer) -> None:
    states = layer.states(1)
    out = layer.call(cpu, layer.tokens(0), states, runs_of([], [], [], []))
    assert len(out) == 0
    assert np.array_equal(states, layer.states(1))


@each_layer
def test_shapes_are_checked(cpu: CPU, layer: Layer) -> None:
    runs = runs_of([0, 1], [2], [-1], [0])
    states = layer.states(2)
    rows = layer.tokens(2)
    for i, width in enumerate(layer.widths):
        for bad in (normal(2, width + 1), normal(3, width), normal(2, width)[:, ::-1]):
            if bad.strides[1] == 4 or width > 1:
                with pytest.raises(ValueError, match=r"shapes|follow|counts"):
                    layer.call(cpu, [*rows[:i], bad, *rows[i + 1 :]], states, runs)
    wrong_states = [normal(2, *layer.state, 1), states.astype(np.float64)]
    if states.size:
        wrong_states.append(np.concatenate([states, states])[::2])
    for wrong in wrong_states:
        with pytest.raises(ValueError, match="shapes"):
            layer.call(cpu, rows, wrong, runs)


@pytest.mark.parametrize(
    ("runs", "match"),
    [
        (runs_of([0, 1], [1, 1], [-1, -1], [0, 0]), "one slot"),
        (runs_of([0, 1], [1, 1], [1, -1], [0, 1]), "another writes"),
        (runs_of([0, 1], [1, 1], [-1, 0], [0, 0]), "one slot"),
        (runs_of([0, 1], [2], [5], [0]), "beyond"),
        (runs_of([0, 1], [2], [-2], [0]), "beyond"),
        (runs_of([0, 1], [2], [0], [-1]), "beyond"),
        (runs_of([0, 0], [2], [0], [0]), "order"),
        (runs_of([0, 2], [2], [0], [0]), "order"),
        (runs_of([0, 1], [2, 0], [0, 1], [0, 1]), "empty"),
        (runs_of([0, 1], [1], [0], [0]), "counts"),
        (runs_of([0], [1], [0], [0]), "counts"),
        (runs_of([0, 1], [2], [0, 1], [0]), "counts"),
    ],
)
def test_runs_are_checked(cpu: CPU, runs: Runs, match: str) -> None:
    layer = shift(8)
    with pytest.raises(ValueError, match=match):
        layer.call(cpu, layer.tokens(2), layer.states(2), runs)


def test_an_unknown_activation_is_refused(cpu: CPU) -> None:
    layer = convolution(8, 4, True, "gelu_erf")
    with pytest.raises(ValueError, match="gelu_erf"):
        layer.call(cpu, layer.tokens(1), layer.states(1), runs_of([0], [1], [-1], [0]))


@pytest.mark.parametrize("channels", [1, 40, 600])
def test_mix(cpu: CPU, channels: int) -> None:
    x, shifted = normal(70, channels), normal(70, channels, seed=1)
    several = normal(6, 1, channels, seed=2)
    got = cpu.mix(x, shifted, several)
    assert np.array_equal(got, [cpu.mix(x, shifted, t[0]) for t in several])
    np.testing.assert_allclose(got, REFERENCE.mix(x, shifted, several), rtol=1e-5, atol=1e-6)
    for t in (normal(channels, seed=2), normal(70, channels, seed=2)):
        got = cpu.mix(x, shifted, t)
        np.testing.assert_allclose(got, REFERENCE.mix(x, shifted, t), rtol=1e-5, atol=1e-6)
        own = t if t.ndim == 1 else t[3:4]
        assert np.array_equal(cpu.mix(x[3:4], shifted[3:4], own), got[3:4])
    for wrong in (normal(channels + 1), normal(69, channels), normal(2, 70, channels)):
        with pytest.raises(ValueError, match="mix"):
            cpu.mix(x, shifted, wrong)
