"""Answers that go on from what the assistant began to say, in each API; names of a model."""

from collections.abc import Generator
from typing import Any

import httpx
import pytest

from motet.server.settings import ServerSettings
from tests.server.models import chatting
from tests.server.replying import TURN, replies
from tests.server.running import serving

ASKED = {"role": "user", "content": "Hello"}
BEGUN = {"role": "assistant", "content": "You sa"}
PROMPT = f"[user]Hello{TURN}You sa"


def reply(prompt: str) -> str:
    """What the model says."""
    return "<think>Hm. So</think>Fine." if "think" in prompt else "You said it."


@pytest.fixture(scope="module")
def server() -> Generator[httpx.Client]:
    settings = ServerSettings(port=0, verbose=True)
    with serving(replies(reply), settings=settings) as client:
        yield client


def ask(server: httpx.Client, *messages: Any, path: str = "/v1/chat/completions", **body: Any):
    response = server.post(path, json={"messages": messages, "temperature": 0, **body})
    assert response.status_code == 200, response.text
    return response.json()


def refused(server: httpx.Client, *messages: Any, path: str, **body: Any) -> str:
    response = server.post(path, json={"messages": messages, **body})
    assert response.status_code == 400, response.text
    return response.json()["error"]["message"]


@pytest.mark.parametrize("more", [{}, {"add_generation_prompt": False}])
@pytest.mark.parametrize("asked", [{}, {"continue_final_message": True}])
def test_chats_go_on(server: httpx.Client, more: Any, asked: Any) -> None:
    answer = ask(server, ASKED, BEGUN, **more, **asked)
    assert answer["choices"][0]["message"]["content"] == "id it."
    assert answer["__verbose"]["prompt"].endswith(PROMPT)
    (shown,) = {
        server.post("/apply-template", json={"messages": [ASKED, BEGUN], **more, **asked}).text
    }
    assert shown == httpx.Response(200, json={"prompt": PROMPT}).text
    count = ask(server, ASKED, BEGUN, path="/v1/chat/completions/input_tokens", **more, **asked)
    assert count["input_tokens"] == answer["usage"]["prompt_tokens"]


def test_a_message_that_is_whole_is_followed_by_another(server: httpx.Client) -> None:
    answer = ask(server, ASKED, BEGUN, continue_final_message=False)
    assert answer["choices"][0]["message"]["content"] == "You said it."
    assert answer["__verbose"]["prompt"].endswith(PROMPT + TURN)


def test_what_contradicts_itself_is_refused(server: httpx.Client) -> None:
    def said(*messages: Any, **body: Any) -> str:
        return refused(server, *messages, path="/v1/chat/completions", **body)

    both = {"add_generation_prompt": True, "continue_final_message": True}
    assert "both true" in said(ASKED, BEGUN, **both)
    assert "not the assistant's" in said(ASKED, continue_final_message=True)
    assert "add_generation_prompt" in said(ASKED, add_generation_prompt=False)
    assert "last two messages" in said(ASKED, BEGUN, BEGUN)
    number = server.post("/v1/conversations", json={}).json()["id"]
    assert "begins with another's" in said(ASKED, BEGUN, conversation=number)
    turn = ask(server, ASKED, BEGUN, conversation=number, continue_final_message=False)
    assert turn["choices"][0]["message"]["content"] == "You said it."


def test_messages_go_on(server: httpx.Client) -> None:
    body: Any = {"path": "/v1/messages", "max_tokens": 99}
    answer = ask(server, ASKED, BEGUN, **body)
    assert [(b["type"], b["text"]) for b in answer["content"]] == [("text", "id it.")]
    count = ask(server, ASKED, BEGUN, path="/v1/messages/count_tokens")["input_tokens"]
    usage = answer["usage"]
    assert count == usage["input_tokens"] + usage["cache_read_input_tokens"]
    thought = {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}]}
    answer = ask(server, {"role": "user", "content": "think"}, thought, **body)
    assert [b["type"] for b in answer["content"]] == ["thinking", "text"]
    assert answer["content"][0]["thinking"] == " So" and answer["content"][1]["text"] == "Fine."
    call = {"type": "tool_use", "id": "a", "name": "now", "input": {}}
    calling = {"role": "assistant", "content": [call]}
    assert "calls tools" in refused(server, ASKED, calling, **body)


def test_a_model_has_several_names() -> None:
    settings = ServerSettings(port=0, aliases=("one", "two"), tags=("small",))
    with serving(chatting, settings=settings) as server:
        (model,) = server.get("/v1/models").json()["data"]
        assert (model["id"], model["aliases"], model["tags"]) == ("one", ["one", "two"], ["small"])
        assert server.get("/v1/models/two").json()["id"] == "one"
        assert server.get("/v1/models/three").status_code == 404
        assert ask(server, ASKED, model="two", max_tokens=1)["model"] == "one"
