"""What ``motet show`` says of recurrent layers, hybrids and experts."""

import math
import re
from pathlib import Path

import pytest

from motet.kernels.reference import Reference
from motet.spec import Recurrent, SlidingAttention
from tests.cli.test_show import LLAMA, MAMBA, context, facts, model, show
from tests.models import tiny
from tests.models.running import open_family


def test_recurrent_memory_is_constant(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf", "mamba", MAMBA)
    memory = context(path, "--ctx", "1000000")
    assert memory["total"] == memory["constant"] == 24 * 4 * (3 * 1536 + 16 * 1536)
    assert memory["per_token"] == 0
    assert "constant at any length" in show(path, "--ctx", "9").stdout


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_memory_is_what_the_family_declares(tmp_path: Path, architecture: str) -> None:
    path = tiny.write(tmp_path / "m.gguf", tiny.metadata(architecture))
    memory = context(path)
    specs = [spec for (spec,) in open_family(path, Reference()).caches]
    shapes = [shape for spec in specs if isinstance(spec, Recurrent) for shape in spec.shapes]
    sliding = [spec for spec in specs if isinstance(spec, SlidingAttention)]
    assert memory["constant"] == 4 * sum(map(math.prod, shapes))
    assert memory["attending"] == [
        i for i, spec in enumerate(specs) if not isinstance(spec, Recurrent)
    ]
    assert memory["sliding_layers"] == len(sliding)
    assert memory["window"] == (sliding[0].window if sliding else 0)


def test_recurrent_layers_are_said_to_be(tmp_path: Path) -> None:
    text = show(model(tmp_path / "m.gguf", "mamba", MAMBA), "--ctx", "9").stdout
    assert "24, all recurrent: 2.67 MiB of states a sequence" in text
    assert re.search(r"attention heads +none *\n", text)


def test_a_hybrid_has_both(tmp_path: Path) -> None:
    keys = MAMBA | LLAMA | {"block_count": 3, "attention.head_count_kv": [0, 2, 0]}
    path = model(tmp_path / "m.gguf", "jamba", keys)
    memory = context(path, "--ctx", "64")
    states = 2 * 4 * (3 * 1536 + 16 * 1536)
    assert memory["constant"] == states
    assert memory["total"] == states + 64 * 2 * 128 * 2
    assert memory["attending"] == [1]
    text = show(path).stdout
    assert "3; counted from 0, layer 1 attends, the others are recurrent: 228.00 KiB" in text


def test_experts(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.gguf", tiny.metadata("jamba"))
    shown = facts(path)
    assert (shown["experts"], shown["experts_used"], shown["expert_layers"]) == (4, 2, 2)
    text = show(path).stdout
    assert "24; 2 of 4 experts a token in 2 of the layers" in text
    assert "layers 1, 3 attend" in text


@pytest.mark.parametrize(
    ("architecture", "layers"), [("llama", "2, 2 of them"), ("gemma2", "2, 1 of them")]
)
def test_sliding_layers_are_told_at_a_glance(
    tmp_path: Path, architecture: str, layers: str
) -> None:
    keys = tiny.metadata(architecture, attention__sliding_window=16)
    path = tiny.write(tmp_path / "m.gguf", keys)
    assert f"{layers} with a window of 16" in show(path).stdout
