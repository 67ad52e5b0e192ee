"""Conversations, as people have them in a browser."""

import json
import re
from typing import Any

import httpx
import pytest

from motet.server.settings import ServerSettings
from tests.page.conftest import PHONE, WIDE
from tests.page.talking import (
    Held,
    Visit,
    cached,
    echoing,
    ended,
    last,
    parrot,
    say,
    send,
    shows,
    texts,
    until,
)
from tests.server.models import chatting, tiny
from tests.server.running import serving


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_a_conversation(server: httpx.Client, visit: Visit, size: tuple[int, int]) -> None:
    page = visit(server.base_url, size)
    say(page, "Hello")
    say(page, "Again")
    assert texts(page) == ["Hello", "Answer 1 to: Hello", "Again", "Answer 2 to: Again"]
    assert re.match(r"19 tokens · .* a second · prompt", page.locator(".last .facts").inner_text())
    assert page.title() == "Hello – Motet"
    page.reload()
    ended(page)
    assert texts(page) == ["Hello", "Answer 1 to: Hello", "Again", "Answer 2 to: Again"]
    for name in ("html", "#talks", "#scroll"):
        assert page.locator(name).evaluate("it => it.scrollWidth <= it.clientWidth"), name


def test_an_answer_comes_in_pieces_and_is_stopped(browser: Any, visit: Visit) -> None:
    held = Held(parrot, at=8)
    with serving(held) as client:
        page = visit(client.base_url)
        page.keyboard.type("Hello there")
        page.keyboard.press("Enter")
        shows(page, "Hello there", "Answer 1")
        assert page.get_by_role("button", name="Stop").is_visible()
        page.keyboard.press("Escape")
        page.wait_for_selector("text=Stopped.")
        assert texts(page) == ["Hello there", "Answer 1"]
        held.free.set()
        page.get_by_role("button", name="Continue").click()
        shows(page, "Hello there", "Answer 1 to: Hello there")
        ended(page)
        assert not page.locator(".trouble:visible").count()


def test_a_reload_in_the_middle_of_an_answer(browser: Any, visit: Visit) -> None:
    held = Held(parrot, at=8)
    with serving(held) as client:
        page = visit(client.base_url)
        page.keyboard.type("Hello")
        page.keyboard.press("Enter")
        shows(page, "Hello", "Answer 1")
        page.wait_for_timeout(1100)  # what there is is saved every second
        page.reload()
        page.wait_for_selector("text=The page was closed while the answer was written.")
        assert texts(page) == ["Hello", "Answer 1"]
        held.free.set()
        page.get_by_role("button", name="Continue").click()
        shows(page, "Hello", "Answer 1 to: Hello")


def test_branches_cost_nothing(server: httpx.Client, visit: Visit) -> None:
    """Going back to a branch and on from there computes nothing of what was said in it again."""
    page = visit(server.base_url)
    spent: list[dict[str, Any]] = []

    def heard(route: Any) -> None:
        """Hand an answer on, and note what the server says of it at the end."""
        response = route.fetch()
        events = [line[6:] for line in response.text().splitlines() if line.startswith("data: {")]
        spent.append(json.loads(events[-1])["usage"])
        route.fulfill(response=response)

    page.route("**/v1/chat/completions", heard)
    first = "Tell me of rivers and of all that swims in them"
    say(page, first)
    say(page, "Which is the longest one?")
    page.locator(".user").last.get_by_role("button", name="Edit").click(force=True)
    area = page.locator(".editing textarea")
    area.fill("Which is the shortest one?")
    area.press("Enter")
    page.wait_for_selector("text=Answer 2 to: Which is the shortest one?")
    ended(page)
    assert page.locator(".user").last.locator(".turns").inner_text() == "2/2"
    page.get_by_role("button", name="Previous version").last.click()
    assert texts(page)[3] == "Answer 2 to: Which is the longest one?"
    say(page, "Thanks")
    assert len(spent) == 4
    said = [use["prompt_tokens_details"]["cached_tokens"] for use in spent]
    assert cached(page) == said[3]
    # All of the branch: its last prompt and answer, but for the token that ended it.
    branch = spent[1]["prompt_tokens"] + spent[1]["completion_tokens"] - 1
    assert said[3] == branch
    # And the edited one went on from what both have in common: all before the word that differs.
    page.get_by_role("button", name="Next version").last.click()
    assert cached(page) == said[2]
    common = f"[user]{first}\x01Answer 1 to: {first}[user]Which is the "
    assert said[2] == len(common) + 1  # BOS


