"""What tests do on the page, as a person does it, and the servers that they do it with."""

import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from motet import LLM
from tests.scripted import Rule
from tests.server.replying import Replying, replies

Visit = Callable[..., Any]
"""The fixture ``visit``: opens the page of a server."""
TEMPLATE = (
    "{% for m in messages %}{{ '\\x01' if m.role == 'assistant' else '[' + m.role + ']' }}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}{% endfor %}{% if add_generation_prompt %}\x01{% endif %}"
)
"""Turns begin with their role, the assistant's with a byte that the scripted models look for."""


def parrot(prompt: str) -> str:
    """Says how often the user has spoken, and what was said last."""
    said = prompt.split("[user]")
    return f"Answer {len(said) - 1} to: {said[-1]}"


def echoing() -> LLM:
    return replies(parrot, TEMPLATE)()


class Held:
    """A model that waits after so many tokens of an answer until it is let go."""

    def __init__(self, reply: Callable[[str], str], at: int) -> None:
        self.free = threading.Event()
        self._reply, self._at = reply, at

    def __call__(self) -> LLM:
        model = Replying(self._reply, TEMPLATE)
        model.rule = self._waiting(model.rule)
        return LLM(model, max_sequences=4, ubatch=64, speculate=None)  # type: ignore[arg-type]

    def _waiting(self, rule: Rule) -> Rule:
        def waiting(history: Any) -> np.ndarray:
            begun = max(place for place, token in enumerate(history) if token == 1)
            if len(history) - 1 - begun >= self._at:
                self.free.wait(20)
            return rule(history)

        return waiting


def send(page: Any, text: str) -> None:
    """Write a message, and send it by keyboard."""
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def say(page: Any, text: str) -> None:
    """Write a message, send it, and wait for the whole answer."""
    answers = page.locator(".assistant").count()
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send").click()
    until(page, lambda: page.locator(".assistant").count() > answers)
    ended(page)


def until(page: Any, holds: Callable[[], bool]) -> None:
    """Wait for it. (Playwright's own wait evaluates text, which the page's policy refuses.)"""
    for _ in range(500):
        if holds():
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"waited in vain, with {texts(page)} on the page")


def shows(page: Any, *expected: str) -> None:
    """Wait until the messages that are shown say this."""
    until(page, lambda: texts(page) == [*expected])


def ended(page: Any) -> None:
    """Wait until nothing is being written."""
    page.wait_for_selector(".message.last:not(.writing) .facts", state="attached")


def texts(page: Any) -> list[str]:
    """What the messages say that are shown."""
    return page.locator(".message .text").all_inner_texts()


def cached(page: Any) -> int:
    """How many tokens of the last answer's prompt the page says were cached."""
    found = re.search(r"([\d,]+) cached", page.locator(".message.last .facts").inner_text())
    assert found is not None
    return int(found[1].replace(",", ""))


def last(page: Any, name: str) -> Any:
    """A button of the last message."""
    return page.locator(".message.last").get_by_role("button", name=name, exact=True)
