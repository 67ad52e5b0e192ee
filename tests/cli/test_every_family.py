"""The commands that measure and embed, on a tiny model of every family: they run or say why not."""

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from motet.cli import main
from motet.model import Model
from tests.models.tiny import (
    ARCHITECTURES,
    DECODERS,
    ENCODERS,
    NOT_EXTENDED,
    metadata,
    write,
)
from tests.tokenizer.vocabularies import bpe_metadata

TEXT = "A dog ran to the sea. It saw a hen, and the hen saw it too; so they ran on. " * 2
TASKS = "".join(
    f"The hen {n}\n{n}\nran home.\nsat down.\nate a bun {n}.\nis {n}.\n" for n in range(2)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("families")
    (made / "text.txt").write_text(TEXT)
    (made / "tasks.txt").write_text(TASKS)
    return made


@pytest.fixture(scope="module")
def path(folder: Path):
    @cache
    def make(architecture: str) -> str:
        keys = metadata(architecture, context_length=600) | bpe_metadata()
        return str(write(folder / f"{architecture}.gguf", keys))

    return make


def facts(*arguments: str) -> dict:
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("architecture", DECODERS)
def test_perplexity(path, folder: Path, architecture: str) -> None:
    found = facts("perplexity", path(architecture), "-f", str(folder / "text.txt"), "-c", "32")
    assert 1 < found["perplexity"] < math.inf
    assert len(found["chunks"]) == 4


@pytest.mark.parametrize("architecture", DECODERS)
def test_hellaswag(path, folder: Path, architecture: str) -> None:
    found = facts("hellaswag", path(architecture), "-f", str(folder / "tasks.txt"))
    assert found["tasks"] == 2
    assert np.isfinite([answer["scores"] for answer in found["answers"]]).all()


@pytest.mark.parametrize("architecture", DECODERS)
def test_needle(path, architecture: str) -> None:
    """With Self-Extend too, where it means something."""
    chosen = ("--lengths", "590", "--depths", "1", "--seeds", "1")
    found = facts("needle", path(architecture), *chosen)
    assert np.isfinite([one["nll"] for one in found["results"]]).all()
    extended = architecture not in NOT_EXTENDED
    assert [one["variant"] for one in found["results"]] == [
        "plain",
        *["Self-Extend auto"] * extended,
    ]


@pytest.mark.parametrize("architecture", DECODERS)
def test_embed(path, architecture: str) -> None:
    for pooling in ("mean", "last"):
        found = facts("embed", path(architecture), "a dog", "a hen", "--pooling", pooling)
        lengths = np.linalg.norm(found["embeddings"], axis=1)
        np.testing.assert_allclose(lengths, [1, 1], rtol=1e-6)


@pytest.mark.parametrize("architecture", [*ENCODERS, "t5"])
def test_what_does_not_go_on_with_a_text_says_so(path, folder: Path, architecture: str) -> None:
    for command in (
        ["perplexity", path(architecture), "-f", str(folder / "text.txt"), "-c", "32"],
        ["hellaswag", path(architecture), "-f", str(folder / "tasks.txt")],
        ["needle", path(architecture), "--lengths", "590"],
    ):
        result = CliRunner().invoke(main, command)
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        assert "Traceback" not in result.stderr and "(" in result.stderr


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_show_says_what_it_keeps(path, architecture: str) -> None:
    found = facts("show", path(architecture))
    assert found["architecture"] == architecture
    assert Model.load(path(architecture)).config.architecture == architecture
