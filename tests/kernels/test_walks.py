"""Walks through weights that were measured on this processor: kept, taken, or left aside."""

import json
import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

from motet.cli import main
from motet.kernels import CPU, walks
from motet.kernels.walks import HEIGHTS, LOADS, Measured, keep_walks, kept_walks, walks_file

ISA = "avx2"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("MOTET_WALK", raising=False)


def some(strips: int = 2) -> list[Measured]:
    return [
        Measured(type, rows, (1, 0, 1), (strips, 512, 1), 0.9) for type in LOADS for rows in HEIGHTS
    ]


def test_what_is_kept_is_found_again() -> None:
    assert kept_walks(ISA) is None
    assert keep_walks(ISA, some()) == walks_file()
    keep_walks("avx512", some(4))
    assert kept_walks(ISA) == (((2, 512, 1),) * len(HEIGHTS),) * len(LOADS)
    assert kept_walks("avx512") == (((4, 512, 1),) * len(HEIGHTS),) * len(LOADS)
    assert kept_walks("amx") is None


def test_of_another_processor_nothing_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_walks(ISA, some())
    monkeypatch.setattr(walks, "processor_name", lambda: "another")
    assert kept_walks(ISA) is None
    keep_walks("avx512", some())
    monkeypatch.undo()


@pytest.mark.parametrize(
    "wrong", ["", "[]", "{", '{"processor": 1', "walks", "[[[3, 0, 1]]]", "\x00", "[" * 50_000]
)
def test_a_broken_file_is_left_aside_with_a_warning(
    wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    keep_walks(ISA, some())
    walks_file().write_text(wrong)
    with caplog.at_level(logging.WARNING, "motet"):
        assert kept_walks(ISA) is None
    assert "left aside" in caplog.text
    keep_walks(ISA, some())
    assert kept_walks(ISA) is not None


@pytest.mark.parametrize(
    "walk", [[3, 0, 1], [1, -1, 1], [1, 0, 3], [1, 0], 7, ["1", 0, 1], [1, 0.5, 1], [1, 1 << 40, 1]]
)
def test_walks_that_no_kernel_has_are_left_aside(
    walk: object, caplog: pytest.LogCaptureFixture
) -> None:
    keep_walks(ISA, some())
    kept = json.loads(walks_file().read_text())
    kept[ISA][2][3] = walk
    walks_file().write_text(json.dumps(kept))
    assert kept_walks(ISA) is None
    assert "no walk" in caplog.text


def test_kernels_take_what_was_measured() -> None:
    kernels = CPU(1)
    before = kernels._native.tuning()
    try:
        keep_walks(kernels.isa, some())
        assert {tuple(w) for heights in CPU(1)._native.tuning().walks for w in heights} == {
            (2, 512, 1)
        }
    finally:
        kernels._native.set_tuning(before)


def test_the_command_measures_keeps_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "_BEYOND_CACHES", 1)
    monkeypatch.setattr(walks, "TURNS", 1)
    kernels = CPU(1)
    before = kernels._native.tuning()
    done = CliRunner().invoke(main, ["tune", "-t", "1"], standalone_mode=False)
    assert done.exit_code == 0, done.output
    assert kernels._native.tuning().walks == before.walks
    assert "BF16" in done.output
    assert kept_walks(kernels.isa) is not None
    done = CliRunner().invoke(main, ["tune", "--forget"], standalone_mode=False)
    assert done.exit_code == 0
    assert kept_walks(kernels.isa) is None
