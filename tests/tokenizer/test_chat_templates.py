"""Templates give the text that transformers gives, or are refused where it refuses them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from motet.errors import TokenizerError
from motet.tokenizer.sandbox import TemplateSandbox
from tests.tokenizer.chat_cases import TEMPLATES, cases, few_cases
from tests.tokenizer.chat_oracle import GOLDENS, by_transformers

MODELS = Path(os.environ.get("LLAMA_CPP_MODELS", "/nonexistent")) / "templates"
"""Of a llama.cpp checkout; ``chat_compared.sha256`` has those that were compared at last."""
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


@pytest.mark.skipif(not MODELS.is_dir(), reason="needs LLAMA_CPP_MODELS, llama.cpp's models folder")
def test_the_templates_of_models() -> None:
    pytest.importorskip("transformers")
    paths = sorted(MODELS.glob("*.jinja"))
    texts = 0
    for path in paths:
        template = path.read_text()
        for number, case in enumerate(cases()):
            expected = by_transformers(template, case)
            assert rendered(template, case) == expected, (path.name, number)
            texts += expected is not None
    assert len(paths) >= 60 and texts > 20 * len(paths)
