"""Modules of the page by themselves: Markdown, trees, tokens."""

from typing import Any

import pytest

SHOWN = """async (text) => {
  const { show } = await import("/page/markdown.js");
  const box = document.createElement("div");
  show(box, text);
  for (const each of box.querySelectorAll("button, .code-head")) each.remove();
  for (const each of box.querySelectorAll("*")) {
    for (const { name } of [...each.attributes]) {
      if (name !== "href" && name !== "start") each.removeAttribute(name);
    }
  }
  return box.innerHTML.replaceAll("<div>", "").replaceAll("</div>", "");
}"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("one\ntwo\n\nthree", "<p>one<br>two</p><p>three</p>"),
        ("*a* **b** ***c*** _d_ __e__", None),
        ("*a* and **b**", "<p><em>a</em> and <strong>b</strong></p>"),
        ("_a_ snake_case_name __b__", "<p><em>a</em> snake_case_name <strong>b</strong></p>"),
        ("2 * 3 * 4 and **open", "<p>2 * 3 * 4 and **open</p>"),
        ("**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"),
        ("~~gone~~ ~not~", "<p><del>gone</del> ~not~</p>"),
        ("`a*b*` ``c`d``", "<p><code>a*b*</code> <code>c`d</code></p>"),
        (r"\*no\* \_no\_ a\b", r"<p>*no* _no_ a\b</p>"),
        ("# One\n### Three #\ntext", "<h4>One</h4><h6>Three</h6><p>text</p>"),
        ("# C#\n## C# ##\n# #", "<h4>C#</h4><h5>C#</h5><h4></h4>"),
        ("---\n***\n_ _ _\n-*-\n    ---", "<hr><hr><hr><p>-*-<br>---</p>"),
        ("> a\n> > b", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>"),
        ("- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"),
        ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("- a\n\n- b", None),
        (
            "1. a\n   ```\n   x\n   ```\n2. b",
            "<ol><li>a<pre><code>x</code></pre></li><li>b</li></ol>",
        ),
        ("- a\n1. b", "<ul><li>a</li></ul><ol><li>b</li></ol>"),
        ("text\n- a", "<p>text</p><ul><li>a</li></ul>"),
        ("It was\n1914. A year", "<p>It was<br>1914. A year</p>"),
        ("```\n<b>\n```\nafter", "<pre><code>&lt;b&gt;</code></pre><p>after</p>"),
        (
            "```py\nnot yet closed",
            "<pre><code>not yet closed</code></pre>".replace("not", "<span>not</span>"),
        ),
        ("~~~\n```\n~~~", "<pre><code>```</code></pre>"),
        ("````\n```\n`````", "<pre><code>```</code></pre>"),
        ("``` a ` b\nc", "<p>``` a ` b<br>c</p>"),
        ("` a ` `  `", "<p><code>a</code> <code>  </code></p>"),
        ("a | b\n--|--\n1 | `x|y`", None),
        (
            "[a](https://x.example/(b)) [c](ftp://x) [d]",
            '<p><a href="https://x.example/(b)">a</a> [c](ftp://x) [d]</p>',
        ),
        (
            "see https://x.example/a_b_c. Or",
            '<p>see <a href="https://x.example/a_b_c">https://x.example/a_b_c</a>. Or</p>',
        ),
        ("(https://x.example)", '<p>(<a href="https://x.example/">https://x.example</a>)</p>'),
        ("&amp; <p> &#60;", "<p>&amp;amp; &lt;p&gt; &amp;#60;</p>"),
    ],
)
def test_markdown(page: Any, text: str, wanted: str | None) -> None:
    found = page.evaluate(SHOWN, text)
    if wanted is not None:
        assert found == wanted


def test_markdown_of_other_shapes(page: Any) -> None:
    table = page.evaluate(SHOWN, "a | b\n--|--\n1 | `x|y`\n2 |")
    assert "<th>a</th><th>b</th>" in table and "<td>1</td><td><code>x|y</code></td>" in table
    assert "<td>2</td><td></td>" in table
    for other in ("a | b\n---", "a | b\n-- | :", "a | b\n--  x | --", "a | b\n-- | -- | --"):
        assert "<table>" not in page.evaluate(SHOWN, other), other
    loose = page.evaluate(SHOWN, "- a\n\n- b")
    assert loose.count("<ul>") == 1 and loose.count("<li>") == 2
    assert page.evaluate(SHOWN, "***c***") in (
        "<p><strong><em>c</em></strong></p>",
        "<p><em><strong>c</strong></em></p>",
    )


@pytest.mark.parametrize(
    "part",
    [
        "[",
        "*a ",
        "**a",
        "_a_",
        "`",
        "``a`",
        "> ",
        "- ",
        "  - a\n",
        "|-",
        "![",
        "<http://",
        "https://(",
        "\\",
        "~~",
        "```\n",
        "# ",
        "1. ",
        "((",
        "a|b\n-|-\n",
    ],
)
def test_hostile_markdown_ends(page: Any, part: str) -> None:
    assert page.evaluate(SHOWN, part * 20_000) is not None


@pytest.mark.parametrize(
    "text",
    [
        "~" * 200_000 + "`",
        "```" + " " * 200_000 + "`",
        "`" * 200_000 + "\nopen",
        "# a" + " " * 200_000 + "b",
        "# " + "#" * 200_000 + "b",
        "-" + " " * 200_000 + "b",
        "a|b\n-" + " " * 200_000 + "x",
        "a|b\n" + " " * 200_000 + "-x",
        "` " + "a" * 200_000 + "`",
        r"x\begin{a}" * 20_000,
        "```js\n" + '"\\' * 24_000 + "\n```",
        "a\n" * 200_000,
        "- a\n" + "b\n" * 200_000,
        "$$" + r"\frac" * 780 + "x$$",
    ],
    ids=lambda text: ascii(text[:6]),
)
def test_hostile_lines_end(page: Any, text: str) -> None:
    """What a pattern would go over again and again, and more nodes than a call has arguments."""
    assert page.evaluate(SHOWN, text) is not None


def test_a_table_is_no_larger_than_its_text(page: Any) -> None:
    """Not by much: rows may leave out cells, and more columns than anybody reads are text."""
    count = """async (text) => {
      const { show } = await import("/page/markdown.js");
      const box = document.createElement("div");
      show(box, text);
      return [box.querySelectorAll("*").length, box.querySelectorAll("table").length];
    }"""
    for columns, tables in ((200, 1), (2000, 0)):
        text = "a|" * columns + "\n" + "-|" * columns + "\n" + "|\n" * 2000
        elements, found = page.evaluate(count, text)
        assert elements < 2 * len(text) and found == tables


def test_what_is_shown_grows_in_place(page: Any) -> None:
    """Blocks that haven't changed keep their elements, at any cut, and the end is as at once."""
    said = page.evaluate(
        """async (text) => {
          const { show } = await import("/page/markdown.js");
          const whole = document.createElement("div");
          show(whole, text);
          const grown = document.createElement("div");
          let first = null, kept = true;
          for (let end = 1; end <= text.length; end++) {
            show(grown, text.slice(0, end));
            if (end === 4) first = grown.firstChild;
            if (end > 4) kept &&= grown.firstChild === first;
          }
          return [grown.innerHTML === whole.innerHTML, kept];
        }""",
        "# A\n\nOne *two*\nthree\n\n- a\n  - b\n\n```py\nx = 1\n```\n\n| a |\n|---|\n| 1 |\n\nEnd",
    )
    assert said == [True, True]


