from pathlib import Path

import pytest

from motet.errors import OptionError
from motet.hub.address import Address, is_address, parse_address

COMMIT = "a" * 40


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://org/name", Address("org/name")),
        ("hf:/org/name", Address("org/name")),
        ("hf://Org-1/name_2.5-GGUF", Address("Org-1/name_2.5-GGUF")),
        ("hf://org/name@v1.0", Address("org/name", "v1.0")),
        (f"hf://org/name@{COMMIT}", Address("org/name", COMMIT)),
        ("hf://org/name@refs/pr/3", Address("org/name", "refs/pr/3")),
        ("hf://org/name:q4_k_m", Address("org/name", None, "Q4_K_M")),
        ("hf://org/name:UD-Q4_K_XL", Address("org/name", None, "UD-Q4_K_XL")),
        ("hf://org/name:Q4_K_M@v1", Address("org/name", "v1", "Q4_K_M")),
        ("hf://org/name@v1:Q4_K_M", Address("org/name", "v1", "Q4_K_M")),
        ("hf://org/name:Safetensors", Address("org/name", None, "safetensors")),
        ("hf://org/name:a/b.GGUF", Address("org/name", file="a/b.GGUF")),
        ("hf://org/name/a/b c.gguf", Address("org/name", file="a/b c.gguf")),
        ("hf://org/name@refs/pr/3/b.gguf", Address("org/name", "refs/pr/3", file="b.gguf")),
        ("hf://org/name@main/b.gguf", Address("org/name", "main", file="b.gguf")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert is_address(text)
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


def test_a_path_object_has_one_slash() -> None:
    assert parse_address(Path("hf://org/name:Q8_0")) == Address("org/name", None, "Q8_0")


@pytest.mark.parametrize(
    "text",
    [
        "hf://",
        "hf://name",
        "hf://org/",
        "hf:///org/name",
        "hf://org/name/",
        "hf://org/name:",
        "hf://org/name@",
        "hf://org/na me",
        "hf://../name",
        "hf://org/..",
        "hf://org/a--b",
        "hf://org/name.git",
        "hf://org/name@a:Q4@b",
        "hf://org/name@../../x",
        "hf://org/name@..",
        "hf://org/name:../x.gguf",
        "hf://org/name//x.gguf",
        "hf://org/name:/x.gguf",
        "hf://org/name/Q4_K_M",
        "hf://org/name:Q4 K M",
        "hf://org/name:Q4:K",
        "hf://org/name:a\\b.gguf",
        "hf://org/name:model.safetensors",
        "hf://org/name\n",
        "hf://" + "a/" * 100_000,
        "org/name",
    ],
)
def test_malformed_addresses(text: str) -> None:
    with pytest.raises(OptionError):
        parse_address(text)


@pytest.mark.parametrize(
    "path", ["model.gguf", "/hf/x", "./hf:/x", "https://hf.co", 3, None, b"hf://a/b"]
)
def test_other_paths_are_no_addresses(path: object) -> None:
    assert not is_address(path)


def test_a_revision_is_given_once() -> None:
    address = parse_address("hf://org/name@v1")
    assert address.at(None) is address
    assert address.at("v1") is address
    assert parse_address("hf://org/name").at("feature/x").revision == "feature/x"
    with pytest.raises(OptionError, match="names another one"):
        address.at("v2")
    for wrong in ("", "..", "a/../b", "/a", "a b", "a" * 300):
        with pytest.raises(OptionError):
            parse_address("hf://org/name").at(wrong)
