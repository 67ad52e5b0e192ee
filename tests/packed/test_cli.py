"""motet pack, and commands given packed files, as they are typed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from motet.cli import main
from motet.cli.demo import shipped_model

TINY = str(shipped_model())


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "tiny.packed"
    result = invoke("pack", TINY, "-o", out)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith(f"wrote {out}, ")
    return out


def test_run(packed: Path) -> None:
    said = [invoke("run", each, "Once upon", "-n", 12, "--seed", 1) for each in (TINY, packed)]
    assert said[0].exit_code == said[1].exit_code == 0, said[1].stderr
    assert said[0].stdout == said[1].stdout


def test_show(packed: Path) -> None:
    facts = [
        json.loads(invoke("show", each, "--json", "--metadata").stdout) for each in (TINY, packed)
    ]
    assert facts[1]["format"].startswith("packed, version 1, of ")
    assert facts[0]["metadata"] == facts[1]["metadata"]
    assert facts[0]["parameters"] == facts[1]["parameters"]
    result = invoke("show", packed, "--tensors")
    assert result.exit_code == 0 and "token_embd.weight" in result.stdout


def test_tokenize(packed: Path) -> None:
    said = [invoke("tokenize", each, "Once upon a time").stdout for each in (TINY, packed)]
    assert said[0] == said[1]


def test_a_draft_model_is_kept_packed_too(tmp_path: Path) -> None:
    draft = TINY.replace("motet-tiny", "motet-tiny-mamba")
    asked = ("run", TINY, "Once", "-n", 2, "--speculate", draft, "--packed-cache", tmp_path)
    assert invoke(*asked).exit_code == 0
    assert len([*tmp_path.glob("*.packed")]) == 2


def test_the_file_may_come_after_the_model(packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.packed"
    result = invoke("pack", TINY, out)
    assert result.exit_code == 0, result.stderr
    assert out.read_bytes() == packed.read_bytes()
    twice = invoke("pack", TINY, out, "-o", tmp_path / "other")
    assert twice.exit_code == 2 and "FILE is given twice" in twice.stderr
    none = invoke("pack", TINY)
    assert none.exit_code == 2 and "motet pack MODEL -o model.packed" in none.stderr


def test_what_is_refused(packed: Path, tmp_path: Path) -> None:
    result = invoke("pack", TINY, "-o", packed)
    assert result.exit_code == 2 and "is there already" in result.stderr
    assert invoke("pack", TINY, "-o", packed, "--force").exit_code == 0
    result = invoke("run", packed, "Once", "--type", "q8_0")
    assert result.exit_code == 2 and "are packed, and stay as they are" in result.stderr
    result = invoke("quantize", packed, tmp_path / "out.gguf", "q4_0")
    assert result.exit_code == 1 and "use the model that it was packed of" in result.stderr
    assert invoke("pack", TINY).exit_code == 2
    result = invoke("run", TINY, "Once", "--packed-cache-bytes", "1G")
    assert result.exit_code == 2 and "is the size of a --packed-cache" in result.stderr


def test_cache(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    arguments = ["run", TINY, "Once", "-n", 8, "--seed", 1]
    said = [
        invoke(*arguments, *more).stdout
        for more in ([], ["--packed-cache", folder], ["--packed-cache", folder])
    ]
    assert said[0] == said[1] == said[2] and len(list(folder.iterdir())) == 1
