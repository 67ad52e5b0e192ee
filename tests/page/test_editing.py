"""Messages changed, deleted, had back and gone on with; and where the page stands meanwhile."""

from typing import Any

import httpx

from tests.page.conftest import PHONE
from tests.page.talking import (
    TEMPLATE,
    Held,
    Visit,
    echoing,
    ended,
    last,
    say,
    shows,
    texts,
    until,
)
from tests.server.replying import replies
from tests.server.running import serving


def test_a_deletion_taken_back_leaves_what_was_said_since(
    server: httpx.Client, visit: Visit
) -> None:
    page = visit(server.base_url)
    say(page, "One")
    last(page, "Answer again").click()
    page.wait_for_selector("text=2/2")
    ended(page)
    say(page, "Two")
    page.locator(".user").last.get_by_role("button", name="Delete").click(force=True)
    shows(page, "One", "Answer 1 to: One")
    say(page, "Three")
    page.get_by_role("button", name="Undo").click()
    shows(page, "One", "Answer 1 to: One", "Two", "Answer 2 to: Two")
    assert page.locator(".user .turns").last.inner_text() == "1/2"
    assert page.locator(".assistant .turns").first.inner_text() == "2/2"
    page.get_by_role("button", name="Next version").last.click()
    shows(page, "One", "Answer 1 to: One", "Three", "Answer 2 to: Three")
    say(page, "Four")
    page.reload()
    shows(
        page,
        *["One", "Answer 1 to: One", "Three"],
        "Answer 2 to: Three",
        "Four",
        "Answer 3 to: Four",
    )


def test_what_was_written_anew_is_not_lost_while_an_answer_comes(halfway: tuple[Any, Held]) -> None:
    page, held = halfway
    page.locator(".user").get_by_role("button", name="Edit").click(force=True)
    area = page.locator(".editing textarea")
    area.fill("Good day")
    area.press("Enter")
    page.wait_for_selector("text=An answer is being written")
    assert area.input_value() == "Good day"
    held.free.set()
    page.wait_for_selector(".last:not(.writing)")
    area.press("Enter")
    shows(page, "Good day", "Answer 1 to: Good day")


def test_an_answer_that_was_edited_is_gone_on_with(browser: Any, visit: Visit) -> None:
    with serving(echoing) as client:
        page = visit(client.base_url)
        say(page, "Hello")
        last(page, "Edit").click()
        page.locator(".editing textarea").fill("Answer 1 t")
        page.get_by_role("button", name="Keep").click()
        shows(page, "Hello", "Answer 1 t")
        last(page, "Continue").click()
        shows(page, "Hello", "Answer 1 to: Hello")
        ended(page)
        last(page, "Continue").click()
        page.wait_for_selector("text=nothing to add")
        assert texts(page) == ["Hello", "Answer 1 to: Hello"]


def test_an_answer_without_words(browser: Any, visit: Visit) -> None:
    with serving(replies(lambda _: "", TEMPLATE)) as client:
        page = visit(client.base_url)
        say(page, "Hello")
        page.wait_for_selector("text=The answer is empty.")
        assert page.get_by_role("button", name="Try again").is_visible()
        assert not last(page, "Continue").count()


def test_a_turn_leaves_the_page_where_it_is(browser: Any, visit: Visit) -> None:
    long = "\n\n".join(f"Line {number}" for number in range(30))
    with serving(replies(lambda _: long, TEMPLATE)) as client:
        page = visit(client.base_url)
        say(page, "One")
        last(page, "Answer again").click()
        page.wait_for_selector("text=2/2")
        ended(page)
        for text in ("Two", "Three"):
            say(page, text)
        page.get_by_role("button", name="Previous version").click(force=True)
        top = "document.querySelector('.turns:not([hidden])').getBoundingClientRect().top"
        before = page.evaluate(top)
        page.get_by_role("button", name="Next version").click()
        until(page, lambda: len(texts(page)) == 6)
        page.wait_for_timeout(100)
        assert abs(page.evaluate(top) - before) < 5
        assert page.get_by_role("button", name="To the newest message").is_visible()
        say(page, "Four")  # and what is sent is looked at
        at_the_end = "(each) => each.scrollHeight - each.clientHeight - each.scrollTop < 2"
        assert page.locator("#scroll").evaluate(at_the_end)


