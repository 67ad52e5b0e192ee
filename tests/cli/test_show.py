import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motet.cli import main
from motet.cli.output import amount, printable
from motet.machine import format_bytes
from motet.models.registry import FAMILIES
from tests.shared import SHARED, needs_shared
from tests.weights.gguf_bytes import ARRAY, STRING, Tensor, small_file, write

UINT32, FLOAT32, BOOL = 4, 6, 7
PARITY = SHARED / "parity"


def show(path: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["show", str(path), *options], catch_exceptions=False)


def facts(path: Path, *options: str) -> dict:
    result = show(path, "--json", *options)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def model(
    path: Path, architecture: str, keys: Mapping[str, object], quantised: bool = True
) -> Path:
    """A file with these ``architecture.*`` keys and one matrix."""
    pairs: list[tuple[str | bytes, int, object]] = [("general.architecture", STRING, architecture)]
    for key, value in keys.items():
        if isinstance(value, list):
            kind = BOOL if isinstance(value[0], bool) else UINT32
            pairs.append((f"{architecture}.{key}", ARRAY, (kind, value)))
        else:
            kind = {bool: BOOL, float: FLOAT32}.get(type(value), UINT32)
            pairs.append((f"{architecture}.{key}", kind, value))
    matrix = Tensor("w", (32, 1), 8 if quantised else 0, 0, bytes(34 if quantised else 128))
    path.write_bytes(write(pairs, [matrix]).data)
    return path


LLAMA = {
    "block_count": 16,
    "context_length": 131072,
    "embedding_length": 2048,
    "feed_forward_length": 8192,
    "attention.head_count": 32,
    "attention.head_count_kv": 8,
    "attention.layer_norm_rms_epsilon": 1e-5,
}
LLAMA_SLIDING = LLAMA | {"attention.sliding_window": 4096}
GEMMA2 = {
    "block_count": 26,
    "context_length": 8192,
    "embedding_length": 2304,
    "feed_forward_length": 9216,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.head_count": 8,
    "attention.head_count_kv": 4,
    "attention.key_length": 256,
    "attention.value_length": 256,
    "attention.sliding_window": 4096,
}
GEMMA3 = GEMMA2 | {
    "attention.head_count_kv": 1,
    "attention.sliding_window": 512,
    "rope.freq_base": 1e6,
}
MAMBA = {
    "block_count": 24,
    "context_length": 1048576,
    "embedding_length": 768,
    "attention.head_count": 0,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "ssm.time_step_rank": 48,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 1536,
    "ssm.state_size": 16,
}


def context(path: Path, *options: str) -> dict:
    return facts(path, *options)["context"]


@pytest.mark.parametrize(
    ("kv_type", "of_one_value"), [("f32", 4), ("f16", 2), ("bf16", 2), ("q8_0", 34 / 32)]
)
def test_memory_of_full_attention(tmp_path: Path, kv_type: str, of_one_value: float) -> None:
    path = model(tmp_path / "m.gguf", "llama", LLAMA)
    memory = context(path, "--ctx", "640", "--kv-type", kv_type)
    token = 16 * 8 * (64 + 64) * of_one_value
    assert memory["total"] == 640 * token
    assert memory["per_token"] == token
    assert (memory["tokens"], memory["kv_type"], memory["constant"]) == (640, kv_type, 0)


