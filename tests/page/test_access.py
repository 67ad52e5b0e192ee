"""For everybody: names, contrast, focus, and what is said to those who listen."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.page.conftest import PHONE, WIDE
from tests.page.talking import TEMPLATE, Visit, last, say, until
from tests.server.replying import replies
from tests.server.running import serving

ANSWER = """<think>First I think of *rivers*.</think># Rivers

A **river** flows, `code` does not; see [a page](https://example.org).

> Quoted words.

- one
- two

| River | Length |
|---|---:|
| Nile | 6,650 km |

```python
print("river")
```"""

AUDIT = (Path(__file__).parent / "audit.js").read_text()


@pytest.fixture(scope="module")
def server(browser: Any) -> Generator[httpx.Client]:
    with serving(replies(lambda _: ANSWER, TEMPLATE)) as client:
        yield client


def sound(page: Any) -> None:
    found = page.evaluate(AUDIT)
    contrasts = found["contrasts"]
    assert len(contrasts) > 3
    assert contrasts[0][0] >= 4.5, contrasts[:5]
    assert found["nameless"] == [] and found["twice"] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_names_and_contrast(
    server: httpx.Client, visit: Visit, theme: str, size: tuple[int, int]
) -> None:
    page = visit(server.base_url, size, color_scheme=theme, reduced_motion="reduce")
    sound(page)
    say(page, "Tell me of rivers")
    page.locator(".thought summary").click()
    sound(page)
    last(page, "Show probabilities").click()
    page.wait_for_selector(".tokens .token")
    page.locator(".tokens .token").nth(3).click()
    sound(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Settings").click()
    sound(page)
    page.keyboard.press("Escape")
    assert not page.locator("#settings").is_visible()
    last(page, "Answer again").click()
    page.wait_for_selector("text=2/2")
    last(page, "Delete").click()
    page.locator(".user").get_by_role("button", name="Edit").click(force=True)
    sound(page)
    if size == PHONE:
        page.get_by_role("button", name="Conversations").click()
        sound(page)


def test_the_theme_is_chosen(server: httpx.Client, visit: Visit) -> None:
    page = visit(server.base_url, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Theme: as the system has it").click()
    page.get_by_role("button", name="Theme: light").click()
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    page.get_by_role("button", name="Theme: dark").click()
    assert page.evaluate(ground) == light


def test_markdown_is_shown_and_thoughts_are_folded(server: httpx.Client, visit: Visit) -> None:
    page = visit(server.base_url)
    say(page, "Rivers")
    answer = page.locator(".assistant .text")
    for name in ("h4", "strong", "code", "a", "blockquote", "li", "table", "pre"):
        assert answer.locator(name).count() >= 1, name
    assert not page.locator(".thought > div").is_visible()
    page.locator(".thought summary").click()
    assert page.locator(".thought > div").inner_text() == "First I think of rivers."


def test_what_those_hear_who_listen(server: httpx.Client, visit: Visit) -> None:
    """The answer, not each token."""
    page = visit(server.base_url)
    page.evaluate(
        "window.heard = []; new MutationObserver(() => window.heard.push("
        "document.getElementById('live').textContent))"
        ".observe(document.getElementById('live'), { childList: true })"
    )
    say(page, "Rivers")
    until(page, lambda: page.evaluate("window.heard.length") > 0)
    heard = page.evaluate("window.heard")
    assert "".join(heard) == ANSWER.partition("</think>")[2] and len(heard) < 4


def test_a_drawer_holds_the_focus(server: httpx.Client, visit: Visit) -> None:
    page = visit(server.base_url, PHONE)
    page.get_by_role("button", name="Conversations").click()
    assert page.evaluate("document.getElementById('sidebar').contains(document.activeElement)")
    assert page.evaluate("document.getElementById('main').inert")
    page.keyboard.press("Escape")
    assert not page.locator("#sidebar").is_visible()
    assert page.evaluate("document.activeElement.id") == "menu"
