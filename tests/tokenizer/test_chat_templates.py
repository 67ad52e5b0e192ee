"""Templates give the text that transformers gives, or are refused where it refuses them."""

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from motet.errors import TokenizerError
from motet.tokenizer.sandbox import TemplateSandbox
from tests.tokenizer.chat_cases import TEMPLATES, cases, few_cases
from tests.tokenizer.chat_oracle import GOLDENS, by_transformers

MODELS = Path(os.environ.get("LLAMA_CPP_MODELS", "/nonexistent")) / "templates"
"""Of a llama.cpp checkout; ``chat_compared.sha256`` has those that were compared at last."""
CASES = MODELS.parents[1] / "tests" / "test-chat-template.cpp"
"""llama.cpp's own tests, which have more of them."""
_IN_CASES = re.compile(
    r'/\* \.template_str *= \*/ *(?:U8C\()?((?:"(?:[^"\\]|\\.)*"\s*)+|R"\((?:.|\n)*?\)")'
)
SANDBOX = TemplateSandbox()


def rendered(template: str, variables: dict[str, Any]) -> str | None:
    try:
        return SANDBOX.render(template, **variables)
    except TokenizerError:
        return None


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_templates_of_all_kinds_use(name: str) -> None:
    goldens = json.loads(GOLDENS.read_text())[name]
    assert [rendered(TEMPLATES[name], case) for case in few_cases()] == goldens


def compared(templates: dict[str, str]) -> None:
    texts = 0
    for name, template in templates.items():
        for number, case in enumerate(cases()):
            expected = by_transformers(template, case)
            assert rendered(template, case) == expected, (name, number)
            texts += expected is not None
    assert texts > 20 * len(templates)


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs LLAMA_CPP_MODELS, llama.cpp's models folder")
def test_the_templates_of_models() -> None:
    pytest.importorskip("transformers")
    templates = {path.name: path.read_text() for path in sorted(MODELS.glob("*.jinja"))}
    assert len(templates) >= 60
    compared(templates)


@pytest.mark.skipif(not CASES.is_file(), reason="needs LLAMA_CPP_MODELS in a llama.cpp checkout")
def test_the_templates_in_llama_cpps_tests() -> None:
    """Among them Phi 3 and 4, GLM 4 and Granite 3."""
    pytest.importorskip("transformers")
    found = _IN_CASES.findall(CASES.read_text())
    templates = [
        text[3:-2] if text.startswith('R"') else ast.literal_eval(f"({text})") for text in found
    ]
    assert len(templates) >= 30
    compared({f"template {number}": text for number, text in enumerate(templates)})
