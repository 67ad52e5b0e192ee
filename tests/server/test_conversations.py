"""/v1/conversations: what was said and what memory holds of it, over HTTP."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from motet.cli.demo import shipped_model
from motet.server.settings import ServerSettings
from tests.server.conversing import conversing, talker

DATA = Path(str(shipped_model())).parent
SHIPPED = ["motet-tiny.gguf", "motet-tiny-mamba.gguf", "motet-tiny-jamba.gguf"]
SETTINGS = ServerSettings(port=0)
NOBODY = "conv_" + 48 * "0"


@contextmanager
def served(folder: Path | None = None, make: Any = talker, **settings: Any) -> Iterator[TestClient]:
    app, service = conversing(make, replace(SETTINGS, state_dir=folder, **settings))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        while service.status == "loading":
            time.sleep(0.01)
        assert service.failure is None
        yield client


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[TestClient]:
    with served(tmp_path_factory.mktemp("state")) as client:
        yield client


def wait_for(client: httpx.Client) -> None:
    """Until a server listens, and has loaded its model."""
    while True:
        with suppress(httpx.ConnectError):
            if client.get("/health").status_code == 200:
                return
        time.sleep(0.02)


def new(client: Any, **body: Any) -> str:
    response = client.post("/v1/conversations", json=body)
    assert response.status_code == 200, response.text
    return response.json()["id"]


def ask(client: Any, number: str, text: str, **body: Any) -> dict[str, Any]:
    response = client.post(f"/ask/{number}", json={"text": text, **body})
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: Any, status: int, message: str = "") -> dict[str, Any]:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert re.search(message, error["message"]), error
    return error


def facts(client: Any, number: str) -> dict[str, Any]:
    return client.get(f"/v1/conversations/{number}").json()


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return (a["text"], a["logprobs"]) == (b["text"], b["logprobs"])


def test_openai_has_these_endpoints(client):
    items = [
        {"role": "system", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
    ]
    made = client.post("/v1/conversations", json={"items": items, "metadata": {"a": "b"}}).json()
    number = made["id"]
    assert made["object"] == "conversation"
    assert made["metadata"] == {"a": "b"}
    assert abs(made["created_at"] - time.time()) < 60
    assert facts(client, number) == made
    listed = client.get("/v1/conversations").json()
    assert number in [each["id"] for each in listed["data"]]
    found = client.get(f"/v1/conversations/{number}/items", params={"order": "asc"}).json()
    assert [each["role"] for each in found["data"]] == ["system", "user"]
    assert found["data"][1]["content"] == [{"type": "input_text", "text": "Hello"}]
    assert (found["first_id"], found["has_more"]) == (found["data"][0]["id"], False)
    page = client.get(f"/v1/conversations/{number}/items", params={"limit": 1}).json()
    assert [each["role"] for each in page["data"]] == ["user"]
    assert page["has_more"]
    after = {"limit": 1, "after": page["last_id"]}
    page = client.get(f"/v1/conversations/{number}/items", params=after).json()
    assert [each["role"] for each in page["data"]] == ["system"]
    one = client.get(f"/v1/conversations/{number}/items/{page['data'][0]['id']}").json()
    assert one == page["data"][0]
    updated = client.post(f"/v1/conversations/{number}", json={"metadata": {"c": "d"}}).json()
    assert updated["metadata"] == {"c": "d"}
    gone = client.delete(f"/v1/conversations/{number}").json()
    assert gone == {"id": number, "object": "conversation.deleted", "deleted": True}
    refused(client.get(f"/v1/conversations/{number}"), 404, "there is no conversation")


def test_openais_client(tmp_path):
    openai = pytest.importorskip("openai")
    with served(tmp_path) as client:
        api = openai.OpenAI(base_url="http://127.0.0.1/v1", api_key="x", http_client=client)
        made = api.conversations.create(
            items=[{"type": "message", "role": "user", "content": "Hi"}], metadata={"a": "b"}
        )
        assert api.conversations.retrieve(made.id).metadata == {"a": "b"}
        added = api.conversations.items.create(
            made.id,
            items=[
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "4"},
            ],
        )
        assert [item.type for item in added.data] == ["function_call", "function_call_output"]
        listed = list(api.conversations.items.list(made.id, order="asc", limit=2))
        assert [item.type for item in listed] == [
            "message",
            "function_call",
            "function_call_output",
        ]
        api.conversations.update(made.id, metadata={"x": "y"})
        assert api.conversations.delete(made.id).deleted


def test_turns_go_on_from_what_was_computed(client):
    number = new(client, items=[{"role": "system", "content": "You are a bird."}])
    first = ask(client, number, "Who are you?")
    second = ask(client, number, "And where?")
    assert second["cached"] >= first["prompt"]
    found = facts(client, number)
    assert [turn["messages"] for turn in found["turns"]] == [3, 5]
    assert found["memory"]["tokens"] == found["turns"][1]["position"]
    assert found["memory"]["bytes"] > 0
    plain = new(client, items=[{"role": "system", "content": "You are a bird."}])
    client.post(
        f"/v1/conversations/{plain}/items",
        json={
            "items": [
                {"role": "user", "content": "Who are you?"},
                {"role": "assistant", "content": first["text"]},
            ]
        },
    )
    assert same(ask(client, plain, "And where?"), second)


def test_forks_and_rewinds(client):
    number = new(client)
    first = ask(client, number, "One")
    fork = client.post(f"/v1/conversations/{number}/fork").json()
    assert fork["id"] != number
    second = ask(client, number, "Two")
    assert same(ask(client, fork["id"], "Two"), second)
    back = client.post(f"/v1/conversations/{number}/rewind", json={"turns": 1}).json()
    assert len(back["turns"]) == 1
    assert same(ask(client, number, "Two"), second)
    position = back["turns"][0]["position"]
    at = client.post(f"/v1/conversations/{number}/rewind", json={"position": position}).json()
    assert at["memory"]["tokens"] == position
    assert same(ask(client, number, "Two"), second)
    wrong = client.post(f"/v1/conversations/{number}/rewind", json={"position": position + 1})
    assert refused(wrong, 409, "no turn ended at")["nearest"] == position
    early = client.post(f"/v1/conversations/{number}/fork", json={"turns": 2}).json()
    assert early["turns"] == []
    assert same(ask(client, early["id"], "One"), first)
    refused(
        client.post(f"/v1/conversations/{number}/rewind", json={"turns": 3}), 409, "has 2 turns"
    )
    for body in ({}, {"turns": 1, "position": 0}, {"turns": 0}, {"position": -1}):
        refused(client.post(f"/v1/conversations/{number}/rewind", json=body), 400)
    for each in (number, fork["id"], early["id"]):
        client.delete(f"/v1/conversations/{each}")


@pytest.mark.parametrize("name", SHIPPED)
def test_each_kind_of_memory_comes_back(name, tmp_path):
    """Saved under a name and by the server's end; restored to the same bits and cached tokens."""

    def make() -> Any:
        return talker(DATA / name)

    with served(tmp_path, make) as client:
        number = new(client, metadata={"title": "é"})
        ask(client, number, "One")
        saved = client.post(f"/v1/conversations/{number}/save", json={"name": "a"}).json()
        assert saved["bytes"] == next(tmp_path.rglob("a")).stat().st_size
        second = ask(client, number, "Two")
        third = ask(client, number, "Three")
        for _ in range(9):  # nothing of it is left in memory
            other = new(client)
            ask(client, other, "Else")
            client.delete(f"/v1/conversations/{other}")
        client.post(f"/v1/conversations/{number}/rewind", json={"turns": 1})
        assert same(ask(client, number, "Three"), third)
        for turn in (2, 1):
            position = facts(client, number)["turns"][turn]["position"]
            body = {"position": position}
            response = client.post(f"/v1/conversations/{number}/rewind", json=body)
            if position is None:  # the answer's text is other tokens in the next prompt
                refused(response, 400)
            else:
                assert response.json()["memory"]["tokens"] == position
        turns = len(facts(client, number)["turns"]) - 1
        client.post(f"/v1/conversations/{number}/rewind", json={"turns": turns})
        assert same(ask(client, number, "Two"), second)
        assert same(ask(client, number, "Three"), third)
    with served(tmp_path, make) as client:
        listed = client.get("/v1/conversations/saved").json()["data"]
        assert {each["name"] for each in listed} == {"a", number}
        assert next(each for each in listed if each["name"] == "a")["turns"] == 1
        restored = client.post("/v1/conversations/restore", json={"name": "a"}).json()
        assert restored["metadata"] == {"title": "é"}
        assert restored["id"] != number  # which is that of the later state
        again = ask(client, restored["id"], "Two")
        assert same(again, second)
        assert again["cached"] == second["cached"]
        assert len(facts(client, number)["turns"]) == 3
        fourth = ask(client, number, "Four")
        back = client.post(f"/v1/conversations/{number}/rewind", json={"turns": 2}).json()
        assert len(back["turns"]) == 2
        assert same(ask(client, number, "Three"), third)
        assert same(ask(client, number, "Four"), fourth)


