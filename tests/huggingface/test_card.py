"""What a directory says of itself, as llama.cpp's converter would write it."""

from pathlib import Path

import pytest

from motet.errors import ModelFileError
from motet.huggingface.card import described
from motet.huggingface.files import Directory
from motet.huggingface.generation import sampling
from motet.weights.formats import TensorType
from motet.weights.source import TensorInfo

TENSORS = {
    "token_embd.weight": TensorInfo("token_embd.weight", (1000, 500), TensorType.BF16),
    "blk.0.ffn_up_exps.weight": TensorInfo("…", (8, 500, 500), TensorType.BF16),
}
CARD = """---
license: apache-2.0
language:
- en
- no
tags: [mamba, text-generation]
base_model: org/Tiny-7B-v0.1
datasets:
- org/some-data
---
# Tiny
"""


def made(folder: Path, card: str = CARD, config: str = "{}", **files: str) -> Directory:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(card)
    (folder / "config.json").write_text(config)
    for name, text in files.items():
        (folder / f"{name}.json").write_text(text)
    return Directory(str(folder))


def test_a_card(tmp_path: Path) -> None:
    files = made(tmp_path / "tiny-8x1M-it")
    assert described(files, TENSORS) == {
        "general.name": "Tiny 8x1M It",
        "general.basename": "tiny",
        "general.finetune": "it",
        "general.size_label": "8x1M",
        "general.license": "apache-2.0",
        "general.tags": ["mamba", "text-generation"],
        "general.languages": ["en", "no"],
        "general.base_model.count": 1,
        "general.base_model.0.name": "Tiny 7B v0.1",
        "general.base_model.0.organization": "Org",
        "general.base_model.0.version": "v0.1",
        "general.base_model.0.repo_url": "https://huggingface.co/org/Tiny-7B-v0.1",
        "general.dataset.count": 1,
        "general.dataset.0.name": "Some Data",
        "general.dataset.0.organization": "Org",
        "general.dataset.0.repo_url": "https://huggingface.co/org/some-data",
    }


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("{}", {}),
        ('{"temperature": 1, "top_k": 20, "top_p": null}', {"temp": 1.0, "top_k": 20}),
        ('{"top_p": NaN, "temperature": "1", "top_k": 0.5, "min_p": true}', {}),
        ('{"top_k": 99999999999999, "penalty_repeat": 1.5}', {"penalty_repeat": 1.5}),
    ],
)
def test_how_to_sample(text: str, keys: dict[str, float], tmp_path: Path) -> None:
    said = sampling(made(tmp_path, generation_config=text))
    assert said == {f"general.sampling.{key}": value for key, value in keys.items()}
    assert {key: type(value) for key, value in said.items()} == {
        f"general.sampling.{key}": type(value) for key, value in keys.items()
    }


def test_without_a_card(tmp_path: Path) -> None:
    files = Directory(str(tmp_path / "unnamed"))
    (tmp_path / "unnamed").mkdir()
    assert described(files, TENSORS) == {
        "general.name": "Unnamed",
        "general.size_label": "8x750K",
    }


def test_a_hub_cache_is_named_after_its_repository(tmp_path: Path) -> None:
    files = made(tmp_path / "models--org--Tiny-v2" / "snapshots" / "0123abcd", "")
    said = described(files, TENSORS)
    assert (said["general.name"], said["general.organization"]) == ("Tiny v2", "Org")


@pytest.mark.parametrize(
    "card",
    [
        "",
        "# no head",
        "---\nnever: ended",
        "---\n[: no yaml\n---\n",
        "---\n- a list\n---\n",
        "---\nlicense: {a: 1}\ntags: [{b: 2}, 3]\nlanguage: 7\nname: [1]\n---\n",
        "---\nbase_model: [{name: 3}, 4, null]\ndatasets: {a: b}\n---\n",
        "---\na: &a [x, x]\nb: &b [*a, *a]\ntags: [*b, *b]\n---\n",
        "---\n" + "[" * 5000 + "\n---\n",
        "---\nname: " + "x" * 2_000_000 + "\n---\n",
        "---\nversion: " + "1:" * 100_000 + "1\n---\n",
        "---\nname:\nlicense: null\n---\n",
        "---\ndate: 2024-01-01\nversion: 1.5\na: !!python/object/apply:os.getcwd []\n---\n",
    ],
)
def test_cards_by_strangers(card: str, tmp_path: Path) -> None:
    said = described(made(tmp_path / "m", card, '{"_name_or_path": "a/b"}'), TENSORS)
    for key, value in said.items():
        assert key.startswith("general.")
        assert isinstance(value, str | int | float) or all(isinstance(v, str) for v in value)
    assert said["general.size_label"] == "8x750K"


def test_a_card_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(CARD)
    files = made(tmp_path / "m")
    (tmp_path / "m" / "README.md").unlink()
    (tmp_path / "m" / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFileError, match="leads out of the directory"):
        described(files, TENSORS)


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    folder = tmp_path / b"caf\xe9".decode(errors="surrogateescape")
    folder.mkdir()
    said = described(Directory(str(folder)), {})
    assert str(said["general.name"]).encode()
