"""A conversation with a model: what was said and how answers are asked for, kept in state files."""

import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from motet.cli.patience import waiting
from motet.engine.state import setting_in
from motet.engine.stream import Stream
from motet.errors import MotetError, OptionError
from motet.llm import LLM
from motet.sampling import Sampling
from motet.state import FORMAT

_NOTE = "motet.conversation"
_VERSION = 1
_NOT_KEPT = ("seed", "logit_bias")
"""Fields of Sampling: the conversation has a seed of its own, and the command sets no bias."""


@dataclass(frozen=True)
class Asking:
    """How answers are asked for. ``templated``: by the model's chat template, or as plain text."""

    templated: bool
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    def but(self, given: "Asking", names: Collection[str]) -> "Asking":
        """With those of the named options that ``given`` has, of its own or of its sampling."""
        own = {name: getattr(given, name) for name in ("max_tokens", "stop") if name in names}
        chosen = {f.name for f in fields(Sampling)} & set(names)
        sampling = replace(self.sampling, **{n: getattr(given.sampling, n) for n in chosen})
        return replace(self, **own, sampling=sampling)


@dataclass(frozen=True)
class _Said:
    """What a state file keeps beside the memory."""

    asking: Asking
    seed: int
    opening: list[dict[str, str]]
    messages: list[dict[str, str]]


class Conversation:
    """Turns of a user and the model. The next answer depends on what is here alone."""

    def __init__(self, llm: LLM, asking: Asking, system: str | None = None) -> None:
        """``asking.sampling.seed``: the first answer's; each further answer has one more."""
        self.llm = llm
        self.asking = asking
        self.opening = [] if system is None else [{"role": "system", "content": system}]
        """What the conversation begins with, and again when it is forgotten."""
        self.messages = list(self.opening)
        self._seed = _seed(asking)

    def answer(self, text: str) -> Stream:
        """Begin to answer ``text``. Raises what ``LLM.chat`` does."""
        messages = [*self.messages, {"role": "user", "content": text}]
        sampling = self.asking.sampling
        turn = sum(message["role"] == "assistant" for message in self.messages)
        if self.asking.templated:
            ask = partial(self.llm.chat, messages)
        else:
            ask = partial(self.llm.generate, "".join(message["content"] for message in messages))
        return ask(
            max_tokens=self.asking.max_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            typical_p=sampling.typical_p,
            repeat_penalty=sampling.repeat_penalty,
            repeat_last_n=sampling.repeat_last_n,
            frequency_penalty=sampling.frequency_penalty,
            presence_penalty=sampling.presence_penalty,
            seed=self._seed + turn,
            stop=self.asking.stop,
            stream=True,
        )

    def add(self, text: str, answer: str) -> None:
        """Both have been said."""
        self.messages.append({"role": "user", "content": text})
        self.messages.append({"role": "assistant", "content": answer})

    def forget(self) -> None:
        """Begin anew, with the opening alone, and with other random numbers if none were asked."""
        self.messages = list(self.opening)
        self._seed = _seed(self.asking)
        self.llm.forget()

    def save(self, file: str | Path) -> None:
        """Write everything that the next answer depends on, memory included, to a state file.

        Raises OptionError where ``file`` is something else than a state file, MotetError when it
        cannot be written; then what was there before is there still.
        """
        _refuse_to_overwrite(Path(file))
        said = _Said(self.asking, self._seed, self.opening, self.messages)
        with waiting("saving"):
            self.llm.save(file, {_NOTE: _written(said)})

    def load(self, file: str | Path, *, adopt_self_extend: bool = True) -> None:
        """Go on with what ``save`` wrote.

        ``adopt_self_extend``: with the setting that it was saved with. Otherwise with the present
        one; where the file has another, what was said is computed anew with the next answer.

        Raises MotetError for a file that is damaged, of another model or no conversation; then
        this one is as it was.
        """
        with waiting("loading"):
            said = _read(self.llm.notes(file), file)
            if adopt_self_extend or setting_in(file) == self.llm.self_extend:
                self.llm.restore(file, adopt_self_extend=True)
            else:
                self.llm.forget()
        self.asking, self._seed = said.asking, said.seed
        self.opening, self.messages = said.opening, said.messages

    def ask_with(self, asking: Asking) -> None:
        """From now on; where another seed is given, the random numbers are those it gives."""
        if asking.sampling.seed != self.asking.sampling.seed:
            self._seed = _seed(asking)
        self.asking = asking


def _refuse_to_overwrite(path: Path) -> None:
    """Raise OptionError for a file that is there and no state file."""
    if not path.is_file():  # saving will say what is wrong with anything else
        return
    try:
        with path.open("rb") as file:
            beginning = file.read(1024)
    except OSError as error:
        raise OptionError(f"{path} exists and cannot be read: {error.strerror}") from error
    if beginning and f'"format":"{FORMAT}"'.encode() not in beginning:
        raise OptionError(
            f"{path} exists and is no state file, so it is not written over",
            hint="give another name, or delete it first",
        )


def _seed(asking: Asking) -> int:
    return secrets.randbits(62) if asking.sampling.seed is None else asking.sampling.seed


def _written(said: _Said) -> str:
    sampling = asdict(said.asking.sampling)
    return json.dumps(
        {
            "version": _VERSION,
            "templated": said.asking.templated,
            "sampling": {k: v for k, v in sampling.items() if k not in _NOT_KEPT},
            "max_tokens": said.asking.max_tokens,
            "stop": list(said.asking.stop),
            "asked_seed": said.asking.sampling.seed,
            "seed": said.seed,
            "opening": said.opening,
            "messages": said.messages,
        }
    )


def _read(notes: Mapping[str, str], file: str | Path) -> _Said:
    """Raises MotetError for notes that ``_written`` didn't make."""
    if _NOTE not in notes:
        raise MotetError(
            f"{file} is a state file without a conversation",
            hint="%save and --session write one with it",
        )
    try:
        facts = json.loads(notes[_NOTE])
        if facts["version"] != _VERSION:
            raise ValueError(f"version {facts['version']} is not {_VERSION}")
        asking = Asking(
            templated=_checked(facts["templated"], bool),
            sampling=Sampling(**facts["sampling"], seed=facts["asked_seed"]),
            max_tokens=None if facts["max_tokens"] is None else _checked(facts["max_tokens"], int),
            stop=tuple(_checked(text, str) for text in _checked(facts["stop"], list)),
        )
        seed = _checked(facts["seed"], int)
        if seed < 0:
            raise ValueError(f"the seed is {seed}")
        return _Said(asking, seed, _messages(facts["opening"]), _messages(facts["messages"]))
    except (KeyError, TypeError, ValueError, RecursionError, OptionError) as error:
        raise MotetError(
            f"the conversation in {file} is malformed: {error}",
            hint="it may be of another version of Motet",
        ) from error


def _checked(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:40]!r} is no {kind.__name__}")
    return value


def _messages(value: Any) -> list[dict[str, str]]:
    return [
        {key: _checked(_checked(message, dict)[key], str) for key in ("role", "content")}
        for message in _checked(value, list)
    ]