def test_idle_conversations_give_way_and_come_back(tmp_path):
    with served(tmp_path) as client:
        numbers = [new(client) for _ in range(10)]
        first = [ask(client, number, f"I am {i}") for i, number in enumerate(numbers)]
        held = [facts(client, number)["memory"] is not None for number in numbers]
        assert sum(held) == 4
        again = [ask(client, number, "Again") for number in numbers]
        for one, other in zip(first, again, strict=True):
            assert other["cached"] >= one["prompt"]
    with served(None) as client:  # and without a place to save them
        numbers = [new(client) for _ in range(10)]
        for i, number in enumerate(numbers):
            assert same(ask(client, number, f"I am {i}"), first[i])
        for i, number in enumerate(numbers):
            assert same(ask(client, number, "Again"), again[i])


def test_a_killed_server_leaves_what_was_stored(tmp_path):
    @contextmanager
    def server() -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
        command = [sys.executable, "-m", "tests.server.conversing", str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert process.stdout
            port = int(process.stdout.readline())
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                wait_for(client)
                yield client, process
        finally:
            process.kill()
            process.wait()

    with server() as (client, process):
        stored, lost = new(client, store=True), new(client)
        ask(client, stored, "One")
        turns = facts(client, stored)["turns"]
        ask(client, lost, "One")
        fork = client.post(f"/v1/conversations/{stored}/fork").json()["id"]
        second = ask(client, fork, "Two")
        os.kill(process.pid, signal.SIGKILL)
    with server() as (client, _):
        listed = client.get("/v1/conversations/saved").json()["data"]
        assert {each["name"] for each in listed} == {stored, fork}
        restored = client.post("/v1/conversations/restore", json={"name": stored}).json()
        assert restored["turns"] == turns and turns[-1]["position"] is not None
        again = ask(client, stored, "Two")
        assert same(again, second)
        assert again["cached"] == second["cached"]
        refused(client.get(f"/v1/conversations/{lost}"), 404)


def test_what_fails_changes_nothing(client):
    number = new(client)
    ask(client, number, "One")
    before = facts(client, number)["turns"]
    with pytest.raises(ValueError, match="after it was computed"):
        client.post(f"/ask/{number}", json={"text": "Two", "fail": True})
    assert facts(client, number)["turns"] == before
    assert not facts(client, number)["answering"]
    second = ask(client, number, "Two")
    client.post(f"/v1/conversations/{number}/rewind", json={"turns": 1})
    assert same(ask(client, number, "Two"), second)


def test_one_answer_at_a_time(client):
    number = new(client)
    answers: list[Any] = []

    def talk() -> None:
        body = {"text": "Tell me a story", "max_tokens": 100}
        answers.append(client.post(f"/ask/{number}", json=body))

    threads = [threading.Thread(target=talk) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(answer.status_code for answer in answers)
    assert set(statuses) <= {200, 409}
    assert statuses.count(200) == len(facts(client, number)["turns"]) >= 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["error"]["code"] == "conversation_busy"


def test_keys_see_their_own_alone(tmp_path):
    with served(tmp_path, api_keys=("one", "two")) as client:
        mine, yours = ({"Authorization": f"Bearer {key}"} for key in ("one", "two"))
        number = client.post("/v1/conversations", json={}, headers=mine).json()["id"]
        assert client.post(f"/v1/conversations/{number}/save", headers=mine).status_code == 200
        path = f"/v1/conversations/{number}"
        assert client.get(path, headers={"X-Api-Key": "one"}).status_code == 200
        for ask in (
            client.get(path, headers=yours),
            client.delete(path, headers=yours),
            client.post(f"{path}/fork", headers=yours),
            client.post(f"{path}/save", headers=yours),
            client.post("/v1/conversations/restore", json={"name": number}, headers=yours),
            client.delete(f"/v1/conversations/saved/{number}", headers=yours),
            client.post(f"/ask/{number}", json={"text": "Hi"}, headers=yours),
        ):
            refused(ask, 404)
        assert client.get("/v1/conversations", headers=yours).json()["data"] == []
        assert client.get("/v1/conversations/saved", headers=yours).json()["data"] == []
        assert client.get("/v1/conversations", headers=mine).json()["data"]


def test_limits(tmp_path):
    with served(tmp_path, conversations=3) as client:
        numbers = [new(client) for _ in range(3)]
        refused(client.post("/v1/conversations", json={}), 429, "3 conversations are open")
        refused(client.post(f"/v1/conversations/{numbers[0]}/fork"), 429)
        client.delete(f"/v1/conversations/{numbers[0]}")
        new(client)
    with served(tmp_path, conversation_seconds=0.05) as client:
        number, stored = new(client), new(client, store=True)
        time.sleep(0.1)
        refused(client.get(f"/v1/conversations/{number}"), 404)
        assert facts(client, stored)["id"] == stored  # it was on disk
    with served(None) as client:
        number = new(client)
        for response in (
            client.post(f"/v1/conversations/{number}/save"),
            client.post("/v1/conversations/restore", json={"name": "a"}),
            client.get("/v1/conversations/saved"),
            client.post("/v1/conversations", json={"store": True}),
        ):
            refused(response, 501, "--state-dir DIR")


def test_wrong_bodies(client):
    number = new(client)
    path = f"/v1/conversations/{number}"
    for body in (
        {"items": [{"role": "user"}]},
        {"items": [{"role": "robot", "content": "x"}]},
        {"items": [{"type": "image", "content": "x"}]},
        {"items": [{"role": "user", "content": [{"type": "input_image"}]}]},
        {"items": [{"role": "user", "content": "x"}] * 21},
        {"metadata": {"a": 1}},
        {"metadata": {"a" * 65: "b"}},
        {"metadata": {str(i): "" for i in range(17)}},
        {"unknown": 1},
    ):
        refused(client.post("/v1/conversations", json=body), 400)
    refused(client.post(f"{path}/items", json={"items": []}), 400)
    refused(client.get(f"{path}/items", params={"limit": 0}), 400)
    refused(client.get(f"{path}/items", params={"after": "x"}), 404)
    refused(client.get(f"{path}/items/x"), 404)
    for name in (NOBODY, "x", "conv_1", "saved%2f..", "%00", "ä" * 300):
        assert client.get(f"/v1/conversations/{name}").status_code in (404, 405)


@pytest.mark.parametrize("stream", [False, True])
def test_chat_completions_are_turns(client, stream):
    """The next one may be asked as soon as the last event of the one before is there."""
    number = new(client, items=[{"role": "system", "content": "You are a bird."}])
    messages = [{"role": "system", "content": "You are a bird."}]
    options = {"temperature": 0, "max_tokens": 6}
    for text in ("One", "Two", "Three", "Four"):
        asked = {"role": "user", "content": text}
        body = {"messages": [asked], "conversation": number, "stream": stream, **options}
        if stream:
            with client.stream("POST", "/v1/chat/completions", json=body) as response:
                lines = [line for line in response.iter_lines() if line.startswith("data: {")]
            deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in lines]
            said = "".join(delta.get("content") or "" for delta in deltas)
        else:
            answer = client.post("/v1/chat/completions", json=body).json()
            said = answer["choices"][0]["message"]["content"]
        messages.append(asked)
        alone = client.post("/v1/chat/completions", json={"messages": messages, **options}).json()
        assert said == alone["choices"][0]["message"]["content"]
        messages.append({"role": "assistant", "content": said})
    items = client.get(f"/v1/conversations/{number}/items", params={"order": "asc"}).json()["data"]
    assert [item["content"][0]["text"] for item in items] == [each["content"] for each in messages]
    wrong = {"messages": messages, "conversation": number, "n": 2}
    refused(client.post("/v1/chat/completions", json=wrong), 400, "one answer")
    lost = {"messages": messages, "conversation": {"id": NOBODY}, "stream": stream}
    refused(client.post("/v1/chat/completions", json=lost), 404)
    assert not facts(client, number)["answering"]
