"""Tokens by probability, their alternatives, and branches from these."""

import math
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from motet.server.settings import ServerSettings
from tests.page.conftest import PHONE, WIDE
from tests.page.talking import Visit, cached, ended, last, say, texts, until
from tests.server.models import chatting
from tests.server.running import serving


@pytest.fixture(scope="module")
def server(browser: Any) -> Generator[httpx.Client]:
    settings = ServerSettings(port=0, max_tokens=24, shutdown_seconds=2)
    with serving(chatting, settings=settings) as client:
        yield client


def prompt_tokens(page: Any) -> int:
    return int(page.locator(".last .facts").inner_text().split("prompt ")[1].split(",")[0])


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_going_on_from_an_alternative(
    server: httpx.Client, visit: Visit, size: tuple[int, int]
) -> None:
    page = visit(server.base_url, size)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Temperature").fill("0")  # others may end early
    page.keyboard.press("Escape")
    say(page, "Once upon a time there was a little girl")
    first = texts(page)[1]
    asked = prompt_tokens(page)
    last(page, "Show probabilities").click()
    tokens = page.locator(".last .tokens .token")
    until(page, lambda: tokens.count() == 24)
    joined = "".join(tokens.all_inner_texts()).replace("⏎", "")
    assert " ".join(joined.split()) == " ".join(first.split())
    if size == PHONE:
        tokens.nth(6).tap()
    else:
        tokens.nth(6).hover()
    choices = page.locator(".alternatives button:not(:disabled)")
    until(page, lambda: choices.count() >= 4)
    name = choices.last.get_attribute("aria-label")
    chosen = choices.last.locator("code").inner_text().replace("␣", " ").replace("⏎", "\n")
    assert name.startswith("Continue from ")
    kept = [each.replace("⏎", "") for each in tokens.all_inner_texts()[:6]]
    choices.last.click()
    page.wait_for_selector("text=2/2")
    ended(page)
    second = page.locator(".last .text").inner_text()
    begun = "".join([*kept, chosen])
    assert "".join(second.split()).startswith("".join(begun.split()))
    assert second != first
    # All before the answer was in memory, and of that what the same text is as a part of a prompt.
    assert asked <= cached(page) < prompt_tokens(page)
    last(page, "Show probabilities").click()
    assert page.locator(".last .token.picked").count() == 1
    page.get_by_role("button", name="Previous version").last.click()
    assert page.locator(".last .text").inner_text() == first


def test_they_are_the_servers(server: httpx.Client, visit: Visit) -> None:
    page = visit(server.base_url)
    with page.expect_request("**/v1/chat/completions") as asked:
        say(page, "The cat")
    body = {**asked.value.post_data_json, "stream": False, "seed": 5, "max_tokens": 10}
    for field in ("stream_options", "return_progress"):
        body.pop(field)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Seed").fill("5")
    page.get_by_label("Tokens of an answer").fill("10")
    last(page, "Answer again").click()
    page.wait_for_selector("text=2/2")
    ended(page)
    whole = server.post("/v1/chat/completions", json=body).json()
    rows = whole["choices"][0]["logprobs"]["content"]
    last(page, "Show probabilities").click()
    tokens = page.locator(".last .tokens .token")
    until(page, lambda: tokens.count() == len(rows))
    for element, row in zip(tokens.all(), rows, strict=True):
        share = math.exp(row["logprob"])
        assert f"c{math.floor(share * 10)}" in (element.get_attribute("class") or "").split()
    tokens.nth(3).click()
    shown = page.locator(".alternatives button code").all_inner_texts()
    best = [each["token"] for each in rows[3]["top_logprobs"]]
    wanted = [token.replace(" ", "␣").replace("\n", "⏎") for token in best]
    assert shown[:5] == wanted


def test_without_them(server: httpx.Client, visit: Visit) -> None:
    page = visit(server.base_url)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Keep probabilities").uncheck()
    with page.expect_request("**/v1/chat/completions") as asked:
        say(page, "The cat")
    assert "logprobs" not in asked.value.post_data_json
    assert not page.get_by_role("button", name="Show probabilities").count()


@pytest.mark.parametrize("key", ["Alt+p", "Alt+n"])
def test_alternatives_go_with_their_token(server: httpx.Client, visit: Visit, key: str) -> None:
    page = visit(server.base_url)
    say(page, "The cat")
    last(page, "Show probabilities").click()
    page.locator(".last .tokens .token").nth(3).hover()
    page.wait_for_selector(".alternatives")
    page.keyboard.press(key)
    until(page, lambda: not page.locator(".tokens").count())
    until(page, lambda: not page.locator(".alternatives").count())
