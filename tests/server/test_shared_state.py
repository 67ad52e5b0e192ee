"""Conversations of servers that share a state directory: each goes on where another ended."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.server.test_conversations import ask, facts, new, refused, same, served


@contextmanager
def two(folder: Any, **settings: Any) -> Iterator[tuple[Any, Any]]:
    settings = {"shared_state": True, **settings}
    with served(folder, **settings) as one, served(folder, **settings) as other:
        yield one, other


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[tuple[Any, Any]]:
    with two(tmp_path_factory.mktemp("state")) as servers:
        yield servers


def test_each_turn_may_be_answered_by_another_server(servers, tmp_path_factory):
    one, other = servers
    turns = [(one, "Hello"), (other, "Again"), (other, "More"), (one, "And"), (other, "End")]
    number = new(one)
    answers = [ask(server, number, text) for server, text in turns]
    with served(tmp_path_factory.mktemp("alone")) as alone:
        kept = new(alone)
        for (_, text), answer in zip(turns, answers, strict=True):
            assert same(answer, ask(alone, kept, text))
    assert len(facts(one, number)["turns"]) == len(facts(other, number)["turns"]) == 5


def test_what_was_computed_comes_along(servers):
    one, other = servers
    number = new(one)
    first = ask(one, number, "Once upon a time there was a little girl")
    moved = ask(other, number, "And then")
    assert moved["cached"] >= first["prompt"]
    stayed = ask(other, number, "And then")
    assert stayed["cached"] >= moved["prompt"]


def test_what_one_deletes_is_gone_at_the_other(servers):
    one, other = servers
    number = new(one)
    ask(other, number, "Hello")
    assert one.delete(f"/v1/conversations/{number}").status_code == 200
    refused(other.get(f"/v1/conversations/{number}"), 404, "there is no conversation")


def test_an_answer_never_replaces_one_that_came_in_between(servers, monkeypatch):
    """Two servers answer in one conversation at once: the one that is later is refused."""
    one, other = servers
    number = new(one)
    ask(one, number, "Hello")
    conversations = other.app.state.service.conversations
    ended = conversations._ended

    async def late(entry, turn):
        monkeypatch.setattr(conversations, "_ended", ended)
        ask(one, number, "Before")
        await ended(entry, turn)

    monkeypatch.setattr(conversations, "_ended", late)
    response = other.post(f"/ask/{number}", json={"text": "Late"})
    assert refused(response, 409, "another server went on")["code"] == "conversation_changed"
    assert len(facts(one, number)["turns"]) == 2
    assert len(facts(other, number)["turns"]) == 2


def test_a_server_that_stops_leaves_what_others_wrote(tmp_path):
    with served(tmp_path, shared_state=True) as other:
        with served(tmp_path, shared_state=True) as one:
            number = new(one)
            ask(one, number, "Hello")
            ask(other, number, "Again")
        assert len(facts(other, number)["turns"]) == 2
