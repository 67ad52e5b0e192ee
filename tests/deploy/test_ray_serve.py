"""Replicas behind Ray Serve, on this machine: conversations stay at one, and outlive it."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="needs ray[serve]")

import httpx
import psutil
import ray
from ray import serve

from deploy.ray_serve import Settings, application
from motet import LLM, Model
from motet.cli.demo import shipped_model
from tests.server.conversing import TEMPLATE

ROOT = Path(__file__).parents[2]
ANSWER = {"model": "any", "temperature": 0, "max_tokens": 8}


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    """Where Ray's proxy listens."""
    environment = {
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "OMP_NUM_THREADS": "1",
        "RAY_SERVE_LOG_TO_STDERR": "0",
    }
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # it may be a busy machine
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100 << 20,
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()
        ray.shutdown()


@contextmanager
def replicas(proxy: str, folder: Path, **settings: Any) -> Iterator[httpx.Client]:
    template = folder / "template.jinja"
    template.write_text(TEMPLATE)
    chosen = Settings(
        model=str(shipped_model()),
        state_dir=folder / "state",
        chat_template_file=template,
        **settings,
    )
    serve.run(application(chosen), name="motet")
    try:
        with httpx.Client(base_url=proxy, timeout=60) as client:
            yield client
    finally:
        serve.delete("motet")


def new(client: httpx.Client) -> str:
    return client.post("/v1/conversations", json={}).raise_for_status().json()["id"]


def ask(client: httpx.Client, number: str, text: str) -> httpx.Response:
    body = {**ANSWER, "messages": [{"role": "user", "content": text}], "conversation": number}
    return client.post("/v1/chat/completions", json=body, headers={"X-Session-Id": number})


def said(client: httpx.Client, number: str) -> list[dict[str, str]]:
    """The messages of a conversation."""
    found = client.get(
        f"/v1/conversations/{number}/items",
        params={"order": "asc", "limit": 100},
        headers={"X-Session-Id": number},
    )
    return [
        {"role": item["role"], "content": "".join(part["text"] for part in item["content"])}
        for item in found.raise_for_status().json()["data"]
    ]


def at(client: httpx.Client, number: str) -> frozenset[str]:
    """The conversations that are open where this one is."""
    found = client.get("/v1/conversations", params={"limit": 100}, headers={"X-Session-Id": number})
    return frozenset(each["id"] for each in found.raise_for_status().json()["data"])


def processes() -> list[psutil.Process]:
    """The replicas', among those that this one started."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if each.name().startswith("ray::ServeReplica")]


def running() -> int:
    states = serve.status().applications["motet"].deployments["Replica"].replica_states
    return states.get("RUNNING", 0)


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def alone(messages: list[dict[str, str]]) -> None:
    """Each answer is what one process gives to what was said before it."""
    model = Model.load(shipped_model())
    assert model.tokenizer is not None
    model.tokenizer = model.tokenizer.with_chat_template(TEMPLATE)
    with LLM(model) as llm:
        for place, message in enumerate(messages):
            if message["role"] == "assistant":
                answer = llm.chat(messages[:place], temperature=0, max_tokens=8)
                assert answer.text == message["content"]


def test_conversations_stay_at_a_replica_and_outlive_it(proxy, tmp_path):
    with replicas(proxy, tmp_path, min_replicas=2, max_replicas=2) as client:
        wait_for(lambda: running() == 2)
        numbers = [new(client) for _ in range(8)]
        first = [ask(client, number, "Once upon a time").json() for number in numbers]
        second = [ask(client, number, "And then").json() for number in numbers]
        for one, other in zip(first, second, strict=True):
            cached = other["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert cached >= one["usage"]["prompt_tokens"]
        assert len({at(client, number) & {*numbers} for number in numbers}) == 2  # both have some

        answered = dict.fromkeys(numbers, 2)
        failed: list[int] = []
        killed = threading.Event()

        def talk(number: str) -> None:
            with httpx.Client(base_url=proxy, timeout=60) as own:
                after = 0
                while after < 2:
                    try:
                        response = ask(own, number, f"More, {answered[number]}")
                    except httpx.HTTPError:
                        failed.append(0)
                        continue
                    if response.status_code == 200:
                        answered[number] += 1
                        after += killed.is_set()
                    else:  # the replica that had it ended
                        failed.append(response.status_code)
                        assert response.status_code >= 500, response.text
                        time.sleep(0.1)

        with ThreadPoolExecutor(len(numbers)) as threads:
            talks = [threads.submit(talk, number) for number in numbers]
            wait_for(lambda: min(answered.values()) > 2)  # all of them are at it
            os.kill(processes()[0].pid, signal.SIGKILL)
            killed.set()
            for each in talks:
                each.result(120)
        for number in numbers:
            messages = said(client, number)
            # An answer that was given and whose reply was lost is there, and asked for again.
            assert len(messages) // 2 >= answered[number] >= 4
            alone(messages)
        wait_for(lambda: running() == 2)  # Ray has started another one


def test_replicas_come_and_go_with_the_load(proxy, tmp_path):
    settings = {"min_replicas": 1, "max_replicas": 2, "target_requests": 1}
    seconds = {"upscale_seconds": 0, "downscale_seconds": 1}
    with replicas(proxy, tmp_path, **settings, **seconds) as client:
        assert running() == 1
        number = new(client)
        assert ask(client, number, "Once upon a time").status_code == 200
        over = threading.Event()

        def load() -> None:
            with httpx.Client(base_url=proxy, timeout=60) as own:
                while not over.is_set():
                    prompt = {"model": "any", "prompt": "Once", "max_tokens": 200}
                    own.post("/v1/completions", json=prompt)

        threads = [threading.Thread(target=load) for _ in range(6)]
        for thread in threads:
            thread.start()
        try:
            wait_for(lambda: running() == 2)
            assert ask(client, number, "And then").status_code == 200
        finally:
            over.set()
            for thread in threads:
                thread.join()
        wait_for(lambda: running() == 1)
        assert ask(client, number, "The end").status_code == 200
        alone(said(client, number))


def test_a_setting_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="replicas"):
        Settings(model="model.gguf", state_dir=Path("state"), replicas=2)  # pyright: ignore
