"""Whether a model thinks before it answers: what the APIs say of it, as templates have it."""

import re
from typing import Any, Literal

from motet.server.failures import Refused
from motet.server.service import Served

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_MARKS = re.compile(r"<\|?/?think|\[/?THINK|reasoning_content|<\|channel")
"""What templates of models that think have in them."""


def thinking_options(
    served: Served, param: str, thinks: bool | None = None, effort: Effort | None = None
) -> dict[str, Any] | None:
    """The template's options for a model that is to think, or isn't; None where nothing is said.

    ``effort``: how much, "none" being not at all. A template that knows no effort has thinking on
    or off; a model that never thinks has nothing to turn off, and none that thinks is held to it.

    Raises Refused, naming ``param``, for a model that can't be told not to think.
    """
    if effort is not None:
        thinks = effort != "none"
    if thinks is None:
        return None
    tokenizer = served.llm.tokenizer
    template = tokenizer.chat_templates.get("default", "") if tokenizer else ""
    options: dict[str, Any] = {}
    if _reads(template, "enable_thinking"):
        options["enable_thinking"] = thinks
    if effort is not None and _reads(template, "reasoning_effort"):
        options["reasoning_effort"] = effort
    if not thinks and not options and _MARKS.search(template):
        raise Refused(
            400,
            f"{served.name} thinks before it answers, and its chat template has no option that"
            f" turns it off; leave {param} out",
            param=param,
        )
    return options or None


def _reads(template: str, variable: str) -> bool:
    return re.search(rf"\b{variable}\b", template) is not None
