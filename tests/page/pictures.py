"""The pictures of docs/page.md: `python -m tests.page.pictures docs/figures`.

Needs Playwright, Chromium and Pillow. What the first model says is made up; the second one is
motet-tiny.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from motet import LLM
from motet.server.settings import ServerSettings
from tests.page.conftest import CHROMIUM, PHONE, WIDE
from tests.page.talking import TEMPLATE, ended, last, say
from tests.server.models import chatting
from tests.server.replying import replies
from tests.server.running import serving

RIVERS = """<think>Three will do; a table shows them well.</think>\
Three long rivers, and how to sort them:

| River | Continent | Length |
|:--|:--|--:|
| **Nile** | Africa | 6,650 km |
| **Amazon** | South America | 6,400 km |
| **Yangtze** | Asia | 6,300 km |

```python
rivers = {"Nile": 6650, "Amazon": 6400, "Yangtze": 6300}
for name, length in sorted(rivers.items(), key=lambda each: -each[1]):
    print(f"{name:10} {length:>6} km")  # the longest first
```

> Lengths differ by *who measures*: where a river begins is disputed."""
STORY = "Once upon a time, there was a little girl named Lily. She liked to play"


def answer(prompt: str) -> str:
    return (
        RIVERS if "rivers" in prompt.split("[user]")[-1] else "Gladly. What would you like to know?"
    )


def main(folder: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def visit(url: Any, size: tuple[int, int], theme: str) -> Any:
            phone = size == PHONE
            page = browser.new_page(
                viewport={"width": size[0], "height": size[1]},
                has_touch=phone,
                is_mobile=phone,
                color_scheme=theme,
                device_scale_factor=1.5,
            )
            page.goto(str(url))
            page.wait_for_selector("#model:not(:empty)")
            return page

        def keep(page: Any, name: str) -> None:
            page.wait_for_timeout(400)
            image = Image.open(io.BytesIO(page.screenshot()))
            image.convert("RGB").save(Path(folder) / f"page-{name}.webp", quality=82, method=6)

        with named(replies(answer, TEMPLATE), "a-model-that-chats") as client:
            for size, theme, name in ((WIDE, "light", "chat"), (PHONE, "dark", "phone")):
                page = visit(client.base_url, size, theme)
                for text in ("Plan a walk along the Elbe", "Ideas for supper"):
                    say(page, text)
                    page.keyboard.press("Alt+n")
                say(page, "Could you explain something to me?")
                say(page, "Which rivers are the longest, and how do I sort them in Python?")
                last(page, "Answer again").click()
                page.wait_for_selector("text=2/2")
                ended(page)
                keep(page, name)
        with named(chatting, "motet-tiny", max_tokens=70) as client:
            page = visit(client.base_url, WIDE, "dark")
            page.get_by_role("button", name="Settings").click()
            page.get_by_label("Seed").fill("11")
            page.get_by_label("Temperature").fill("0.7")
            page.keyboard.press("Tab")
            page.keyboard.press("Alt+s")
            say(page, STORY)
            last(page, "Show probabilities").click()
            page.locator(".tokens .token").nth(4).hover()
            keep(page, "probabilities")
        browser.close()


def named(make: Callable[[], LLM], name: str, **settings: Any) -> Any:
    return serving(make, settings=ServerSettings(port=0, aliases=(name,), **settings))


if __name__ == "__main__":
    main(sys.argv[1])