def test_enter_on_a_phone_is_a_new_line(server: httpx.Client, visit: Visit) -> None:
    page = visit(server.base_url, PHONE)
    field = page.get_by_label("Message", exact=True)
    field.fill("One")
    field.press("Enter")
    page.keyboard.type("two")
    assert field.input_value() == "One\ntwo" and texts(page) == []
    page.get_by_role("button", name="Send").click()
    shows(page, "One\ntwo", "Answer 1 to: One\ntwo")


def test_right_to_left(browser: Any, visit: Visit) -> None:
    answer = "שלום `code` עולם\n\n- אחת\n- שתיים\n\n> ציטוט\n\nAnd English.\n\n```py\nx = 1\n```"
    with serving(replies(lambda _: answer, TEMPLATE)) as client:
        page = visit(client.base_url)
        say(page, "مرحبا")
        box = page.locator(".assistant .text").bounding_box()

        def at(selector: str, place: int = 0) -> tuple[float, float]:
            """How far the text begins from the left, and ends from the right."""
            found = page.evaluate(
                """([selector, place]) => {
                  const range = document.createRange();
                  range.selectNodeContents(document.querySelectorAll(selector)[place]);
                  const { left, right } = range.getBoundingClientRect();
                  return [left, right];
                }""",
                [f".assistant .text {selector}", place],
            )
            return found[0] - box["x"], box["x"] + box["width"] - found[1]

        for selector in ("p", "li", "blockquote p"):
            left, right = at(selector)
            assert right < 40 < left, selector
        for selector, place in (("> p", 1), ("pre", 0)):
            left, right = at(selector, place)
            assert left < 40 < right, selector
        page.get_by_label("Message", exact=True).fill("مرحبا")
        direction = "getComputedStyle(document.getElementById('text')).direction"
        assert page.evaluate(direction) == "rtl"


def test_typing_on_apples_keyboards(browser: Any, visit: Visit) -> None:
    """Option writes signs there, as @ with L on German ones: it is nobody's shortcut."""
    with serving(echoing) as client:
        page = visit(client.base_url)
        page.add_init_script(
            "Object.defineProperty(navigator, 'platform', { get: () => 'MacIntel' })"
        )
        page.reload()
        page.wait_for_selector("#model:not(:empty)")
        field = page.get_by_label("Message", exact=True)
        field.focus()
        taken = page.evaluate(
            """() => ["@", "ArrowLeft"].map((key) => {
              const field = document.getElementById("text");
              field.value = "a b";
              const pressed = { key, code: key === "@" ? "KeyL" : key, altKey: true };
              const options = { bubbles: true, cancelable: true };
              return !field.dispatchEvent(new KeyboardEvent("keydown", { ...pressed, ...options }));
            })"""
        )
        assert taken == [False, False]
        assert page.locator("#sidebar").is_visible()
        page.keyboard.press("Control+Shift+L")
        assert not page.locator("#sidebar").is_visible()


def test_settings_that_are_closed_by_a_key(server: httpx.Client, visit: Visit) -> None:
    """What was typed counts, though the field was never left."""
    page = visit(server.base_url)
    page.keyboard.press("Alt+s")
    page.keyboard.type("Be brief.")
    page.keyboard.press("Alt+s")
    with page.expect_request("**/v1/chat/completions") as asked:
        say(page, "Hello")
    assert asked.value.post_data_json["messages"][0]["content"] == "Be brief."


def test_the_focus_after_a_deletion_in_the_list(server: httpx.Client, visit: Visit) -> None:
    page = visit(server.base_url)
    for text in ("One", "Two", "Three"):
        say(page, text)
        page.keyboard.press("Alt+n")
    page.locator(".talk a").nth(1).focus()
    page.get_by_role("button", name="Delete Two").press("Enter")
    until(page, lambda: page.locator(".talk").count() == 2)
    assert page.evaluate("document.activeElement.title") == "One"
