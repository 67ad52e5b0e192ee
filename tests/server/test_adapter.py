"""The adapter that lets llama.cpp's published server tests start ``motet serve``."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ADAPTER = Path(__file__).parent / "llama-server"


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--hf-repo", "ggml-org/models", "--hf-file", "x.gguf"], 77, "x.gguf would be downloaded"),
        (["--models-dir", "/"], 78, "router"),
        (["--model", "x.gguf", "--context-shift"], 79, "--context-shift"),
        (["--model", "x.gguf", "--no-such-option"], 79, "--no-such-option"),
    ],
)
def test_what_it_cannot_start_it_says(options: list[str], status: int, said: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "STORIES260K"}
    command = [sys.executable, str(ADAPTER), *options]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == status and said in ended.stderr


def test_it_can_be_run() -> None:
    assert os.access(ADAPTER, os.X_OK)