def test_an_answer_again(server: httpx.Client, visit: Visit) -> None:
    page = visit(server.base_url)
    say(page, "Hello")
    last(page, "Answer again").click()
    page.wait_for_selector("text=2/2")
    ended(page)
    assert texts(page) == ["Hello", "Answer 1 to: Hello"]
    last(page, "Delete").click()
    assert not page.locator(".turns:visible").count() and len(texts(page)) == 2
    page.get_by_role("button", name="Undo").click()
    assert page.locator(".last .turns").inner_text() == "2/2"


def test_a_server_that_is_started_again(browser: Any, visit: Visit) -> None:
    with serving(echoing) as client:
        url = client.base_url
        page = visit(url, expected="net::ERR")
        say(page, "Hello")
    send(page, "Still there?")
    page.wait_for_selector("text=can’t be reached")
    with serving(echoing, settings=ServerSettings(port=url.port or 0, shutdown_seconds=2)):
        page.wait_for_selector(".banner", state="hidden")
        page.reload()
        shows(page, "Hello", "Answer 1 to: Hello", "Still there?", "")
        page.get_by_role("button", name="Try again").click()
        shows(page, "Hello", "Answer 1 to: Hello", "Still there?", "Answer 2 to: Still there?")


def test_with_the_keyboard_alone(server: httpx.Client, visit: Visit) -> None:
    page = visit(server.base_url)
    keys = page.keyboard
    keys.type("First line")
    keys.press("Shift+Enter")
    keys.type("second")
    keys.press("Enter")
    page.wait_for_selector("text=Answer 1 to: First line")
    ended(page)
    assert texts(page)[0] == "First line\nsecond"
    keys.press("ArrowUp")
    keys.press("Control+A")
    keys.type("Other")
    keys.press("Enter")
    page.wait_for_selector("text=Answer 1 to: Other")
    ended(page)
    keys.press("Alt+ArrowLeft")
    page.wait_for_selector("text=Answer 1 to: First line")
    keys.press("Alt+ArrowRight")
    page.wait_for_selector("text=Answer 1 to: Other")
    keys.press("Alt+r")
    page.wait_for_selector(".assistant .turns:visible")
    ended(page)
    keys.press("Alt+p")
    page.wait_for_selector(".tokens .token")
    page.locator(".tokens").locator('[tabindex="0"]').focus()
    keys.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.place") == "1"
    keys.press("Enter")
    page.wait_for_selector(".alternatives")
    keys.press("Escape")
    page.wait_for_selector(".alternatives", state="detached")
    assert page.evaluate("document.activeElement.dataset.place") == "1"
    keys.press("Alt+n")
    page.wait_for_selector(".welcome")
    keys.press("Control+k")
    keys.type("other")
    assert page.locator(".talk").count() == 1
    keys.press("Escape")
    keys.press("Escape")
    keys.press("Shift+Tab")
    keys.press("?")
    assert page.get_by_role("dialog", name="Keyboard").is_visible()
    keys.press("Escape")
    keys.press("Alt+s")
    keys.type("Be brief.")
    keys.press("Tab")
    keys.press("Alt+s")
    keys.press("/")
    keys.type("Hello")
    keys.press("Enter")
    shows(page, "Hello", "Answer 1 to: Hello")


def test_settings_are_asked_for(server: httpx.Client, visit: Visit) -> None:
    page = visit(server.base_url)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Temperature").fill("0.3")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Stop texts").fill("Hel\nx\\ny")
    page.get_by_label("Tokens of an answer").fill("5")
    with page.expect_request("**/v1/chat/completions") as asked:
        say(page, "Hello")
    body = asked.value.post_data_json
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0.3, 7, 5)
    assert body["stop"] == ["Hel", "x\ny"]
    assert texts(page)[1] == "Answe"
    page.wait_for_selector("text=Cut at the limit of tokens.")
    page.reload()
    page.get_by_role("button", name="Settings").click()
    assert page.get_by_label("Seed").input_value() == "7"


def talks(page: Any, *names: str) -> None:
    """Wait until these conversations are listed."""
    until(page, lambda: page.locator(".talk a").all_inner_texts() == [*names])


