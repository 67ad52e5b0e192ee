"""Sound small directories, and what strangers may make of them."""

import json
import os
import socket
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from motet.errors import MotetError
from motet.models.registry import declared
from motet.opening import open_model
from tests.hostile import harness
from tests.huggingface.making import header, safetensors, write

Attack = Callable[[Path], object]
CONFIG: dict[str, Any] = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "num_local_experts": 3,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "vocab_size": 32,
}
MAMBA: dict[str, Any] = {
    "model_type": "mamba2",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "state_size": 4,
    "num_heads": 4,
    "head_dim": 4,
    "n_groups": 2,
    "conv_kernel": 3,
    "expand": 2,
    "layer_norm_epsilon": 1e-5,
    "time_step_limit": [0.0, float("inf")],
    "tie_word_embeddings": True,
    "vocab_size": 16,
}
DEEPSEEK: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "hidden_size": 16,
    "intermediate_size": 8,
    "moe_intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "kv_lora_rank": 6,
    "q_lora_rank": 5,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 2,
    "v_head_dim": 3,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_nextn_predict_layers": 0,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000.0,
    "tie_word_embeddings": True,
    "vocab_size": 16,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [4, 4]},
}


def mixtral(folder: Path) -> Path:
    """A decoder with attention and experts, in two files by an index."""
    d, ff = 16, 24
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (32, d), "lm_head": (32, d)}
    shapes["model.norm"] = (d,)
    for i in range(2):
        at = f"model.layers.{i}."
        shapes |= {f"{at}{name}_layernorm": (d,) for name in ("input", "post_attention")}
        shapes |= {f"{at}self_attn.{n}_proj": (d if n in "qo" else d // 2, d) for n in "qkvo"}
        shapes[at + "block_sparse_moe.gate"] = (3, d)
        for e in range(3):
            at = f"model.layers.{i}.block_sparse_moe.experts.{e}."
            shapes |= {at + "w1": (ff, d), at + "w2": (d, ff), at + "w3": (ff, d)}
    return write(folder, CONFIG, _random(shapes), shards=2)


def mamba2(folder: Path) -> Path:
    """A scan, in one file."""
    shapes: dict[str, tuple[int, ...]] = {"backbone.embeddings": (16, 8), "backbone.norm_f": (8,)}
    at = "backbone.layers.0."
    conv = 16 + 2 * 2 * 4
    shapes |= {at + "norm": (8,), at + "mixer.norm": (16,), at + "mixer.conv1d": (conv, 1, 3)}
    shapes |= {at + "mixer.in_proj": (16 + conv + 4, 8), at + "mixer.out_proj": (8, 16)}
    tensors = _random(shapes)
    rest = {"A_log": 4, "D": 4, "dt_bias": 4, "conv1d.bias": conv}
    tensors |= {f"{at}mixer.{name}": np.zeros(n, np.float32) for name, n in rest.items()}
    return write(folder, MAMBA, tensors)


def deepseek(folder: Path) -> Path:
    """Latent attention; one matrix in FP8, with scales."""
    d, at = 16, "model.layers.0."
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (16, d), "model.norm": (d,)}
    shapes |= {f"{at}{name}_layernorm": (d,) for name in ("input", "post_attention")}
    shapes |= {f"{at}self_attn.q_a_proj": (5, d), f"{at}self_attn.q_b_proj": (12, 5)}
    shapes |= {f"{at}self_attn.q_a_layernorm": (5,), f"{at}self_attn.kv_a_layernorm": (6,)}
    shapes |= {f"{at}self_attn.kv_a_proj_with_mqa": (8, d), f"{at}self_attn.kv_b_proj": (14, 6)}
    shapes |= {f"{at}self_attn.o_proj": (d, 6), f"{at}mlp.down_proj": (d, 8)}
    shapes |= {f"{at}mlp.{name}_proj": (8, d) for name in ("gate", "up")}
    tensors = _random(shapes)
    name = f"{at}mlp.down_proj.weight"
    tensors[name] = np.full((d, 8), 0x38, np.uint8)
    tensors[name + "_scale_inv"] = np.ones((4, 2), np.float32)
    return write(folder, DEEPSEEK, tensors)


SOUND = {"mixtral": mixtral, "mamba2": mamba2, "deepseek": deepseek}


def _random(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"{n}.weight": rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}


def _config(text: str | bytes) -> Attack:
    data = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
    return lambda folder: (folder / "config.json").write_bytes(data)


def _changed(**changes: Any) -> Attack:
    def attack(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(config))

    return attack


def _sparse(name: str, size: int, start: bytes = b"") -> Attack:
    """So many bytes that take no room on the disk."""

    def attack(folder: Path) -> None:
        (folder / name).write_bytes(start)
        os.truncate(folder / name, size)

    return attack


def _instead(name: str, make: Attack) -> Attack:
    """``make`` is given the path ``name``, where nothing is any more."""

    def attack(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return attack


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # for the length of its name
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _loop(path: Path) -> None:
    other = path.with_name("other")
    path.symlink_to(other)
    other.symlink_to(path)


def _outside(path: Path) -> None:
    secret = path.parent.parent / "secret"
    secret.write_bytes(json.dumps(CONFIG).encode())
    path.symlink_to(secret)


_OTHERS: dict[str, Attack] = {
    "link to /etc/passwd": lambda path: path.symlink_to("/etc/passwd"),
    "link outside": _outside,
    "link outside, relative": lambda path: path.symlink_to("../../../../../etc/passwd"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "links in a circle": _loop,
    "FIFO": lambda path: os.mkfifo(path),
    "socket": _socket,
    "folder": lambda path: path.mkdir(),
    "empty": lambda path: path.touch(),
}
_ONE = {"x.weight": np.zeros((4, 4), np.float32)}
_ENTRY = header(_ONE)["x.weight"]


def _file(data: bytes) -> Attack:
    """Weights in one file, which has these bytes."""

    def attack(folder: Path) -> None:
        for old in folder.glob("model*"):
            old.unlink()
        (folder / "model.safetensors").write_bytes(data)

    return attack


def _entries(**changes: Any) -> Attack:
    return _file(safetensors(_ONE, {"x.weight": _ENTRY | changes}))


def _index(weight_map: Any) -> Attack:
    text = json.dumps({"weight_map": weight_map})
    return lambda folder: (folder / "model.safetensors.index.json").write_text(text)


def _pickled(folder: Path) -> None:
    """Bytes that write a file when they are unpickled."""
    _file(b"")(folder)
    (folder / "model.safetensors").unlink()
    victim = str(folder / "executed")
    code = b"cbuiltins\nexec\n(V" + f"open({victim!r}, 'w').close()".encode() + b"\ntR."
    (folder / "pytorch_model.bin").write_bytes(code)
    (folder / "model.pt").write_bytes(code)


def _renamed(old: str, new: str | None) -> Attack:
    """A tensor of another name, or gone: in the index and in its file."""

    def attack(folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        listed = json.loads(index.read_text())
        part = folder / listed["weight_map"].pop(old)
        if new:
            listed["weight_map"][new] = part.name
        index.write_text(json.dumps(listed))
        data = part.read_bytes()
        length = int.from_bytes(data[:8], "little")
        head = json.loads(data[8 : 8 + length])
        entry = head.pop(old)
        text = json.dumps(head | ({new: entry} if new else {})).encode()
        part.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

    return attack


def _sparse_tensor(name: str, shape: list[int]) -> Attack:
    """A tensor of terabytes, in a file that takes no room."""
    size = 4 * int(np.prod([float(n) for n in shape]))
    head = json.dumps({name: {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    start = struct.pack("<Q", len(head)) + head

    def attack(folder: Path) -> None:
        _file(b"")(folder)
        _sparse("model.safetensors", len(start) + size, start)(folder)

    return attack


def _million(folder: Path) -> None:
    entries = ",".join(
        f'"t{i}":{{"dtype":"F32","shape":[],"data_offsets":[{4 * i},{4 * i + 4}]}}'
        for i in range(1_000_000)
    )
    head = f"{{{entries}}}".encode()
    _sparse("model.safetensors", 8 + len(head) + 4_000_000, struct.pack("<Q", len(head)) + head)(
        folder
    )
    (folder / "model.safetensors.index.json").unlink()


_EXPERT = "model.layers.1.block_sparse_moe.experts.{}.w1.weight"
_DEEP = 100_000
ATTACKS: dict[str, Attack] = {
    **{f"config.json: {what}": _instead("config.json", how) for what, how in _OTHERS.items()},
    **{
        f"weights: {what}": _instead("model-00001-of-00002.safetensors", how)
        for what, how in _OTHERS.items()
    },
    **{
        f"index: {what}": _instead("model.safetensors.index.json", how)
        for what, how in _OTHERS.items()
    },
    "config.json: not JSON": _config("model_type: llama"),
    "config.json: a list": _config("[1, 2]"),
    "config.json: lists in lists": _config("[" * _DEEP),
    "config.json: objects in objects": _config('{"a":' * _DEEP),
    "config.json: sound, but deep": _config('{"hidden_act": ' + "[" * 900 + "]" * 900 + "}"),
    "config.json: 300 MB": _sparse("config.json", 300 << 20, b'{"a": "'),
    "config.json: numbers": _config('{"a": [' + "0," * 300_000 + "0]}"),
    "config.json: lists": _config('{"a": [' + "[]," * 300_000 + "0]}"),
    "config.json: too many lists": _config('{"a": [' + "[]," * 3_000_000 + "0]}"),
    "config.json: a key twice": _config('{"model_type": "llama", "model_type": "mamba"}'),
    "config.json: digits": _config('{"model_type": ' + "9" * 10_000 + "}"),
    "config.json: UTF-16": _config('{"model_type": "llama"}'.encode("utf-16")),
    "config.json: half a character": _config(b'{"model_type": "\xe2\x82'),
    "config.json: a lone surrogate": _config('{"model_type": "\\ud800"}'),
    "config.json: no model_type": _config("{}"),
    "config.json: everything is null": _config(json.dumps(dict.fromkeys(CONFIG))),
    "generation_config.json: link outside": lambda folder: _outside(
        folder / "generation_config.json"
    ),
    "generation_config.json: a FIFO": lambda folder: os.mkfifo(folder / "generation_config.json"),
    "generation_config.json: deep": lambda folder: (folder / "generation_config.json").write_text(
        "[" * _DEEP
    ),
    "code of its own": _changed(
        model_type="my_model", auto_map={"AutoModel": "modeling.MyModel"}, trust_remote_code=True
    ),
    "an unknown key": _changed(**{"new\nkey\x1b[31m": 1}),
    "unknown keys": _changed(**{f"key{i}": i for i in range(10_000)}),
    "pickles": _pickled,
    "no weights": _instead("model.safetensors.index.json", lambda path: None),
    "a million tensors": _million,
    **{
        f"header: {length} bytes": _file(struct.pack("<Q", length) + b"{}" + bytes(64))
        for length in (0, 1, 67, 1 << 31, 1 << 62, (1 << 63) - 1, (1 << 64) - 1)
    },
    **{f"cut at {n}": _file(safetensors(_ONE)[:n]) for n in (0, 1, 7, 8, 9, 60, 110)},
    "header: no UTF-8": _file(safetensors(_ONE, b'{"\xff": 1}')),
    "header: a list": _file(safetensors(_ONE, [1])),
    "header: deep": _file(safetensors(_ONE, b'{"a":' * _DEEP)),
    "header: an entry is a number": _file(safetensors(_ONE, {"x.weight": 3})),
    "header: twice": _file(safetensors(_ONE, b'{"a": {}, "a": {}}')),
    **{
        f"dtype {value!r}": _entries(dtype=value)
        for value in ("F4", "", None, 1, ["F32"], {}, "I64", "F8_E4M3", "BOOL")
    },
    **{
        f"shape {value!r}": _entries(shape=value)
        for value in (
            *([4, 5], [0], [4, -4], [-4, -4], [1 << 62, 4], [1 << 40, 1 << 40], [4.0, 4.0]),
            *([True, 16], ["4", "4"], [[4], 4], "44", None, {}, 16, [1] * 9 + [16], []),
        )
    },
    **{
        f"data_offsets {value!r}": _entries(data_offsets=value)
        for value in (
            *([0, 65], [64, 0], [-64, 0], [1, 65], [1 << 40, (1 << 40) + 64], [0, 1 << 70]),
            *([0.0, 64.0], ["0", "64"], [0], [0, 64, 64], None, {}, [float("nan"), 64], [0, 0]),
        )
    },
    "overlapping": _file(safetensors(_ONE, {"a.weight": _ENTRY, "b.weight": _ENTRY})),
    **{
        f"index: {name!r}": _index({"x.weight": name})
        for name in (
            *(
                "../secret.safetensors",
                "/etc/passwd",
                "/etc/passwd/x.safetensors",
                "a\0.safetensors",
            ),
            *("model.bin", "", "..", None, 3, ["model-00001-of-00002.safetensors"]),
            *(
                "missing.safetensors",
                "model-00001-of-00002.safetensors",
                "x" * 5000 + ".safetensors",
            ),
        )
    },
    **{f"index: map {value!r}": _index(value) for value in ([], {}, None, 3, "x")},
    "index: many files": _index({f"t{i}": f"{i}.safetensors" for i in range(5000)}),
    "index: two spellings": _index(
        {"a": "model-00001-of-00002.safetensors", "b": "./model-00001-of-00002.safetensors"}
    ),
    "experts: a hole": _renamed(_EXPERT.format(2), _EXPERT.format(7)),
    "experts: one too few": _renamed(_EXPERT.format(2), None),
    "experts: a huge number": _renamed(_EXPERT.format(2), _EXPERT.format("9" * 5000)),
    "experts: twice": _renamed(_EXPERT.format(2), _EXPERT.format("01")),
    "a tensor less": _renamed("model.layers.1.self_attn.q_proj.weight", None),
    "a tensor of layer 2": _renamed("lm_head.weight", "model.layers.2.input_layernorm.weight"),
    "an unknown tensor": _renamed("lm_head.weight", "lm_head.\x1b[2Jlora.weight"),
    "terabytes: embedding": _sparse_tensor("model.embed_tokens.weight", [1 << 20, 1 << 20]),
    "terabytes: q": _sparse_tensor("model.layers.0.self_attn.q_proj.weight", [1 << 40, 1]),
    "terabytes: a norm": _sparse_tensor("model.norm.weight", [1 << 40]),
}
VALUES: tuple[Any, ...] = (
    *(0, 1, 3, -1, 1000, (1 << 31) - 1, 1 << 31, 10**400, 1.5, 1e-320, 1e308),
    *(float("nan"), float("inf"), "8", True, [8, 8], {"a": 1}),
)
"""In place of a configuration's."""


def case(random: np.random.Generator) -> None:
    """Break a sound directory in one to three ways, and read all of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "m"
        list(SOUND.values())[random.integers(len(SOUND))](folder)
        for _ in range(int(random.integers(1, 4))):
            files = sorted(path for path in folder.iterdir() if path.is_file())
            _break(random, files[random.integers(len(files))])
        try:
            with open_model(folder) as source:
                declared(source)
                for tensor in source.tensors:
                    source.raw(tensor)
        except MotetError as error:
            assert len(str(error)) < 1500, f"{len(str(error))} characters: {str(error)[:200]}"
            assert str(error).isprintable(), repr(str(error))
            raise


def _break(random: np.random.Generator, path: Path) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little") if path.suffix == ".safetensors" else 0
    text = data[8 : 8 + length] if length else data
    if not data or random.random() < 0.3:  # bytes, wherever they are
        at = int(random.integers(len(data) + 1))
        cut = int(random.integers(0, 3)) if random.random() < 0.7 else len(data)
        path.write_bytes(data[:at] + random.bytes(int(random.integers(4))) + data[at + cut :])
        return
    try:
        value = json.loads(text)
    except ValueError:
        return
    text = json.dumps(_altered(random, value)).encode()
    rest = data[8 + length :] if length else b""
    path.write_bytes((len(text).to_bytes(8, "little") if length else b"") + text + rest)


def _altered(random: np.random.Generator, value: Any) -> Any:
    """One value, somewhere within, is another, gone, or has another's name."""
    if isinstance(value, dict) and value and random.random() < 0.95:
        keys = list(value)
        key = keys[random.integers(len(keys))]
        change = random.random()
        if change < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if change < 0.2:
            other = keys[random.integers(len(keys))]
            return {other if k == key else k: v for k, v in value.items()}
        if change < 0.25:
            return {key.replace("0", "1") if k == key else k: v for k, v in value.items()}
        return value | {key: _altered(random, value[key])}
    if isinstance(value, list) and value and random.random() < 0.7:
        at = int(random.integers(len(value)))
        return [_altered(random, v) if i == at else v for i, v in enumerate(value)]
    if isinstance(value, int) and not isinstance(value, bool) and random.random() < 0.7:
        return value + int(random.choice([-1, 1, 4, -4, 16, 1 << 31, 1 << 62]))
    return VALUES[random.integers(len(VALUES))]


if __name__ == "__main__":
    harness.main(case, __doc__ or "")
