"""The chat templates that a model file brings."""

from motet.tokenizer.metadata import VocabularyKeys

_TEMPLATE = "tokenizer.chat_template"
_NAMES = "tokenizer.chat_templates"
_KNOWN = {
    "rwkv-world": (
        "{{ bos_token }}{% for message in messages %}"
        "{{ message['role'] | capitalize }}: {{ message['content'] | trim }}\n\n"
        "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    )
}
"""Templates that files of RWKV give by name alone: the form of the dialogues it was trained on."""


def read_chat_templates(keys: VocabularyKeys) -> dict[str, str]:
    """Name -> Jinja source; the main one is "default". Empty if the file has none."""
    templates = {}
    main = keys.text(_TEMPLATE)
    if main is not None:
        templates["default"] = _KNOWN.get(main, main)
    for name in keys.strings(_NAMES) if keys.has(_NAMES) else ():
        source = keys.text(f"{_TEMPLATE}.{name}")
        if source is None:
            raise keys.error(_NAMES, f"names {name[:40]!r}, but the file has no such template")
        templates[name] = source
    return templates