def test_several_conversations(server: httpx.Client, visit: Visit) -> None:
    page = visit(server.base_url)
    for text in ("Rivers", "Mountains"):
        say(page, text)
        page.get_by_role("button", name="New conversation").click()
    talks(page, "Mountains", "Rivers")
    page.get_by_label("Search").fill("answer riv")
    talks(page, "Rivers")
    page.locator(".talk a").click()
    assert texts(page)[0] == "Rivers"
    page.locator(".talk").hover()
    page.get_by_role("button", name="Rename Rivers").click()
    page.keyboard.type("Waters")
    page.keyboard.press("Enter")
    page.get_by_label("Search").fill("")
    talks(page, "Mountains", "Waters")
    page.reload()
    talks(page, "Mountains", "Waters")
    page.locator(".talk").last.hover()
    page.get_by_role("button", name="Delete Waters").click()
    talks(page, "Mountains")
    page.get_by_role("button", name="Undo").click()
    talks(page, "Mountains", "Waters")


def test_a_model_without_a_chat_template(browser: Any, visit: Visit) -> None:
    with serving(tiny) as client:
        page = visit(client.base_url)
        page.wait_for_selector("text=no chat template")
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Tokens of an answer").fill("12")
        page.get_by_label("Temperature").fill("0")
        send(page, "Once upon a time")
        page.wait_for_selector("text=Cut at the limit of tokens.")
        whole = client.post(
            "/completion", json={"prompt": "Once upon a time", "n_predict": 24, "temperature": 0}
        ).json()["content"]
        assert page.locator(".assistant .facts").inner_text().startswith("12 tokens")
        page.get_by_role("button", name="Continue").click()
        said = page.locator(".assistant .text")
        until(page, lambda: "".join(said.inner_text().split()) == "".join(whole.split()))
        until(page, lambda: "cached" in page.locator(".last .facts").inner_text())


def test_a_text_goes_on_a_part_at_a_time(browser: Any, visit: Visit) -> None:
    """Models without a chat template seldom end: a quarter of the context, unless it is said."""
    for most, part in ((None, "64"), (7, "7")):
        with serving(tiny, settings=ServerSettings(port=0, max_tokens=most)) as client:
            page = visit(client.base_url)
            page.get_by_role("button", name="Settings").click()
            page.get_by_label("Temperature").fill("0")
            assert page.get_by_label("Tokens of an answer").get_attribute("placeholder") == part
            send(page, "Once upon a time")
            page.wait_for_selector("text=Cut at the limit of tokens.")
            assert page.locator(".assistant .facts").inner_text().startswith(f"{part} tokens")


DROP = """([name, bytes]) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([new Uint8Array(bytes)], name));
  const drop = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
  return document.body.dispatchEvent(drop);
}"""


def test_files_that_are_dropped(server: httpx.Client, visit: Visit) -> None:
    """Those of text are written into the message, and none has the browser leave the page."""
    page = visit(server.base_url)
    message = page.get_by_label("Message", exact=True)
    message.fill("Read this. ")
    assert page.evaluate(DROP, ["a.md", [*"```\nä\n```\n".encode()]]) is False
    wanted = "Read this. a.md:\n````\n```\nä\n```\n````\n"
    until(page, lambda: message.input_value() == wanted)
    for name, content in (("b.png", [0x89, 0x50, 0]), ("c.txt", [0xFF]), ("d", [65] * (2**20 + 1))):
        assert page.evaluate(DROP, [name, content]) is False
        page.wait_for_selector(f"text={name} is no text of at most a megabyte.")
    assert message.input_value() == wanted
    page.get_by_role("button", name="Send").click()
    ended(page)
    assert texts(page)[0].rstrip() == wanted.rstrip()


def test_the_context_fills(browser: Any, visit: Visit) -> None:
    with serving(lambda: chatting(max_tokens=64)) as client:
        page = visit(client.base_url, expected="400")
        say(page, "Once upon a time")
        page.wait_for_selector("text=The context of 64 tokens is full.")
        assert page.locator("#meter").inner_text().startswith("64 / 64")
        say(page, "Go on")
        page.wait_for_selector(".trouble.bad >> text=and the context holds 64, the answer")
        assert page.locator(".trouble").get_by_role("button", name="New conversation").is_visible()
