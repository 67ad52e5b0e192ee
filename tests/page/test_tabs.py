"""Several tabs at once: what one does the others show, and nothing is lost or comes back."""

from typing import Any

from tests.page.talking import (
    Held,
    Visit,
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
from tests.server.running import serving


def beside(page: Any) -> Any:
    """Another tab of the same browser, with the same conversation."""
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector("#model:not(:empty)")
    return other


def reloaded(page: Any) -> None:
    page.reload()
    page.wait_for_selector("#model:not(:empty)")


def test_what_one_tab_does_the_other_shows(browser: Any, visit: Visit) -> None:
    held = Held(parrot, at=8)
    with serving(held) as client:
        one = visit(client.base_url)
        other = beside(one)
        send(one, "Hello")
        shows(one, "Hello", "Answer 1")
        other.locator(".talk a").click()
        shows(other, "Hello", "Answer 1")
        held.free.set()
        shows(other, "Hello", "Answer 1 to: Hello")
        last(other, "Show probabilities").click()
        other.wait_for_selector(".tokens .token")
        assert other.locator(".tokens .token").count() == len("Answer 1 to: Hello")
        one.locator(".talk").hover()
        one.get_by_role("button", name="Delete Hello").click()
        until(other, lambda: texts(other) == [] and not other.locator(".talk").count())
        assert other.locator(".notice").inner_text().startswith("“Hello” was deleted")


def test_a_tab_that_is_closed_while_it_writes(browser: Any, visit: Visit) -> None:
    held = Held(parrot, at=8)
    with serving(held) as client:
        one = visit(client.base_url)
        other = beside(one)
        send(one, "Hello")
        shows(one, "Hello", "Answer 1")
        other.locator(".talk a").click()
        shows(other, "Hello", "Answer 1")
        send(other, "And now?")
        other.wait_for_selector("text=Another tab is writing")
        one.close()
        held.free.set()
        other.get_by_role("button", name="Continue").click(timeout=20_000)
        shows(other, "Hello", "Answer 1 to: Hello")


def test_a_tab_that_is_duplicated_while_it_writes(halfway: tuple[Any, Held]) -> None:
    """It has the first one's session storage, and yet is another one."""
    one, held = halfway
    with one.context.expect_page() as opening:
        one.evaluate("open(location.href)")  # which copies the session storage, too
    other = opening.value
    other.wait_for_selector("#model:not(:empty)")
    shows(other, "Hello", "Answer 1")
    assert not other.locator(".trouble:visible").count()
    held.free.set()
    shows(other, "Hello", "Answer 1 to: Hello")


def test_a_conversation_deleted_while_it_is_written(halfway: tuple[Any, Held]) -> None:
    page, held = halfway
    page.locator(".talk").hover()
    page.get_by_role("button", name="Delete Hello").click()
    held.free.set()
    until(page, lambda: not page.locator(".talk").count())
    page.wait_for_timeout(1200)  # in which it would have been saved
    reloaded(page)
    assert not page.locator(".talk").count()


def test_a_conversation_deleted_elsewhere_while_it_is_written(halfway: tuple[Any, Held]) -> None:
    one, held = halfway
    other = beside(one)
    other.locator(".talk").hover()
    other.get_by_role("button", name="Delete Hello").click()
    one.wait_for_selector("text=was deleted in another tab")
    held.free.set()
    one.wait_for_timeout(1200)
    for page in (one, other):
        reloaded(page)
        assert not page.locator(".talk").count() and texts(page) == []


def test_a_conversation_renamed_elsewhere_while_it_is_written(halfway: tuple[Any, Held]) -> None:
    one, held = halfway
    other = beside(one)
    other.locator(".talk a").dblclick()
    other.keyboard.type("Greetings")
    other.keyboard.press("Enter")
    one.wait_for_selector("#title >> text=Greetings")
    held.free.set()
    shows(one, "Hello", "Answer 1 to: Hello")
    ended(one)
    reloaded(one)
    for page in (one, other):
        shows(page, "Hello", "Answer 1 to: Hello")
        assert page.locator("#title").inner_text() == "Greetings"


def test_what_is_deleted_while_another_tab_looks(browser: Any, visit: Visit) -> None:
    """A message; had back, it is there in both."""
    with serving(echoing) as client:
        one = visit(client.base_url)
        say(one, "Hello")
        other = beside(one)
        shows(other, "Hello", "Answer 1 to: Hello")
        last(one, "Delete").click()
        shows(other, "Hello")
        one.get_by_role("button", name="Undo").click()
        shows(other, "Hello", "Answer 1 to: Hello")
