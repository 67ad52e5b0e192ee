"""What the page does when the server is locked, busy, loading or gone."""

import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from motet.server.settings import ServerSettings
from tests.page.conftest import ELSEWHERE
from tests.page.talking import Held, Visit, echoing, last, parrot, say, send, shows, until
from tests.server.models import embedding, tiny
from tests.server.running import serving

NOTHING = """for (const name of ["localStorage", "sessionStorage", "indexedDB"]) {
  Object.defineProperty(window, name, { get() { throw new DOMException("no") } });
}"""


def test_a_key_is_asked_for(browser: Any, visit: Visit) -> None:
    settings = ServerSettings(port=0, api_keys=("schlüssel",), shutdown_seconds=2)
    with serving(echoing, settings=settings) as client:
        page = visit(client.base_url, expected="401")
        page.get_by_role("dialog", name="API key").get_by_label("API key").fill("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=The server didn’t take that key.")
        page.get_by_role("dialog").get_by_label("API key").fill("schlüssel")
        page.keyboard.press("Enter")
        page.wait_for_selector("#model:not(:empty)")
        say(page, "Hello")
        page.reload()  # it is known until the tab is closed
        page.wait_for_selector("#model:not(:empty)")
        say(page, "Again")
        shows(page, "Hello", "Answer 1 to: Hello", "Again", "Answer 2 to: Again")
        assert "schl" not in str(page.evaluate("JSON.stringify(localStorage)"))


def test_a_key_that_is_kept(browser: Any, visit: Visit) -> None:
    settings = ServerSettings(port=0, api_keys=("key",), shutdown_seconds=2)
    with serving(echoing, settings=settings) as client:
        page = visit(client.base_url, expected="401")
        page.get_by_role("dialog", name="API key").get_by_label("API key").fill("key")
        page.get_by_label("Keep it in this browser").check()
        page.keyboard.press("Enter")
        page.wait_for_selector("#model:not(:empty)")
        other = page.context.new_page()
        other.goto(str(client.base_url))
        other.wait_for_selector("#model:not(:empty)")
        say(other, "Hello")
        shows(other, "Hello", "Answer 1 to: Hello")


def test_another_model_after_a_restart(browser: Any, visit: Visit) -> None:
    """The page learns of it when it is looked at again, or from the first answer."""
    named = [ServerSettings(port=0, aliases=(name,), shutdown_seconds=2) for name in ("one", "two")]
    with serving(echoing, settings=named[0]) as client:
        page = visit(client.base_url)
        say(page, "Hello")
        port = client.base_url.port or 0
    with serving(echoing, settings=replace(named[1], port=port)):
        say(page, "Still there?")
        page.wait_for_selector("#model >> text=two")
        assert page.locator(".facts").nth(1).inner_text().startswith("one · ")
    with serving(tiny, settings=replace(named[0], port=port)):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_selector("#model >> text=one")
        page.keyboard.press("Alt+n")
        page.wait_for_selector("text=no chat template")


def test_it_asks_again_when_the_server_was_busy(browser: Any, visit: Visit) -> None:
    with serving(echoing) as client:
        page = visit(client.base_url, expected="429")
        asked: list[float] = []

        def refuse(route: Any) -> None:
            asked.append(time.monotonic())
            if len(asked) > 1:
                return route.continue_()
            error = {"error": {"message": "too much waits", "code": 429}}
            return route.fulfill(status=429, headers={"Retry-After": "1"}, json=error)

        page.route("**/v1/chat/completions", refuse)
        send(page, "Hello")
        page.wait_for_selector("text=The server is busy")
        shows(page, "Hello", "Answer 1 to: Hello")
        assert len(asked) == 2 and asked[1] - asked[0] >= 0.9


def test_a_server_that_stops_in_the_middle_of_an_answer(browser: Any, visit: Visit) -> None:
    held = Held(parrot, at=8)
    with serving(held, settings=ServerSettings(port=0, shutdown_seconds=0.1)) as client:
        page = visit(client.base_url, expected="Failed to load resource")
        send(page, "Hello")
        shows(page, "Hello", "Answer 1")
        held.free.set()
        port = client.base_url.port
        client.close()
    with serving(echoing, settings=ServerSettings(port=port or 0, shutdown_seconds=2)):
        until(page, lambda: page.locator(".message.last:not(.writing)").count() == 1)
        if page.get_by_role("button", name="Continue").count():
            until(page, lambda: not page.locator(".banner:visible").count())
            page.get_by_role("button", name="Continue").click()
        shows(page, "Hello", "Answer 1 to: Hello")


