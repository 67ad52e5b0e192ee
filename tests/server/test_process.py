"""`motet serve`: how it starts, what it says, how it stops."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from motet.cli import main
from tests.server.models import TINY
from tests.server.process import COMMAND, started, stream

LOADS = """
import time
from motet.model import Model

load = Model.load


def slow(*given, **more):
    time.sleep(30)
    return load(*given, **more)


Model.load = slow
"""
SLOW = """
import time
from motet.context import Context

decode = Context.decode


def slow(self, *given, **more):
    time.sleep(0.03)
    return decode(self, *given, **more)


Context.decode = slow
"""
"""What Python runs at its start, where they are called sitecustomize."""


def environment(folder: Path) -> dict[str, str]:
    """In which Python runs what is in ``folder`` at its start."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture
def slow(tmp_path: Path) -> dict[str, str]:
    """The environment of a server whose steps take a while."""
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    return environment(tmp_path)


def test_answers_under_way_end_and_new_ones_are_refused(slow: dict[str, str]) -> None:
    options = ("--alias", "story,tale", "--alias", "story", "-np", "2", "--api-key", "k")
    key = {"X-Api-Key": "k"}
    with (
        started(*options, variables=slow) as server,
        stream(server.url, headers=key, max_tokens=60) as response,
    ):
        assert any("story is ready at http://127.0.0.1:" in line for line in server.said)
        assert server.get("/health").json() == {"status": "ok"}
        assert server.get("/v1/models").status_code == 401
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        server.process.send_signal(signal.SIGINT)
        statuses: list[int] = []
        refused = None
        for _ in range(100):
            refused = server.get("/health")
            statuses.append(refused.status_code)
            if statuses[-1] == 503:
                break
            time.sleep(0.01)
        assert statuses[-1] == 503 and refused is not None
        assert int(refused.headers["retry-after"]) > 0
        assert refused.json()["error"]["type"] == "unavailable_error"
        assert [line for line in lines if line][-1] == "data: [DONE]"
        assert server.ended() == 0 and "Traceback" not in "".join(server.said)


def test_it_says_what_there_is_not_without_llguidance(tmp_path: Path) -> None:
    (tmp_path / "llguidance.py").write_text("raise ImportError")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with started("-c", "0", variables=os.environ | {"PYTHONPATH": path}) as server:
        said = "without calls of tools, schemas and grammars: pip install 'motet[grammar]'"
        assert any(said in line for line in server.said)
        assert server.get("/v1/models").json()["data"][0]["meta"]["n_ctx"] == 256


def test_answers_that_take_too_long_end_with_an_error(slow: dict[str, str]) -> None:
    with (
        started("--shutdown-timeout", "0.3", variables=slow) as server,
        stream(server.url) as response,
    ):
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        server.process.send_signal(signal.SIGTERM)
        assert '"error"' in [line for line in lines if line][-1]
        assert server.ended() == 0


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    """Not when the answer has ended, for which there is time enough: it takes a minute."""
    (tmp_path / "sitecustomize.py").write_text(SLOW.replace("0.03", "0.3"))
    with (
        started("--shutdown-timeout", "1000", variables=environment(tmp_path)) as server,
        stream(server.url) as response,
    ):
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        server.process.send_signal(signal.SIGINT)
        while server.get("/health").status_code != 503:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGINT)
        said: list[str] = []
        with suppress(httpx.RemoteProtocolError):
            said.extend(lines)
        server.ended(120)
    assert not any("[DONE]" in line for line in said)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit status of `motet serve`, and what it says."""
    with pytest.raises(SystemExit) as caught:
        main(["serve", *arguments])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return int(caught.value.code or 0), said


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, said = refused(capsys, str(TINY), "--port", port)
    assert status == 2 and f"port {port}" in said and "--port; 0 takes" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "no.such.host.invalid"), "no.such.host.invalid"),
        (("--api-key", ""), "--api-key"),
        (("--alias", "a,,b"), "--alias: a name is empty"),
        (("--tags", ""), "--tags: a name is empty"),
        (("--port", "70000"), "70000"),
        (("--api-key-file", __file__ + "no"), "--api-key-file"),
        (("--max-sequences", "0"), "--max-sequences"),
    ],
)
def test_options_that_are_refused(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    status, message = refused(capsys, str(TINY), "--port", "0", *options)
    assert status == 2 and said in message


def test_models_that_can_not_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 50)
    status, said = refused(capsys, str(broken), "--port", "0")
    assert status == 1 and "broken.gguf" in said
    status, said = refused(capsys, str(TINY), "--port", "0", "--embeddings", "nothing.gguf")
    assert status in (1, 2) and "nothing.gguf" in said
    (tmp_path / "keys").write_text("\n  \n")
    status, said = refused(capsys, str(TINY), "--api-key-file", str(tmp_path / "keys"))
    assert status == 2 and "no key" in said


def test_it_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "motet.server.run", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    status, said = refused(capsys, str(TINY), "--port", "0")
    assert status == 1 and "pip install 'motet[serve]'" in said


def test_a_signal_while_it_loads(tmp_path: Path) -> None:
    """Loading may take long: the server says so, and a signal ends it at once."""
    (tmp_path / "sitecustomize.py").write_text(LOADS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*COMMAND, str(TINY), "--port", str(port)]
    process = subprocess.Popen(command, env=environment(tmp_path))
    try:
        response = None
        while response is None and process.poll() is None:
            try:
                response = httpx.get(f"http://127.0.0.1:{port}/health")
            except httpx.TransportError:
                time.sleep(0.02)
        assert response is not None and response.status_code == 503
        error = response.json()["error"]
        assert (error["message"], error["type"]) == ("Loading model", "unavailable_error")
        assert int(response.headers["retry-after"]) > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
