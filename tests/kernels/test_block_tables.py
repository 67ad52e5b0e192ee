"""What describes attention to the native kernels: checked where it is made, shared among layers."""

from typing import Any

import numpy as np
import pytest

from motet.kernels import CPU, PAGE, Rope
from motet.kernels.interface import PagedKV
from motet.self_extend import SelfExtend, extend
from tests.kernels.test_attention import Case, rope_of

FAR = 2_000_000 // 512 * 512
"""A distance that moves no key to another place of its page, chunk or group (of up to 512)."""


@pytest.fixture
def case() -> Case:
    return Case([130, 20])


def whole_view(cpu: CPU, case: Case) -> Any:
    return case.view(cpu, np.arange(len(case.q)), np.array(case.lengths))


def arrays_of(kv: PagedKV) -> dict[str, np.ndarray]:
    names = ("tables", "masks", "rows", "positions", "slots")
    return {name: getattr(kv.tables, name).copy() for name in names}


def test_shared_blocks_give_the_same_bits_whatever_becomes_of_the_arrays(
    cpu: CPU, case: Case
) -> None:
    expected = case.run(cpu, case.whole(), scale=0.2)
    kv = whole_view(cpu, case)
    given = arrays_of(kv)
    kv = kv._replace(tables=cpu.block_tables(**given))
    for array in given.values():
        array[...] = 99
    for _ in range(2):
        assert np.array_equal(cpu.attention(case.q, case.k, case.v, kv, scale=0.2), expected)


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("rows", 3, 2),
        ("rows", 3, -1),
        ("positions", 3, 3 * PAGE),
        ("positions", 3, -1),
        ("slots", 3, -1),
    ],
)
def test_a_token_beyond_the_tables_is_refused(
    cpu: CPU, case: Case, name: str, at: int, value: int
) -> None:
    given = arrays_of(whole_view(cpu, case))
    given[name][at] = value
    with pytest.raises(ValueError, match="block tables"):
        cpu.block_tables(**given)


@pytest.mark.parametrize("name", ["masks", "rows", "positions", "slots"])
def test_arrays_that_do_not_belong_together_are_refused(cpu: CPU, case: Case, name: str) -> None:
    given = arrays_of(whole_view(cpu, case))
    given[name] = given[name][:-1].copy()
    with pytest.raises(ValueError, match="block tables"):
        cpu.block_tables(**given)


@pytest.mark.parametrize("name", ["tables", "slots"])
def test_a_page_beyond_the_pool_is_refused(cpu: CPU, case: Case, name: str) -> None:
    given = arrays_of(whole_view(cpu, case))
    given[name].flat[0] = case.pages.pages * (PAGE if name == "slots" else 1)
    kv = whole_view(cpu, case)._replace(tables=cpu.block_tables(**given))
    with pytest.raises(ValueError, match="beyond the pool"):
        cpu.attention(case.q, case.k, case.v, kv, scale=0.2)


def test_a_page_that_no_token_sees_is_not_looked_at(cpu: CPU, case: Case) -> None:
    expected = case.run(cpu, case.whole(), scale=0.2)
    given = arrays_of(whole_view(cpu, case))
    given["tables"][1, 1:] = case.pages.pages + 5  # beyond the 20 tokens of the second sequence
    kv = whole_view(cpu, case)._replace(tables=cpu.block_tables(**given))
    assert np.array_equal(cpu.attention(case.q, case.k, case.v, kv, scale=0.2), expected)


def test_arrays_of_another_shape_are_refused(cpu: CPU, case: Case) -> None:
    native = cpu._native
    kv = whole_view(cpu, case)
    q, k, v = case.q, case.k, case.v
    for wrong in (
        (q[:-1], k, v),
        (q, k[:-1], v),
        (q, k, v[:-1]),
        (q[:, :3], k, v),
        (q[:, :0], k, v),
        (q[:, :, :16].copy(), k, v),
        (q, k[:, :1].copy(), v),
        (q, k, v[:, :, :16].copy()),
    ):
        with pytest.raises(ValueError, match="attention"):
            cpu.attention(wrong[0].copy(), wrong[1].copy(), wrong[2].copy(), kv, scale=0.2)
    with pytest.raises(ValueError, match="wider"):
        cpu.attention(q, k, v, kv, scale=0.2, rope=rope_of(64))
    with pytest.raises(ValueError, match="pages"):
        native.KVPages(case.pages.buffer, 2, 32, 33, 0)
    with pytest.raises(ValueError, match="kind"):
        native.KVPages(case.pages.buffer, 2, 32, 32, 4)
    rope = rope_of(32)
    with pytest.raises(ValueError, match="rotary"):
        native.Rotary(rope.table(1), rope.places[:, :, :-1].copy(), False, 1.0)