def test_memory_comes_in_pages_of_64_tokens(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf", "llama", LLAMA)
    one, page, more = (context(path, "--ctx", n)["total"] for n in ("1", "64", "65"))
    assert one == page
    assert more == 2 * page


@pytest.mark.parametrize(("quantised", "kv_type"), [(True, "f16"), (False, "f32")])
def test_what_auto_means(tmp_path: Path, quantised: bool, kv_type: str) -> None:
    path = model(tmp_path / "m.gguf", "llama", LLAMA, quantised)
    assert context(path)["kv_type"] == kv_type
    assert context(path)["tokens"] == 131072


@pytest.mark.parametrize(
    ("architecture", "keys", "sliding"),
    [
        ("llama", LLAMA_SLIDING, 16),
        ("gemma2", GEMMA2, 13),
        ("gemma3", GEMMA3, 22),
        ("gemma3", GEMMA3 | {"attention.sliding_window_pattern": 2}, 13),
        ("gemma3", GEMMA3 | {"attention.sliding_window_pattern": [True] * 20 + [False] * 6}, 20),
    ],
)
def test_sliding_layers_keep_their_window(
    tmp_path: Path, architecture: str, keys: dict[str, int], sliding: int
) -> None:
    path = model(tmp_path / "m.gguf", architecture, keys)
    window = keys["attention.sliding_window"]
    layers, channels = keys["block_count"], keys.get("attention.key_length", 64)
    token = keys["attention.head_count_kv"] * 2 * channels * 2
    memory = context(path, "--ctx", "65536")
    assert (memory["sliding_layers"], memory["window"]) == (sliding, window)
    # A page more than the window, so that the latest tokens can be taken back.
    assert memory["total"] == token * (sliding * (window + 64) + (layers - sliding) * 65536)
    assert memory["per_token"] == token * (layers - sliding)
    short = context(path, "--ctx", "256")
    assert short["total"] == token * layers * 256


def test_memory_of_an_architecture_that_motet_does_not_run(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf", "bloom", LLAMA)
    assert context(path) == {"unknown": "Motet does not run this architecture"}
    assert re.search(
        r"context memory +unknown: Motet does not run this architecture", show(path).stdout
    )


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({}, "the file has no key llama.block_count"),
        (
            LLAMA | {"block_count": 1 << 31},
            "llama.block_count is 2147483648, not a whole number from 1 to",
        ),
        (
            LLAMA | {"attention.head_count": [8, 8]},
            "llama.attention.head_count is [8, 8], not one value, or one for each of 16 layers",
        ),
        (
            LLAMA | {"decoder_block_count": 2},
            "keys that Motet does not know for llama: llama.decoder_block_count = 2",
        ),
        (
            LLAMA | {"attention.head_count_kv": 0},
            "llama.attention.head_count_kv is 0, not a whole number from 1 to",
        ),
    ],
)
def test_memory_that_is_unknown(tmp_path: Path, keys: dict, problem: str) -> None:
    path = model(tmp_path / "m.gguf", "llama", keys)
    assert problem in context(path, "--ctx", "64")["unknown"]
    result = show(path, "--ctx", "64")
    assert result.exit_code == 0
    assert "unknown: " in result.stdout


def test_memory_that_no_machine_has(tmp_path: Path) -> None:
    keys = {"attention.head_count": 1 << 12, "attention.head_count_kv": 1 << 12}
    keys |= {"attention.key_length": 1 << 16, "block_count": 1}
    path = model(tmp_path / "m.gguf", "llama", LLAMA | keys)
    assert context(path, "--ctx", "65536")["total"] >= (1 << 12) * (1 << 16) * 65536 * 2 * 2


def test_a_file_that_does_not_name_its_context(tmp_path: Path) -> None:
    keys = {key: value for key, value in LLAMA.items() if key != "context_length"}
    assert "how long a context" in context(model(tmp_path / "m.gguf", "llama", keys))["unknown"]


def test_tensors_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(small_file().data)
    text = show(path, "--tensors", "--metadata").stdout
    assert "blk.0.deep.weight" in text
    assert "2 × 3 × 2" in text
    assert "[1, -2, 3]" in text
    listed = facts(path, "--tensors", "--metadata")
    assert [row["name"] for row in listed["tensors"]][:2] == [
        "token_embd.weight",
        "output_norm.weight",
    ]
    assert listed["tensors"][0] == {
        "name": "token_embd.weight",
        "shape": [3, 64],
        "type": "Q4_0",
        "bytes": 108,
        "offset": 768,
        "path": str(path),
    }
    assert listed["metadata"]["u64"] == 2**64 - 1
    assert listed["parameters"] == 3 * 64 + 5 + 12 + 1
    assert {row["type"]: row["tensors"] for row in listed["tensor_types"]} == {
        "F32": 2,
        "Q4_0": 1,
        "F16": 1,
    }
    assert "tensors" not in facts(path)


