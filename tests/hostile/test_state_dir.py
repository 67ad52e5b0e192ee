"""The state directory: hostile names reach nothing outside, hostile files harm nobody."""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from fastapi import Request
from fastapi.testclient import TestClient

from motet.server.conversations.registry import owner_of
from motet.server.failures import Refused
from motet.server.generation import client_of
from motet.server.settings import ServerSettings
from motet.server.state_dir import Folder
from tests.server.conversing import conversing, talker

NAMES = [
    "",
    ".",
    "..",
    "../secret",
    "..\\secret",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a\0b",
    "\0",
    ".hidden",
    "a" * 65,
    "a" * 5000,
    "a\n",
    "\na",
    "a b",
    "ä",
    "a:b",
    "~",
    "%2e%2e%2fsecret",
    "․․/secret",
    "con\u202egnp",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("outer") / "state"


@pytest.fixture(scope="module")
def client(folder) -> Iterator[TestClient]:
    settings = replace(ServerSettings(port=0), state_dir=folder)
    app, service = conversing(lambda: talker(max_sequences=4), settings)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        while service.status == "loading":
            time.sleep(0.01)
        yield client


@pytest.fixture(scope="module")
def number(client) -> str:
    number = client.post("/v1/conversations", json={}).json()["id"]
    assert client.post(f"/ask/{number}", json={"text": "Hi"}).status_code == 200
    return number


def everything(folder: Path) -> dict[str, bytes | None]:
    """All files in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_are_none(client, number, folder, name):
    (folder.parent / "secret").write_bytes(b"secret")
    before = everything(folder.parent)
    path = f"/v1/conversations/{number}"
    responses = [
        client.post("/v1/conversations/restore", json={"name": name}),
        client.post("/slots/0", params={"action": "save"}, json={"filename": name}),
        client.post("/slots/0", params={"action": "restore"}, json={"filename": name}),
    ]
    if name:
        responses.append(client.post(f"{path}/save", json={"name": name}))
    with suppress(ValueError):  # httpx refuses some of these itself
        quoted = "".join(f"%{byte:02x}" for byte in name.encode())
        responses.append(client.delete(f"/v1/conversations/saved/{quoted}"))
    for response in responses:
        assert response.status_code in (400, 404, 405)
    assert everything(folder.parent) == before


def test_links_lead_nowhere(client, number, folder):
    """Links that somebody else has put there, of files and of folders."""
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    saved = client.post(f"/v1/conversations/{number}/save", json={"name": "good"})
    assert saved.status_code == 200
    inside = folder / "conversations" / "open"
    (outside / "a").write_bytes((inside / "good").read_bytes())
    (inside / "link").symlink_to(outside / "a")
    (inside / "dangling").symlink_to(outside / "new")
    (inside / "directory").mkdir()
    os.mkfifo(inside / "pipe")
    before = everything(outside)
    for name in ("link", "dangling", "directory", "pipe"):
        path = f"/v1/conversations/{number}/save"
        assert client.post(path, json={"name": name}).status_code == 409
        response = client.post("/v1/conversations/restore", json={"name": name})
        assert response.status_code in (404, 409)
    listed = {each["name"] for each in client.get("/v1/conversations/saved").json()["data"]}
    assert listed == {"good"}
    slots = folder / "slots"
    slots.symlink_to(outside, target_is_directory=True)
    for action in ("save", "restore"):
        body = {"filename": "a"}
        response = client.post("/slots/0", params={"action": action}, json=body)
        assert response.status_code in (409, 500)
    assert everything(outside) == before
    for name in ("link", "dangling", "pipe"):
        (inside / name).unlink()
    (inside / "directory").rmdir()
    slots.unlink()
    with pytest.raises(Refused):
        Folder(folder, "..").target("secret/x")


def test_files_that_are_damaged_or_foreign(client, number, folder):
    """They are in the list with what is wrong, and refused when they are restored."""
    assert client.post(f"/v1/conversations/{number}/save", json={"name": "good"}).status_code == 200
    inside = folder / "conversations" / "open"
    whole = (inside / "good").read_bytes()
    random = np.random.default_rng(1)
    wrong: dict[str, bytes] = {
        "empty": b"",
        "short": whole[:100],
        "cut": whole[:-5],
        "longer": whole + b"x",
        "text": b"hello" * 100,
        "gguf": b"GGUF" + bytes(100),
        "random": random.bytes(5000),
    }
    for place in random.integers(0, len(whole), 30).tolist():
        wrong[f"flipped-{place}"] = whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
    for name, data in wrong.items():
        (inside / name).write_bytes(data)
    listed = {each["name"]: each for each in client.get("/v1/conversations/saved").json()["data"]}
    assert {*wrong, "good"} <= {*listed}
    assert "error" not in listed["good"]
    for name in ("empty", "short", "text", "gguf", "random"):
        assert listed[name]["error"]
    before = len(client.get("/v1/conversations").json()["data"])
    for name in wrong:
        response = client.post("/v1/conversations/restore", json={"name": name})
        assert response.status_code == 409, response.text
        assert response.json()["error"]["message"]
    assert len(client.get("/v1/conversations").json()["data"]) == before
    restored = client.post("/v1/conversations/restore", json={"name": "good"})
    assert restored.status_code == 200
    for name in wrong:
        assert client.delete(f"/v1/conversations/saved/{name}").status_code == 200


def test_notes_that_make_no_sense(client, number, folder):
    """Sound state files whose notes a server didn't write."""
    llm: Any = client.app.state.service.text.llm.llm  # type: ignore[attr-defined]
    inside = folder / "conversations" / "open"
    inside.mkdir(parents=True, exist_ok=True)
    good = '{"id": "conv_%s", "created": 1, "metadata": {}, "store": false, ' % ("0" * 48)
    for said in (
        {},
        {"motet.conversation": ""},
        {"motet.conversation": "[" * 100_000},
        {"motet.conversation": "{}"},
        {"motet.conversation": good + '"ids": [], "messages": [{}], "turns": [[0, 0]]}'},
        {"motet.conversation": good + '"ids": [], "messages": [], "turns": []}'},
        {"motet.conversation": good + '"ids": [], "messages": [], "turns": [[5, 0]]}'},
        {"motet.conversation": good + '"ids": ["a"], "messages": [{}], "turns": [[0, 0]]}'},
        {"motet.conversation": good + '"ids": [], "messages": [], "turns": [[0, 0], [-1, 0]]}'},
    ):
        llm.save(inside / "odd", said, notes_only=True)
        response = client.post("/v1/conversations/restore", json={"name": "odd"})
        assert response.status_code == 409, response.text
        (odd,) = [
            each
            for each in client.get("/v1/conversations/saved").json()["data"]
            if each["name"] == "odd"
        ]
        assert odd["error"]
    (inside / "odd").unlink()


def test_the_end_does_not_wait_for_an_answer(client, number, folder):
    """What was said before it is saved all the same."""
    conversations = client.app.state.service.conversations

    async def end() -> None:
        async with conversations.turn(number, "open"):
            await asyncio.wait_for(conversations.save_all(), 30)

    saved = folder / "conversations" / "open" / number
    assert not saved.exists()
    client.portal.call(end)
    assert saved.exists()


def test_a_turn_in_what_is_deleted_meanwhile(client):
    made = client.post("/v1/conversations", json={}).json()["id"]
    conversations = client.app.state.service.conversations

    async def turn() -> None:
        entry = await conversations.get(made, "open")
        async with entry.lock:
            coming = asyncio.ensure_future(anext(conversations.turn(made, "open").gen))
            while not entry.answering:
                await asyncio.sleep(0)
            del conversations._all[made]
        with pytest.raises(Refused, match="there is no conversation"):
            await coming

    client.portal.call(turn)


def test_whose_a_request_is_only_the_key_says():
    settings = ServerSettings(port=0, api_keys=("one", "two"))
    app, service = conversing(lambda: talker(max_sequences=2), settings)
    seen: list[str] = []

    @app.get("/who")
    async def who(request: Request) -> None:
        seen.append(client_of(request) + owner_of(request))

    with TestClient(app, base_url="http://127.0.0.1") as client:
        for headers in (
            {"X-Api-Key": "one"},
            {"X-Api-Key": "one", "Authorization": "Bearer other"},
            {"X-Api-Key": "other", "Authorization": "bearer  one "},
        ):
            assert client.get("/who", headers=headers).status_code == 200
        while service.status == "loading":
            time.sleep(0.01)
    assert len(seen) == 3 and len({*seen}) == 1