def attention(cpu: CPU, case: Case, rotary: Any, extend: Any, window: int = 0) -> np.ndarray:
    native = cpu._native
    pages = native.KVPages(case.pages.buffer, 2, 32, 32, 0)
    tables = whole_view(cpu, case).tables.native
    out = np.empty((len(case.q), 4 * 32), np.float32)
    native.attention(
        cpu._pool,
        case.q,
        case.k,
        case.v,
        pages,
        tables,
        rotary,
        extend,
        0.2,
        window,
        0.0,
        None,
        0,
        None,
        out,
    )
    return out


def test_a_rotation_table_that_is_too_short_is_refused(cpu: CPU, case: Case) -> None:
    native, rope = cpu._native, rope_of(32)

    def rotary(count: int) -> Any:
        return native.Rotary(rope.table(count)[:count], rope.places, False, 1.0)

    attention(cpu, case, rotary(130), None)
    with pytest.raises(ValueError, match="too short"):
        attention(cpu, case, rotary(129), None)
    attention(cpu, case, rotary(7 + PAGE - 1), None, window=7)
    with pytest.raises(ValueError, match="too short"):
        attention(cpu, case, rotary(7 + PAGE - 2), None, window=7)
    stage = np.zeros(150, np.int32)
    extended = native.SelfExtend(4, [(2, rope.grouped_places(2))], stage, None)
    attention(cpu, case, rotary(max(4 + PAGE - 1, 129 // 2 + 2 + 1)), extended)
    with pytest.raises(ValueError, match="too short"):
        attention(cpu, case, rotary(129 // 2 + 2), extended)


def test_half_a_self_extend_is_refused(cpu: CPU, case: Case) -> None:
    native, rope = cpu._native, rope_of(32)
    stage, places = np.zeros(150, np.int32), rope.grouped_places(2)
    for wrong in (
        (0, [(2, places)], stage, None),
        (4, [(0, places)], stage, None),
        (4, [(3, places)], stage, None),
        (4, [], stage, None),
        (4, [(2, places)], stage + 1, None),
        (4, [(2, places)], stage - 1, None),
        (4, [(2, places)], stage, np.ones(149, np.float32)),
    ):
        with pytest.raises(ValueError, match="Self-Extend"):
            native.SelfExtend(*wrong)
    rotary = native.Rotary(rope.table(200), rope.places, False, 1.0)
    good = native.SelfExtend(4, [(2, places)], stage, None)
    for turns, extended in (
        (None, good),
        (rotary, native.SelfExtend(4, [(2, places)], stage[:-1].copy(), None)),
        (rotary, native.SelfExtend(4, [(2, rope_of(16).grouped_places(2))], stage, None)),
    ):
        with pytest.raises(ValueError, match="Self-Extend"):
            attention(cpu, case, turns, extended)


def far_call(
    cpu: CPU, start: int, rope: Rope, setting: SelfExtend | None, window: int
) -> np.ndarray:
    """Attention of four tokens from ``start`` + 700 on; the sequence's tokens are from start on."""
    rng = np.random.default_rng(0)
    pages = cpu.allocate_pages(12, 1, 32, 32, "f32")
    tables = np.full((1, (start + 703) // PAGE + 1), -1, np.int32)
    masks = np.zeros(tables.shape, np.uint64)
    tables[0, start // PAGE :] = np.arange(tables.shape[1] - start // PAGE)
    masks[tables >= 0] = ~np.uint64(0)
    assert pages.values is not None
    pages.keys[...] = rng.standard_normal(pages.keys.shape)
    pages.values[...] = rng.standard_normal(pages.values.shape)
    positions = np.arange(start + 700, start + 704, dtype=np.int32)
    slots = tables[0, positions // PAGE].astype(np.int64) * PAGE + positions % PAGE
    rows = np.zeros(4, np.int32)
    kv = PagedKV(pages, cpu.block_tables(tables, masks, rows, positions, slots))
    if setting is not None:
        kv = kv._replace(extended=extend(setting, positions, 100))
    q, k, v = (rng.standard_normal((4, heads, 32)).astype(np.float32) for heads in (2, 1, 1))
    return cpu.attention(q, k, v, kv, scale=0.2, window=window, rope=rope)


@pytest.mark.parametrize(
    ("setting", "window", "entries"),
    [
        (None, 300, 300 + PAGE),
        (SelfExtend(512, 64), 0, FAR // 512 + 64 + PAGE),
        (SelfExtend(256, 300), 0, FAR // 256 + 300 + PAGE),
    ],
    ids=str,
)
def test_a_rotation_table_is_as_long_as_distances_not_positions(
    cpu: CPU, setting: SelfExtend | None, window: int, entries: int
) -> None:
    """At position two million, and the same bits as near the start of a sequence."""
    near, far = rope_of(32), rope_of(32)
    expected = far_call(cpu, 0, near, setting, window)
    assert np.array_equal(far_call(cpu, FAR, far, setting, window), expected)
    assert len(far.table(0)) <= entries + 1024
