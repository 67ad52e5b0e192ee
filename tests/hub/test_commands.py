"""``motet pull``, ``list`` and ``rm``, and a model's address in place of its path."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import motet
from motet.cli import main
from motet.hub import local_path
from motet.machine import format_bytes
from tests.hub.server import Repo, SmallHub

TINY = (Path(motet.__file__).parent / "data" / "motet-tiny.gguf").read_bytes()


@pytest.fixture
def repo(hub: SmallHub) -> Repo:
    hub.repos["org/tiny"] = Repo({"main": {"t-F16.gguf": TINY, "t-Q2_K.gguf": b"x" * 9000}})
    return hub.repos["org/tiny"]


def run(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, list(arguments), input=typed, standalone_mode=True)


def environment(hub: SmallHub, home: Path) -> dict[str, str]:
    hidden = ("HF_", "HUGGING", "XDG_CACHE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    return kept | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home)}


def motet_process(
    environment: dict[str, str], *arguments: str
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "motet.cli", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_the_environment_is_that_of_other_tools(hub: SmallHub, repo: Repo, tmp_path: Path) -> None:
    repo.gated = True
    here = environment(hub, tmp_path / "home")
    refused = motet_process(here, "pull", "hf://org/tiny:F16")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: hf://org/tiny is open only to those who accepted")
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / "token").write_text(hub.token)
    pulled = motet_process(here, "pull", "hf://org/tiny:F16")
    assert (pulled.returncode, pulled.stderr) == (0, "")
    path = Path(pulled.stdout.removesuffix("\n"))
    assert path.is_relative_to(tmp_path / "home" / "hub")
    assert path.read_bytes() == TINY
    hub.requests.clear()
    offline = motet_process(here | {"HF_HUB_OFFLINE": "1"}, "pull", "hf://org/tiny")
    assert (offline.returncode, offline.stdout) == (0, pulled.stdout)
    assert not hub.requests


def test_pull_prints_the_path(repo: Repo) -> None:
    path = local_path("hf://org/tiny:F16")
    assert run("pull", "hf://org/tiny:F16").stdout == f"{path}\n"
    as_json = run("pull", "hf://org/tiny:F16", "--json", "--offline", "--revision", "main")
    assert json.loads(as_json.stdout) == {"address": "hf://org/tiny:F16", "path": path}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["pull", "org/tiny"], 2, "org/tiny is no address on the hub; it is like hf://org/tiny"),
        (["pull", "hf://tiny"], 2, "'hf://tiny' is no address of a model (as in hf://org/name"),
        (["pull", "hf://org/none"], 1, "there is no model org/none at"),
        (["pull", "hf://org/tiny:Q8_0"], 1, "no GGUF file of Q8_0 (it has F16, Q2_K)"),
        (["pull", "hf://org/tiny", "--revision", "v2"], 1, "hf://org/tiny has no revision v2"),
        (
            ["show", "hf://org/tiny:a.gguf"],
            1,
            "hf://org/tiny has no file a.gguf (it has F16, Q2_K)",
        ),
        (["download", "hf://org/tiny"], 2, "did you mean pull?"),
        (["rm", "tiny"], 2, "'tiny' is no address of a model"),
        (["rm", "hf://org/tiny", "--yes"], 1, "hf://org/tiny is not in the cache"),
    ],
)
def test_mistakes(repo: Repo, arguments: list[str], status: int, said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == status
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_commands_take_an_address(hub: SmallHub, repo: Repo) -> None:
    model = "hf://org/tiny:F16"
    assert json.loads(run("show", model, "--json").stdout)["architecture"] == "gemma2"
    assert run("tokenize", model, "One", "--ids").stdout.split()
    assert run("run", model, "One", "-n", "2", "--temp", "0").exit_code == 0
    embedding = (Path(motet.__file__).parent / "data" / "motet-tiny-embedding.gguf").read_bytes()
    hub.repos["org/embedding"] = Repo({"main": {"e.gguf": embedding}})
    assert run("embed", "hf://org/embedding", "One").exit_code == 0
    assert len(hub.files_asked()) == 2


def test_list_and_rm(hub: SmallHub, repo: Repo, cache: Path) -> None:
    assert "has no models; motet pull hf://org/name" in run("list").stderr
    assert json.loads(run("list", "--json").stdout) == {"cache": str(cache), "models": []}
    path = local_path("hf://org/tiny:F16")
    local_path("hf://org/tiny:Q2_K")
    lines = run("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["hf://org/tiny:F16", "hf://org/tiny:Q2_K"]
    facts = json.loads(run("list", "--json").stdout)["models"][0]
    assert facts["address"] == "hf://org/tiny:F16"
    assert (facts["path"], facts["bytes"], facts["refs"]) == (path, len(TINY), ["main"])
    asked = run("rm", "hf://org/tiny:Q2_K")
    assert asked.exit_code == 2
    assert "1 file, which frees 8.79 KiB; --yes removes it" in asked.stderr
    result = run("rm", "hf://org/tiny:Q2_K", "-y", "--json")
    assert json.loads(result.stdout) == {"files": ["t-Q2_K.gguf"], "bytes": 9000}
    assert run("rm", "hf://org/tiny", "-y").stderr.startswith("removed hf://org/tiny: 1 file, wh")
    assert not list(cache.glob("models--*"))


def test_progress_of_a_slow_download(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("motet.cli.progress.DELAY", -1)
    result = run("pull", "hf://org/tiny:F16")
    assert result.stderr == f"fetching hf://org/tiny:F16: {format_bytes(len(TINY))}\n"
    assert run("pull", "hf://org/tiny:F16").stderr == ""
