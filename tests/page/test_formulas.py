"""Formulas in LaTeX, as the browser's MathML; money and code are none."""

from typing import Any

import pytest

SET = """async (text) => {
  const { show } = await import("/page/markdown.js");
  const box = document.createElement("div");
  show(box, text);
  const bare = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return node.data;
    const inside = [...node.childNodes].map(bare).join("");
    return node.localName === "mrow" ? `{${inside}}` : `${node.localName}(${inside})`;
  };
  return [...box.childNodes].map(bare).join("");
}"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (r"\(x^2\)", "msup(mi(x)mn(2))"),
        (r"$a_i + b'$", "msub(mi(a)mi(i))mo(+)msup(mi(b)mo(′))"),
        (r"$x_1^{10} x^12$", "msubsup(mi(x)mn(1){mn(10)})msup(mi(x)mn(1))mn(2)"),
        (r"\(\frac12 - \dfrac{a}{b}\)", "mfrac(mn(1)mn(2))mo(−)mfrac({mi(a)}{mi(b)})"),
        (r"\(\sqrt{2} \sqrt[3]{x}\)", "msqrt({mn(2)})mroot({mi(x)}mtext(3))"),
        (r"\(\sum_{i=1}^n i\)", "munderover(mo(∑){mi(i)mo(=)mn(1)}mi(n))mi(i)"),
        (r"\(\int_0^1 \lim_{x\to 0}\)", "msubsup(mo(∫)mn(0)mn(1))munder(mo(lim){mi(x)mo(→)mn(0)})"),
        (r"\(\alpha \le \text{a b} \mathbb{R}\)", "mi(α)mo(≤)mtext(a b)mi(ℝ)"),
        (r"\(\left( \frac ab \right.\)", "{mo((){mfrac(mi(a)mi(b))}}"),
        (r"\(\left|x\right|\)", "{mo(|){mi(x)}mo(|)}"),
        (r"\(\hat{x} \vec v\)", "mover({mi(x)}mo(^))mover(mi(v)mo(→))"),
        (r"\(\underbrace{a}_{n}\)", "munder(munder({mi(a)}mo(⏟)){mi(n)})"),
        (r"\(\boxed{4} \not= \sin x\)", "{{mn(4)}}mo(≠)mi(sin)mi(x)"),
        (
            r"\(\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}\)",
            "{mo(()mtable(mtr(mtd({mn(1)})mtd({mn(2)}))mtr(mtd({mn(3)})mtd({mn(4)})))mo())}",
        ),
    ],
)
def test_a_formula(page: Any, text: str, wanted: str) -> None:
    assert page.evaluate(SET, text) == f"p(math({{{wanted}}}))"


def test_lines_of_a_formula(page: Any) -> None:
    lines = page.evaluate(SET, "So\n\\[\nx = 1\n- y\n\\]\nand\n$$a &= b \\\\ c$$ here")
    assert lines == (
        "p(So)p(math({mi(x)mo(=)mn(1)mo(−)mi(y)}))p(and)"
        "p(math(mtable(mtr(mtd({mi(a)})mtd({mo(=)mi(b)}))mtr(mtd({mi(c)})))) here)"
    )
    bare = page.evaluate(SET, "\\begin{align*}\na &= b\n\\end{align*}")
    assert bare == "p(math({{mtable(mtr(mtd({mi(a)})mtd({mo(=)mi(b)})))}}))"


def test_brackets_grow_only_where_they_are_asked_to(page: Any) -> None:
    stretched = """async (text) => {
      const { inline } = await import("/page/inline.js");
      const operators = [...inline(text)[0].querySelectorAll("mo")];
      return operators.map((each) => each.getAttribute("stretchy"));
    }"""
    assert page.evaluate(stretched, r"$(x)$") == ["false", "false"]
    assert page.evaluate(stretched, r"$\left(x\right)$") == ["true", "true"]


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and $10, or $3.50.",
        "From $5-$10 to 10$ a day",
        "$HOME/bin:$PATH",
        "a lone $ and $$ and \\( and \\[",
        "US$5 and CA$6",
    ],
)
def test_what_is_no_formula(page: Any, text: str) -> None:
    assert page.evaluate(SET, text) == f"p({text})"


@pytest.mark.parametrize(
    "source",
    [
        r"\unheard{x}",
        r"\constructor",
        r"\begin{constructor}x\end{constructor}",
        r"x^",
        r"\frac{1}",
        "}",
        r"\left(x",
        r"\begin{matrix}1",
        r"a_*b_*",
        "{" * 500,
    ],
)
def test_what_cannot_be_set_stands_as_it_was_written(page: Any, source: str) -> None:
    if source == r"a_*b_*":  # which can, and is no emphasis
        assert "em(" not in page.evaluate(SET, rf"\({source}\)")
    else:
        assert page.evaluate(SET, rf"\({source}\)") == rf"p(code(\({source}\)))"


@pytest.mark.parametrize(
    "part",
    ["\\begin{align}\n", "$", "$$", "\\(", "\\[", "\\[\n", "$$\n", "$a_", "\\(x\\)", "\\(\\frac"],
)
def test_hostile_formulas_end(page: Any, part: str) -> None:
    assert page.evaluate(SET, part * 5000) is not None