def test_tokens_that_are_parts_of_characters(page: Any) -> None:
    groups = page.evaluate(
        """async () => {
          const { groups, instead } = await import("/page/pieces.js");
          const tokens = [{ t: " a" }, { b: [0xc3] }, { b: [0xa9] }, { t: "!" }];
          const all = groups(tokens);
          const node = { text: "aé!" };
          const other = (at, piece) => instead(node, all, all[at], piece);
          return [all, other(2, { t: "?" }), other(0, { t: " b" }), other(1, { b: [1] })];
        }"""
    )
    assert [(each["text"], each["from"], each["to"]) for each in groups[0]] == [
        (" a", 0, 1),
        ("é", 1, 3),
        ("!", 3, 4),
    ]
    assert groups[1]["text"] == "aé?" and groups[2]["text"] == "b" and groups[3] is None


def test_alternatives_in_thoughts(page: Any) -> None:
    found = page.evaluate(
        """async () => {
          const { groups, instead } = await import("/page/pieces.js");
          const said = ["<think>", "I", " think", "</think>", "\\n\\n", "So", " I", " am"];
          const all = groups(said.map((t) => ({ t })));
          const node = { thought: "I think", text: "So I am" };
          return [2, 3, 6].map((at) => instead(node, all, all[at], { t: " X" }));
        }"""
    )
    assert found == [
        {"thought": "I X", "text": ""},
        {"thought": "I think X", "text": ""},
        {"thought": "I think", "text": "So X"},
    ]
