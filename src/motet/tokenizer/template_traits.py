"""What a chat template makes of tools, found out by trying: templates have no way to say it."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from motet.cached import cached_property
from motet.errors import TokenizerError
from motet.tokenizer.sandbox import TemplateSandbox

Message = Mapping[str, Any]

_NAME, _SAID, _RESULT = "motet_tool", "motet_said", "motet_result"
_OTHER = "motet_other"
"""A second tool's name."""
_IDS = {_NAME: "call_motet", _OTHER: "call_motet_other"}
"""Of calls; the second one's has its tool's name, for templates that write nothing else."""
_ARGUMENTS = {"motet_key": "motet_value", "motet_more": [1, 2.5, True, {"é": '<"'}]}
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "motet_description",
        "parameters": {
            "type": "object",
            "properties": {"motet_key": {"type": "string", "description": "motet_words"}},
            "required": ["motet_key"],
        },
    },
}
_ASKED = {"role": "user", "content": "motet_question"}
_MOST = 8
"""Templates that are remembered; a file has one or two."""
_FUNCTIONS = re.compile(r"\+ functions\b")
_TOOLS = re.compile(r"\btools\b")
_XML_TOOLS = re.compile(r"\bxml_tools\b")
_SHORT_IDS = re.compile(r"length\s*[!=]=\s*9\b")


def named_functions(template: str, tools: Sequence[Any] | None) -> dict[str, Any]:
    """What templates are given that know no ``tools`` but functions by another name.

    SmolLM3's: ``xml_tools``, a list. FireFunction's, whose model card shows both names:
    ``functions``, text, and ``datetime`` when it is now: here the day, so that what follows is the
    same text all day.
    """
    functions = [tool.get("function", tool) for tool in tools or ()]
    if _XML_TOOLS.search(template):
        return {"xml_tools": functions}
    if not _FUNCTIONS.search(template) or _TOOLS.search(template):
        return {}
    return {
        "functions": json.dumps(functions, indent=4, ensure_ascii=False) if functions else "",
        "datetime": datetime.now().strftime("%b %d %Y"),
    }


class TemplateTraits:
    """Of one template. Each trait is found out when it is first asked for."""

    def __init__(self, template: str, names: Mapping[str, Any], sandbox: TemplateSandbox) -> None:
        """``names``: what templates are given beside messages and tools."""
        self._template = template
        self._names = names
        self._sandbox = sandbox
        self.short_ids = bool(_SHORT_IDS.search(template))
        """Whether ids of calls have to be nine letters and digits."""

    @cached_property
    def shows_tools(self) -> bool:
        """Whether tools are written into the prompt."""
        shown = self._tried([_ASKED], [_TOOL])
        return shown is not None and _NAME in shown and _NAME not in (self._tried([_ASKED]) or "")

    @cached_property
    def arguments_are_text(self) -> bool | None:
        """Whether a call's arguments are to be JSON text, not a dictionary. None: no calls."""
        for content in (None, ""):
            as_text = self._calling(content, json.dumps(_ARGUMENTS, ensure_ascii=False))
            as_object = self._calling(content, _ARGUMENTS)
            if as_object is not None:
                return as_text == as_object
            if as_text is not None:
                return True
        return None

    @cached_property
    def silence(self) -> str | None:
        """The content of a message that only calls: None, or "" where that fails or is said."""
        with_none = self._calling(None)
        if with_none is None or "None" in with_none:
            empty = self._calling("")
            if empty is not None and (with_none is None or "None" not in empty):
                return ""
        return None

    @cached_property
    def says_and_calls(self) -> bool:
        """Whether a message may have both text and calls."""
        return _SAID in (self._calling(_SAID) or "")

    @cached_property
    def thinks_says_and_calls(self) -> bool:
        """Whether one may have both, and what was thought before."""
        return _SAID in (self._calling(_SAID, thought="motet_thought") or "")

    @cached_property
    def loses_calls(self) -> bool:
        """Whether a second call of a message is passed over, without a word."""
        shown = self._calling(self.silence, names=(_NAME, _OTHER))
        return shown is not None and _OTHER not in shown

    @cached_property
    def shows_results(self) -> bool:
        """Whether messages of role "tool" are written into the prompt."""
        return _RESULT in (self._tried(self._conversation(self.silence), [_TOOL]) or "")

    @cached_property
    def numbered_ids(self) -> bool:
        """Whether ids of calls are to be "functions.NAME:NUMBER": Kimi's."""
        shown = self._tried(self._conversation(self.silence)[:2]) or ""
        return f"functions.{_NAME}:0" in shown or (_IDS[_NAME] in shown and _NAME not in shown)

    @cached_property
    def knows_developer(self) -> bool:
        """Whether messages of role "developer" are."""
        return _SAID in (self._tried([{"role": "developer", "content": _SAID}, _ASKED]) or "")

    def _calling(
        self,
        content: str | None,
        arguments: Any = None,
        *,
        thought: str | None = None,
        names: Sequence[str] = (_NAME,),
    ) -> str | None:
        """A conversation in which calls are made; None where it fails, or shows none."""
        messages = self._conversation(content, arguments, thought=thought, names=names)
        shown = self._tried(messages, [_TOOL])
        return shown if shown and _NAME in shown and "motet_value" in shown else None

    def _conversation(
        self,
        content: str | None,
        arguments: Any = None,
        *,
        thought: str | None = None,
        names: Sequence[str] = (_NAME,),
    ) -> list[Message]:
        """A question, calls and a result.

        ``arguments``: None for those that the template wants. ``thought``: what was thought before.
        ``names``: of the tools that are called.
        """
        if arguments is None:
            text = json.dumps(_ARGUMENTS, ensure_ascii=False)
            arguments = text if self.arguments_are_text else _ARGUMENTS
        ids = ["abcdefghi"] * len(names) if self.short_ids else [_IDS[name] for name in names]
        calls = [
            {"id": each, "type": "function", "function": {"name": name, "arguments": arguments}}
            for each, name in zip(ids, names, strict=True)
        ]
        result = {"role": "tool", "name": _NAME, "tool_call_id": ids[0], "content": _RESULT}
        message = {"role": "assistant", "content": content, "tool_calls": calls}
        if thought is not None:
            message |= {"thinking": thought, "reasoning_content": thought}
        return [_ASKED, message, result]

    def _tried(self, messages: Sequence[Message], tools: Sequence[Any] | None = None) -> str | None:
        try:
            return self._sandbox.render(
                self._template,
                messages,
                **{**self._names, **named_functions(self._template, tools)},
                tools=tools,
                add_generation_prompt=True,
            )
        except TokenizerError:
            return None


class KnownTemplates:
    """The traits of a tokenizer's chat templates, each found out once."""

    def __init__(self, sandbox: TemplateSandbox) -> None:
        self._sandbox = sandbox
        self._traits: dict[str, TemplateTraits] = {}

    def traits(self, template: str, names: Mapping[str, Any]) -> TemplateTraits:
        """``names``: what templates are given beside messages and tools."""
        found = self._traits.get(template)
        if found is None:
            if len(self._traits) >= _MOST:
                self._traits.clear()
            found = self._traits[template] = TemplateTraits(template, names, self._sandbox)
        return found
