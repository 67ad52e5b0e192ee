"""A conversation with a model: its messages and the options of its answers, kept in state files."""

import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TypeVar

from motet.cli.progress import delayed_progress
from motet.engine.state import setting_in
from motet.engine.stream import Stream
from motet.errors import MotetError, OptionError
from motet.grammar import Grammar
from motet.llm import LLM
from motet.sampling import Sampling
from motet.state import FORMAT

Message = dict[str, str]
"""``role`` and ``content``."""
T = TypeVar("T")

_NOTE = "motet.conversation"
"""Of the state file's notes, the one that holds the conversation."""
_VERSION = 1
_NOT_SAVED = ("seed", "logit_bias")
"""Fields of Sampling: the conversation has a seed of its own, and the command sets no bias."""


@dataclass(frozen=True)
class ChatOptions:
    """How answers are generated. ``templated``: by the model's chat template, or as plain text."""

    templated: bool
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    def updated(self, other: "ChatOptions", names: Collection[str]) -> "ChatOptions":
        """With the ``max_tokens``, the ``stop`` and the fields of sampling of ``other`` that are
        among ``names``."""
        own = {name: getattr(other, name) for name in ("max_tokens", "stop") if name in names}
        chosen = {f.name for f in fields(Sampling)} & set(names)
        sampling = replace(self.sampling, **{n: getattr(other.sampling, n) for n in chosen})
        return replace(self, **own, sampling=sampling)


@dataclass(frozen=True)
class _Saved:
    """What a state file holds of a conversation, beside the KV cache."""

    options: ChatOptions
    seed: int
    opening: list[Message]
    messages: list[Message]


class Conversation:
    """Turns of a user and the model. The next answer depends on what is here alone."""

    def __init__(
        self,
        llm: LLM,
        options: ChatOptions,
        system: str | None = None,
        grammar: Grammar | None = None,
    ) -> None:
        """``options.sampling.seed``: the first answer's; each further answer has one more.
        ``grammar``: what answers are held to, which is not saved.
        """
        self.llm = llm
        self.grammar = grammar
        self.options = options
        self.opening: list[Message] = []
        """The messages that the conversation begins with, also after a reset."""
        if system is not None:
            self.opening.append({"role": "system", "content": system})
        self.messages = list(self.opening)
        self._seed = _seed(options)

    @property
    def remembers(self) -> bool:
        """Whether an answer depends on earlier turns.

        Of an encoder-decoder without a chat template it does not: it answers a text, and goes on
        from none.
        """
        return self.options.templated or self.llm.model.config.decoder_start is None

    def answer(self, text: str) -> Stream:
        """Begin to answer ``text``. Raises what ``LLM.chat`` does."""
        messages = [*self.messages, {"role": "user", "content": text}]
        turn = sum(message["role"] == "assistant" for message in self.messages)
        options = self.options
        sampling = replace(options.sampling, seed=self._seed + turn)
        if options.templated:
            return self.llm.chat(
                messages,
                sampling,
                max_tokens=options.max_tokens,
                stop=options.stop,
                grammar=self.grammar,
                stream=True,
            )
        if not self.remembers:
            messages = messages[-1:]
        return self.llm.generate(
            "".join(message["content"] for message in messages),
            sampling,
            max_tokens=options.max_tokens,
            stop=options.stop,
            grammar=self.grammar,
            stream=True,
        )

    def add(self, text: str, answer: str) -> None:
        """Append a turn: what the user said, and the answer to it."""
        self.messages.append({"role": "user", "content": text})
        self.messages.append({"role": "assistant", "content": answer})

    def reset(self) -> None:
        """Begin anew, with the opening alone, and with another seed unless the options have one."""
        self.messages = list(self.opening)
        self._seed = _seed(self.options)
        self.llm.forget()

    def save(self, file: str | Path, *, notes_only: bool = False) -> None:
        """Write everything that the next answer depends on, the KV cache included, to a state file.

        ``notes_only``: without the KV cache, which takes a moment however long the conversation is;
        who loads it computes that anew. Raises OptionError where ``file`` is not a state file,
        MotetError when it cannot be written; the old file is then left as it was.
        """
        _refuse_to_overwrite(Path(file))
        saved = _Saved(self.options, self._seed, self.opening, self.messages)
        with delayed_progress("saving"):
            self.llm.save(file, {_NOTE: _encode(saved)}, notes_only=notes_only)

    def load(self, file: str | Path, *, adopt_self_extend: bool = True) -> None:
        """Go on with what ``save`` wrote.

        ``adopt_self_extend``: with the setting that it was saved with. Otherwise with the present
        one; where the file has another, the next answer computes the whole conversation anew.

        Raises MotetError for a file that is damaged, of another model or without a conversation;
        then this one is as it was.
        """
        with delayed_progress("loading"):
            saved = _decode(self.llm.notes(file), file)
            if adopt_self_extend or setting_in(file) == self.llm.self_extend:
                self.llm.restore(file, adopt_self_extend=True)
            else:
                self.llm.forget()
        self.options, self._seed = saved.options, saved.seed
        self.opening, self.messages = saved.opening, saved.messages

    def set_options(self, options: ChatOptions) -> None:
        """For the answers from now on. Another seed in them is the next first answer's."""
        if options.sampling.seed != self.options.sampling.seed:
            self._seed = _seed(options)
        self.options = options


