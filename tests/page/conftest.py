"""A real browser, headless: Playwright's Python package with Debian's Chromium."""

import os
import shutil
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.page.talking import Held, Visit, echoing, parrot, send, shows
from tests.server.running import serving

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell"))), None)
ELSEWHERE = "page.test"
"""A name of this machine that browsers don't trust as they do localhost."""
WIDE, PHONE = (1280, 800), (390, 844)


@pytest.fixture(scope="package")
def browser() -> Generator[Any]:
    """Skips where there is none: `pip install playwright`, `apt install chromium`.

    Closed after these tests: while it is open there is an event loop in this thread.
    """
    if CHROMIUM is None:
        pytest.skip("there is no chromium (apt install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with api.sync_playwright() as playwright:
        # Chromium's own sandbox does not work for root, as which CI runs.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        arguments.append(f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(browser: Any) -> Generator[httpx.Client]:
    """One that echoes, where a module has no other."""
    with serving(echoing) as client:
        yield client


@pytest.fixture(scope="module")
def page(browser: Any, server: httpx.Client) -> Generator[Any]:
    """The server's page, for what its modules do by themselves."""
    page = browser.new_page()
    page.goto(str(server.base_url))
    yield page
    page.close()


@pytest.fixture
def visit(browser: Any) -> Generator[Visit]:
    """Opens the page of a server, ``visit(url)``; fails at the end if anything complained there."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def opened(url: str, size: tuple[int, int] = WIDE, expected: str = "", **options: Any) -> Any:
        """``expected``: a part of what the console says that is not a complaint."""
        touch = size == PHONE
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            has_touch=touch,
            is_mobile=touch,
            **options,
        )
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()

        def said(message: Any) -> None:
            if message.type in ("error", "warning") and not (expected and expected in message.text):
                complaints.append(f"{message.type}: {message.text}")

        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(f"uncaught: {error}"))
        page.on(
            "request",
            lambda asked: (
                asked.url.startswith((str(url), "blob:")) or complaints.append(f"asked {asked.url}")
            ),
        )
        page.goto(str(url))
        page.wait_for_selector("#model:not(:empty), .banner:not([hidden])")
        return page

    yield opened
    for context in contexts:
        with suppress(Exception):
            context.close()
    assert complaints == []


@pytest.fixture
def halfway(visit: Visit) -> Generator[tuple[Any, Held]]:
    """A page on which an answer to "Hello" has begun, and what lets it go on."""
    held = Held(parrot, at=8)
    with serving(held) as client:
        page = visit(client.base_url)
        send(page, "Hello")
        shows(page, "Hello", "Answer 1")
        yield page, held
