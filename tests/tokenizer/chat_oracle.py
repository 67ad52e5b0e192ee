"""What transformers makes of chat templates. Needs transformers.

``python -m tests.tokenizer.chat_oracle`` writes ``chat_goldens.json`` anew.
"""

import json
from pathlib import Path
from typing import Any

from tests.tokenizer.chat_cases import TEMPLATES, few_cases

GOLDENS = Path(__file__).with_name("chat_goldens.json")


def by_transformers(template: str, variables: dict[str, Any]) -> str | None:
    """The text; None if the template refuses or fails."""
    from transformers.utils.chat_template_utils import render_jinja_template

    others = dict(variables)
    talks = [others.pop("messages")]
    try:
        texts, _ = render_jinja_template(talks, chat_template=template, **others)
    except Exception:  # whatever its expressions raise
        return None
    return texts[0]


def main() -> None:
    texts = {
        name: [by_transformers(template, case) for case in few_cases()]
        for name, template in TEMPLATES.items()
    }
    GOLDENS.write_text(json.dumps(texts, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