def _refuse_to_overwrite(path: Path) -> None:
    """Raise OptionError for a file that exists and is not a state file."""
    if not path.is_file():  # saving will say what is wrong with anything else
        return
    try:
        with path.open("rb") as file:
            beginning = file.read(1024)
    except OSError as error:
        raise OptionError(f"{path} exists and cannot be read: {error.strerror}") from error
    if beginning and f'"format":"{FORMAT}"'.encode() not in beginning:
        raise OptionError(
            f"{path} exists and is not a state file, so it is not overwritten",
            hint="give another name, or delete it first",
        )


def _seed(options: ChatOptions) -> int:
    seed = options.sampling.seed
    return secrets.randbits(62) if seed is None else seed


def _encode(saved: _Saved) -> str:
    sampling = asdict(saved.options.sampling)
    return json.dumps(
        {
            "version": _VERSION,
            "templated": saved.options.templated,
            "sampling": {k: v for k, v in sampling.items() if k not in _NOT_SAVED},
            "max_tokens": saved.options.max_tokens,
            "stop": list(saved.options.stop),
            "asked_seed": saved.options.sampling.seed,
            "seed": saved.seed,
            "opening": saved.opening,
            "messages": saved.messages,
        }
    )


def _decode(notes: Mapping[str, str], file: str | Path) -> _Saved:
    """Raises MotetError for notes that ``_encode`` did not make."""
    if _NOTE not in notes:
        raise MotetError(
            f"{file} is a state file without a conversation",
            hint="/save and --session write one with it",
        )
    try:
        facts = json.loads(notes[_NOTE])
        if facts["version"] != _VERSION:
            raise ValueError(f"version {facts['version']} is not {_VERSION}")
        options = ChatOptions(
            templated=_checked(facts["templated"], bool),
            sampling=Sampling(**facts["sampling"], seed=facts["asked_seed"]),
            max_tokens=None if facts["max_tokens"] is None else _checked(facts["max_tokens"], int),
            stop=tuple(_checked(text, str) for text in _checked(facts["stop"], list)),
        )
        seed = _checked(facts["seed"], int)
        if seed < 0:
            raise ValueError(f"the seed is {seed}")
        return _Saved(options, seed, _messages(facts["opening"]), _messages(facts["messages"]))
    except (KeyError, TypeError, ValueError, RecursionError, OptionError) as error:
        raise MotetError(
            f"the conversation in {file} is malformed: {error}",
            hint="it may be of another version of Motet",
        ) from error


def _checked(value: object, kind: type[T]) -> T:
    """``value``, which has to be of the very type ``kind``. Raises TypeError otherwise."""
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:40]!r} is not a {kind.__name__}")
    return value


def _messages(value: object) -> list[Message]:
    return [
        {key: _checked(_checked(message, dict)[key], str) for key in ("role", "content")}
        for message in _checked(value, list)
    ]