def test_long_values_are_abbreviated_for_people_only(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    template = "\n".join(f"line {n}" for n in range(30))
    numbers = [float(n) for n in range(1000)] + [math.inf, math.nan]
    pairs: list[tuple[str | bytes, int, object]] = [
        ("numbers", ARRAY, (FLOAT32, numbers)),
        ("tokenizer.chat_template", STRING, template),
    ]
    path.write_bytes(write(pairs, []).data)
    text = show(path, "--metadata").stdout
    assert "1002 values: [0.0, 1.0, " in text
    assert "line 7" in text
    assert "line 8" not in text
    assert "… 22 lines more" in text
    whole = facts(path, "--metadata")
    assert whole["metadata"]["numbers"] == [*numbers[:1000], "inf", "nan"]
    assert whole["metadata"]["tokenizer.chat_template"] == template
    assert whole["chat_template"] is True


def test_a_long_name_is_never_cut(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    name = "blk.0." + "x" * 500
    path.write_bytes(write([], [Tensor(name, (8,), 0, 0, bytes(32))]).data)
    text = show(path, "--tensors").stdout
    assert text.count("x") >= 500
    assert "…" not in text


def test_a_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(write([("general.name", STRING, b"\x1b[2Jhi\x07\xff")], []).data)
    text = show(path, "--metadata").stdout
    assert "\x1b" not in text
    assert "\\x1b[2Jhi\\x07\\udcff" in text


keys = st.sampled_from([*LLAMA, *GEMMA2, *MAMBA, "vocab_size", "attention.causal", "x"])
scalars = st.one_of(
    st.tuples(st.just(10), st.integers(0, 2**64 - 1)),
    st.tuples(st.just(11), st.integers(-(2**63), 70)),
    st.tuples(st.just(12), st.floats()),
    st.tuples(st.just(BOOL), st.booleans()),
    st.tuples(st.just(STRING), st.text(max_size=9)),
)
values = st.one_of(
    scalars, st.lists(scalars, max_size=3).map(lambda s: (ARRAY, (ARRAY, [(k, [v]) for k, v in s])))
)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    pairs=st.dictionaries(keys, values, max_size=8),
    architecture=st.sampled_from(["llama", "gemma2", "", "mamba"]),
    options=st.sampled_from([[], ["--json"], ["--ctx", "1099511627776"]]),
)
def test_any_metadata_is_shown_or_refused(
    tmp_path: Path, pairs: dict, architecture: str, options: list[str]
) -> None:
    path = tmp_path / "m.gguf"
    listed: list[tuple[str | bytes, int, object]] = [
        ("general.architecture", STRING, architecture),
        *((f"{architecture}.{key}", kind, value) for key, (kind, value) in pairs.items()),
    ]
    path.write_bytes(write(listed, []).data)
    result = show(path, "--metadata", *options)
    assert result.exit_code == 0


def test_numbers_for_people() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1024, 1_630_000_000, 1 << 50)] == [
        "0 B",
        "1023 B",
        "1.00 KiB",
        "1.52 GiB",
        "1024.00 TiB",
    ]
    assert [amount(n) for n in (0, 999, 1000, 46_600, 270_000_000, 2_614_341_888, 10**15)] == [
        "0",
        "999",
        "1.00 K",
        "46.6 K",
        "270 M",
        "2.61 B",
        "1000 T",
    ]
    assert printable("a\tb\n日本 é\x9b") == "a\\tb\n日本 é\\x9b"


@needs_shared
@pytest.mark.parametrize(
    "path", sorted(SHARED.rglob("*.gguf")), ids=lambda p: str(p.relative_to(SHARED))
)
def test_real_files(path: Path) -> None:
    shown = facts(path, "--tensors")
    assert shown["architecture"] in show(path).stdout
    assert shown["layers"] > 0
    assert shown["vocabulary"] > 100
    assert sum(row["bytes"] for row in shown["tensor_types"]) <= shown["bytes"]
    assert shown["parameters"] == sum(int(np.prod(row["shape"])) for row in shown["tensors"])
    assert ("unknown" in shown["context"]) == (shown["architecture"] not in FAMILIES)
