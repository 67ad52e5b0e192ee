"""A model's text, and files that are imported, are text and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.page.talking import TEMPLATE, Visit, echoing, say, texts, until
from tests.server.replying import replies
from tests.server.running import serving

HOSTILE = """<script>window.harmed = 1</script>
<img src=x onerror="window.harmed = 2">
<svg onload="window.harmed = 3"><style>* { display: none }</style>

# <b>Heading</b>
- <iframe src="https://evil.example"></iframe>
- [click](javascript:window.harmed=4) and [data](data:text/html,<script>alert(1)</script>)
- [good](https://good.example/a?b=c) <https://also.good.example>
- ![picture](https://evil.example/pixel.png)

| a | b |
|---|---|
| <script>window.harmed = 5</script> | `<i>code</i>` |

```html
</code></pre><script>window.harmed = 6</script>
```
**<u>bold</u>** &lt;b&gt; <a href="javascript:window.harmed=7">x</a>"""


def harmless(page: Any) -> None:
    """Nothing of it was run, loaded or made into elements."""
    assert page.evaluate("window.harmed") is None
    for name in ("script", "img", "iframe", "style", "b", "u", "i", "svg[onload]"):
        assert page.locator(f".text {name}").count() == 0, name
    for link in page.locator(".text a").all():
        assert link.get_attribute("href").startswith("https://")
        assert link.get_attribute("rel") == "noopener noreferrer"


def test_an_answer_full_of_markup_is_text(browser: Any, visit: Visit) -> None:
    with serving(replies(lambda _: HOSTILE, TEMPLATE)) as client:
        page = visit(client.base_url)
        say(page, "<script>window.harmed = 8</script> *as it is*")
        harmless(page)
        mine, answer = texts(page)
        assert mine == "<script>window.harmed = 8</script> *as it is*"
        for part in (
            "<script>window.harmed = 1</script>",
            '<img src=x onerror="window.harmed = 2">',
            "<b>Heading</b>",
            '<iframe src="https://evil.example"></iframe>',
            "[click](javascript:window.harmed=4)",
            "</code></pre><script>window.harmed = 6</script>",
            "&lt;b&gt;",
        ):
            assert part in answer
        links = page.locator(".text a").evaluate_all("all => all.map((each) => each.href)")
        assert links == [
            "https://evil.example/",  # an address in text, which only a click opens
            "https://good.example/a?b=c",
            "https://also.good.example/",
            "https://evil.example/pixel.png",
        ]
        page.get_by_role("button", name="Show probabilities").click()
        page.wait_for_selector(".tokens .token")
        harmless(page)
        page.reload()
        until(page, lambda: len(texts(page)) == 2)
        harmless(page)


def imported(page: Any, path: Path, data: Any) -> None:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    page.locator("input[type=file]").set_input_files(path)


def test_export_and_import(browser: Any, visit: Visit, tmp_path: Path) -> None:
    with serving(echoing) as client:
        page = visit(client.base_url)
        say(page, "Rivers: <which>?")
        page.get_by_role("button", name="Answer again").click()
        page.wait_for_selector("text=2/2")
        say(page, "More")
        with page.expect_download() as coming:
            page.get_by_role("button", name="Export all conversations").click()
        coming.value.save_as(tmp_path / "all.json")
        other = visit(client.base_url)  # another browser's, as it were
        other.locator("input[type=file]").set_input_files(tmp_path / "all.json")
        other.wait_for_selector("text=One conversation was imported.")
        assert texts(other) == texts(page)
        assert other.locator(".assistant .turns").first.inner_text() == "2/2"
        other.get_by_role("button", name="Show probabilities").last.click()
        other.wait_for_selector(".tokens .token")
        other.reload()
        until(other, lambda: len(texts(other)) == 4)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{", "it is no JSON"),
        ([], "it holds no conversations"),
        ({"format": "motet-conversations", "conversations": [{"nodes": 1}]}, "no conversation"),
        (
            {
                "format": "motet-conversations",
                "conversations": [{"nodes": {"a": {"id": "a", "role": "root", "text": ""}}}],
            },
            "no known role",
        ),
        (
            {
                "format": "motet-conversations",
                "conversations": [
                    {"nodes": {"a": {"id": "a", "role": "user", "text": "", "parent": "a"}}}
                ],
            },
            "before the one that it follows",
        ),
    ],
)
def test_files_that_are_none(shared: Any, tmp_path: Path, data: Any, said: str) -> None:
    imported(shared, tmp_path / "file.json", data)
    shared.wait_for_selector(f"text={said}")
    shared.get_by_role("button", name="Dismiss").click()


@pytest.fixture(scope="module")
def shared(browser: Any) -> Any:
    with serving(echoing) as client:
        page = browser.new_page()
        page.goto(str(client.base_url))
        yield page
        page.close()


def test_a_file_that_tries_more(shared: Any, tmp_path: Path) -> None:
    """Names that JavaScript's objects have, values of other types, tokens that are none."""
    node = {
        "id": "__proto__",
        "role": "assistant",
        "text": HOSTILE,
        "state": "writing",
        "usage": {"prompt": "<b>", "cached": 3},
        "timings": {"__proto__": {"answer": 1}, "answer": 2},
        "model": {"toString": 1},
        "error": ["x"],
    }
    talk = {
        "title": "<img src=x onerror='window.harmed=9'>",
        "settings": {"system": 5, "temperature": "hot", "stop": [1], "top_k": 4, "constructor": 1},
        "nodes": {"__proto__": node},
        "chosen": {"": "__proto__", "constructor": "x"},
        "tokens": {"__proto__": [{"t": "<script>", "p": -1, "a": "none"}]},
    }
    text = json.dumps({"format": "motet-conversations", "version": 1, "conversations": [talk]})
    imported(shared, tmp_path / "file.json", text)
    shared.wait_for_selector("text=imported")
    assert shared.evaluate("window.harmed") is None
    assert shared.locator("#title").inner_text() == talk["title"]
    facts = shared.locator(".facts").inner_text()
    assert "prompt 0, 3 cached" in facts and "NaN" not in shared.locator("body").inner_text()


def test_a_long_conversation_is_shown(shared: Any, tmp_path: Path) -> None:
    """Messages by the thousand, each looked at beside those that could stand in its place."""
    nodes = {
        str(n): {"id": str(n), "parent": str(n - 1) if n else "", "role": "user", "text": f"n{n}"}
        for n in range(3000)
    }
    talk = {"nodes": nodes, "chosen": {}}
    data = {"format": "motet-conversations", "version": 1, "conversations": [talk]}
    imported(shared, tmp_path / "file.json", data)
    shared.wait_for_selector("text=n2999")
    assert shared.locator(".message").count() == 3000
