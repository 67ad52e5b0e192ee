"""/slots: what each sequence holds, saved, restored and erased as llama-server has it."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from motet.server.settings import ServerSettings
from tests.server.conversing import conversing, talker

PROMPT = "Once upon a time there was a bird"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def served(folder) -> Iterator[tuple[TestClient, Any]]:
    settings = replace(ServerSettings(port=0), state_dir=folder)
    app, service = conversing(lambda: talker(max_sequences=4), settings)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        while service.status == "loading":
            time.sleep(0.01)
        yield client, service.text.llm.llm


def act(client: TestClient, slot: int, action: str, **body: Any) -> Any:
    return client.post(f"/slots/{slot}", params={"action": action}, json=body)


def test_slots_are_saved_restored_and_erased(served, folder):
    client, llm = served
    first = llm.generate(PROMPT, slot=1, max_tokens=10, seed=1)
    held = first.usage.prompt_tokens + 9
    saved = act(client, 1, "save", filename="slot1.bin").json()
    assert (saved["id_slot"], saved["filename"], saved["n_saved"]) == (1, "slot1.bin", held)
    assert saved["n_written"] == (folder / "slots" / "slot1.bin").stat().st_size
    assert saved["timings"]["save_ms"] >= 0
    restored = act(client, 0, "restore", filename="slot1.bin").json()
    assert (restored["n_restored"], restored["n_read"]) == (held, saved["n_written"])
    again = llm.generate(PROMPT, slot=0, max_tokens=10, seed=1)
    assert (again.text, again.usage.cached_tokens) == (first.text, first.usage.prompt_tokens - 1)
    assert act(client, 1, "erase").json() == {"id_slot": 1, "n_erased": held}
    slots = client.get("/slots").json()
    assert [slot["id"] for slot in slots] == [0, 1, 2, 3]
    assert slots[1]["n_tokens"] == 0
    assert not slots[0]["is_processing"]
    assert slots[0]["n_ctx"] == llm.max_tokens
    assert slots[0]["speculative"] is llm.speculates


def test_what_is_busy_is_waited_for(served):
    client, llm = served
    stream = llm.generate(PROMPT, slot=2, stream=True, max_tokens=60, seed=1)
    next(stream)
    slot = client.get("/slots").json()[2]
    assert slot["is_processing"]
    assert slot["next_token"]["n_decoded"] >= 1
    assert slot["params"]["n_predict"] == 60
    answered: list[Any] = []
    waits = threading.Thread(target=lambda: answered.append(act(client, 2, "erase")))
    waits.start()
    *_, last = stream
    waits.join()
    assert answered[0].json()["n_erased"] == last.completion.usage.prompt_tokens + 59


def test_none_is_free(served):
    client, llm = served
    streams = [llm.generate([number], stream=True, max_tokens=200) for number in range(4)]
    for stream in streams:
        next(stream)
    assert client.get("/slots").status_code == 200
    assert client.get("/slots", params={"fail_on_no_slot": 1}).status_code == 503
    for stream in streams:
        stream.close()


def test_what_makes_no_sense_is_refused(served):
    client, llm = served
    assert act(client, 4, "erase").status_code == 400
    assert client.post("/slots/-1", params={"action": "erase"}).status_code == 400
    assert client.post("/slots/0", params={"action": "drop"}).status_code == 400
    assert client.post("/slots/0").status_code == 400
    assert act(client, 0, "save").status_code == 400
    assert act(client, 0, "restore", filename="none").status_code == 404
    assert act(client, 0, "save", filename="x", more=1).status_code == 400
    with llm.conversation() as conversation:
        llm.generate(PROMPT, conversation=conversation, max_tokens=2)
        (kept,) = [slot["id"] for slot in client.get("/slots").json() if slot["is_conversation"]]
        assert act(client, kept, "erase").status_code == 409


def test_without_a_state_directory(served):
    app, service = conversing(lambda: talker(max_sequences=2), ServerSettings(port=0))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        while service.status == "loading":
            time.sleep(0.01)
        assert act(client, 0, "save", filename="x").status_code == 501
        assert act(client, 0, "erase").status_code == 200
