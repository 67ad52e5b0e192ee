"""A conversation as the text that a model was trained to see, by the file's own template."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from motet import checks
from motet.errors import OptionError, TokenizerError
from motet.tokenizer.chat_messages import Spelt, adapted, checked
from motet.tokenizer.template_traits import TemplateTraits, named_functions
from motet.tokenizer.tokenizer import Tokenizer

_MAX_TEMPLATE = 1 << 17
"""Characters; the largest in use have about 30,000."""
_MAX_OPTIONS = 1 << 16
"""Likewise of the options as JSON."""
_RESERVED = {
    *("messages", "tools", "add_generation_prompt", "self", "context", "raise_exception"),
    *("strftime_now", "namespace", "dict", "range", "lipsum", "cycler", "joiner"),
    *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token"),
}
"""Names that no option has."""


def select(tokenizer: Tokenizer, name: str = "default") -> str:
    """The chat template called ``name`` in the model's file; TokenizerError if it has none such."""
    template = tokenizer.chat_templates.get(name)
    if template is None:
        known = ", ".join(tokenizer.chat_templates)
        raise TokenizerError(
            f"the model has no chat template {name!r}",
            hint=f"it has {known}" if known else "it may be no chat model; give it plain text",
        )
    return template


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tokenizer: Tokenizer,
    add_generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
    options: Mapping[str, Any] | None = None,
    spelt: Spelt | None = None,
) -> str:
    """``messages`` in the form of ``template``, a Jinja source.

    Each message has a "role" and a "content", both text; further entries, of what JSON can say,
    are the template's business. Calls and results of tools are in the OpenAI API's form, and
    adapted to what the template takes; the content of a message that calls may be None.
    ``add_generation_prompt``: end where the assistant's answer begins. ``tools``: offered to the
    model, in the OpenAI API's form too. ``options``: further names for the template, such as
    enable_thinking; one that it does not read changes nothing. ``spelt``: see ``adapted``.

    Templates see what transformers shows them: messages, add_generation_prompt, tools and
    documents (None unless given), bos_token and the like, raise_exception, strftime_now; those of
    before there were tools, functions (text) and datetime. They run in a process of their own
    (``sandbox.py``), begun with the tokenizer's first conversation.

    Raises TokenizerError for malformed messages, a template that is malformed, refuses the
    messages, fails on them, takes too much time or memory or makes too much text, and where no
    process can be begun; OptionError for tools that the template does not show, and for options
    that it can't be given.
    """
    given = [checked(message, index) for index, message in enumerate(messages)]
    if len(template) > _MAX_TEMPLATE:
        raise TokenizerError(
            f"the chat template has {len(template)} characters, at most {_MAX_TEMPLATE} are read"
        )
    names = {**_names(template, tokenizer, tools), **_options(options)}
    if tools or any(_needs_traits(message) for message in given):
        traits = _traits(template, tokenizer)
        if tools and not traits.shows_tools:
            raise OptionError(
                "tools are given, and this model's chat template has no place for tools",
                hint="use a model that was trained to call them",
            )
        given = adapted(given, traits, spelt)
    return tokenizer.sandbox.render(
        template,
        given,
        **names,
        add_generation_prompt=add_generation_prompt,
        tools=list(tools) if tools else None,
    )


def calls_without_tools(template: str, tokenizer: Tokenizer) -> bool:
    """Whether a template shows calls, and leaves it to the messages to say what tools there are."""
    traits = _traits(template, tokenizer)
    return not traits.shows_tools and traits.arguments_are_text is not None


def encode(text: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of a rendered conversation: special tokens count, BOS comes once, EOS not at all."""
    ids = tokenizer.encode(text, add_special=False, parse_special=True)
    bos = tokenizer.bos
    if tokenizer.add_bos and bos is not None and ids[:1] != [bos]:
        return [bos, *ids]
    return ids


def _traits(template: str, tokenizer: Tokenizer) -> TemplateTraits:
    return tokenizer.known_templates.traits(template, _names(template, tokenizer))


def _names(
    template: str, tokenizer: Tokenizer, tools: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """What a template is always given beside messages and tools."""
    return {
        "documents": None,
        **_token_texts(tokenizer),
        **named_functions(template, tools),
    }


def _needs_traits(message: Mapping[str, Any]) -> bool:
    return message["role"] in ("tool", "developer") or bool(message.get("tool_calls"))


def _options(options: object) -> dict[str, Any]:
    """What a template is to be given beside what it always is."""
    if options is None:
        return {}
    given = checks.mapping("template_options", options, "of values by name")
    for name in given:
        if not isinstance(name, str) or not name.isidentifier() or name in _RESERVED:
            raise OptionError(
                f"template_options has {checks.shown(name)}",
                hint="use names that the template knows, but for those it is always given",
            )
    try:
        size = len(json.dumps(dict(given)))
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"template_options has what JSON can't say: {error}") from error
    if size > _MAX_OPTIONS:
        raise OptionError(f"template_options has {size} characters, at most {_MAX_OPTIONS}")
    return dict(given)


def _token_texts(tokenizer: Tokenizer) -> dict[str, str]:
    ids = {
        "bos_token": tokenizer.bos,
        "eos_token": tokenizer.eos,
        "unk_token": tokenizer.unk,
        "sep_token": tokenizer.sep,
        "pad_token": tokenizer.pad,
    }
    return {
        name: tokenizer.piece(token).decode("utf-8", "replace")
        for name, token in ids.items()
        if token is not None
    }
