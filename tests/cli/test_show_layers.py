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
    layers = open_family(path, Reference()).caches
    specs = [spec for layer in layers for spec in layer]
    shapes = [shape for spec in specs if isinstance(spec, Recurrent) for shape in spec.shapes]
    sliding = [spec for spec in specs if isinstance(spec, SlidingAttention)]
    assert memory["constant"] == 4 * sum(map(math.prod, shapes))
    assert memory["attending"] == [
        i
        for i, layer in enumerate(layers)
        if any(not isinstance(spec, Recurrent) for spec in layer)
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


def test_latent_attention_is_stored_once(tmp_path: Path) -> None:
    """DeepSeek-2's: its rotated part and its latent part a token and layer, 576 in real models."""
    changes = {"kv_lora_rank": 512, "key_length": 576, "value_length": 512}
    sizes = {f"attention__{name}": value for name, value in changes.items()}
    keys = tiny.metadata(
        "deepseek2", **sizes, rope__dimension_count=64, attention__key_length_mla=96
    )
    path = tiny.write(tmp_path / "m.gguf", keys)
    for kv_type, bytes_each in (("f32", 4), ("f16", 2), ("q8_0", 1 + 2 / 32)):
        memory = context(path, "--ctx", "640", "--kv-type", kv_type)
        assert memory["per_token"] == 3 * 576 * bytes_each
        assert memory["total"] == 640 * memory["per_token"]
    text = show(path).stdout
    assert "24; 3 of 8 experts a token in 2 of the layers" in text
    assert "64 of 96 channels" in text


def test_layers_that_draft_are_told(tmp_path: Path) -> None:
    keys = tiny.metadata("deepseek2", block_count=4, nextn_predict_layers=1)
    path = tiny.write(tmp_path / "m.gguf", keys)
    assert "4, the last 1 of which draft tokens and are not run" in show(path).stdout
    assert context(path)["attending"] == [0, 1, 2]