BEGUN = 'data: {"model": "m", "choices": [{"delta": {"content": "Answer"}, "finish_reason": null}]}'


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, f"{BEGUN}\n\n", "The answer was cut off."),
        (200, f"{BEGUN}\n\n{BEGUN[:40]}", "The answer was cut off."),
        (200, f"{BEGUN}\n\n{BEGUN[:40]}\n\n", "The connection to the server was lost."),
        (200, "<html>Sign in</html>", "The answer was cut off."),
        (200, "", "The answer was cut off."),
        (502, "<html>Bad gateway</html>", "The server answered with status 502."),
        (502, '{"error": "bad gateway"}', "The server answered with status 502."),
        (502, "null", "The server answered with status 502."),
        (502, '{"error": {"message": ["x"]}}', "The server answered with status 502."),
    ],
)
def test_a_proxy_in_the_way(
    server: httpx.Client, visit: Visit, status: int, body: str, said: str
) -> None:
    """It cuts answers off, or answers by itself; what there is stays, and can be gone on with."""
    page = visit(server.base_url, expected="502")
    path = "**/v1/chat/completions"
    page.route(path, lambda route: route.fulfill(status=status, body=body))
    send(page, "Hello")
    page.wait_for_selector(f".trouble >> text={said}")
    page.unroute(path)
    page.locator(".trouble button").click()
    shows(page, "Hello", "Answer 1 to: Hello")


def test_a_server_that_writes_nothing(browser: Any, visit: Visit) -> None:
    with serving(embedding) as client:
        page = visit(client.base_url, expected="501")
        send(page, "Hello")
        page.wait_for_selector(".trouble >> text=writes no text")


def test_a_model_that_is_still_loading(browser: Any, visit: Visit) -> None:
    with serving(echoing) as client:
        page = browser.new_page()
        asked: list[Any] = []

        def loading(route: Any) -> None:
            asked.append(route)
            if len(asked) > 1:
                return route.continue_()
            error = {"error": {"message": "Loading model", "code": 503}}
            return route.fulfill(status=503, headers={"Retry-After": "5"}, json=error)

        page.route("**/props", loading)
        page.goto(str(client.base_url))
        page.wait_for_selector("text=The model is being loaded")
        page.wait_for_selector("#model:not(:empty)")
        assert not page.locator(".banner").is_visible()
        page.close()


def test_a_browser_that_keeps_nothing(browser: Any) -> None:
    with serving(echoing) as client:
        page = browser.new_page()
        page.add_init_script(NOTHING)
        page.goto(str(client.base_url))
        page.wait_for_selector("text=This browser keeps nothing")
        page.wait_for_selector("#model:not(:empty)")
        say(page, "Hello")
        page.get_by_role("button", name="Theme: as the system has it").click()
        page.get_by_role("button", name="New conversation").click()
        page.locator(".talk a").click()
        shows(page, "Hello", "Answer 1 to: Hello")
        last(page, "Show probabilities").click()
        page.wait_for_selector(".tokens .token")
        page.close()


def test_a_database_that_is_closed_meanwhile(browser: Any, visit: Visit) -> None:
    """Its data were cleared, or the system took it away: what is said from then on is kept."""
    with serving(echoing) as client:
        page = visit(client.base_url)
        say(page, "Hello")
        origin = str(client.base_url).rstrip("/")
        cleared = {"origin": origin, "storageTypes": "indexeddb"}
        page.context.new_cdp_session(page).send("Storage.clearDataForOrigin", cleared)
        say(page, "Again")
        page.reload()
        shows(page, "Hello", "Answer 1 to: Hello", "Again", "Answer 2 to: Again")


def test_an_address_that_browsers_do_not_trust(browser: Any, visit: Visit) -> None:
    """As over a network without TLS: some of what browsers have is missing there."""
    settings = ServerSettings(port=0, hosts=(ELSEWHERE,), shutdown_seconds=2)
    with serving(echoing, settings=settings) as client:
        page = visit(f"http://{ELSEWHERE}:{client.base_url.port}")
        assert page.evaluate("isSecureContext") is False
        say(page, "Hello")
        last(page, "Copy").click()
        page.get_by_role("button", name="Copied").wait_for()
        page.get_by_label("Message", exact=True).focus()
        page.keyboard.press("Control+V")
        assert page.get_by_label("Message", exact=True).input_value() == "Answer 1 to: Hello"
