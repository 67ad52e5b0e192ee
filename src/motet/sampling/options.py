"""The options of sampling, checked once when they are set."""

import difflib
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypedDict

from motet.errors import OptionError


def _describe(text: str, metavar: str, **limits: int) -> dict[str, Any]:
    """Metadata of a field: what a command line says about it, and ``min`` of a whole number."""
    return {"help": text, "metavar": metavar, **limits}


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the steps run in the order of the fields below.

    ``logit_bias`` is added to the logits of its token ids (``-inf`` bans a token). The penalties
    look at the last ``repeat_last_n`` tokens, prompt included (-1: all of them, 0: none):
    ``repeat_penalty`` divides a positive logit of a token seen there and multiplies a negative one
    (Keskar et al. 2019), ``frequency_penalty`` subtracts itself once for each time it was seen,
    ``presence_penalty`` once. ``temperature`` 0 takes the largest logit and ignores the steps after
    the penalties; ``top_k`` 0, ``typical_p`` 1, ``top_p`` 1 and ``min_p`` 0 switch their step off.
    ``seed`` None draws one from the operating system. Raises OptionError for a value out of range.

    The metadata of a field are ``help`` and ``metavar`` for a command line, and ``min`` for a whole
    number; ``logit_bias`` has none.
    """

    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    repeat_last_n: int = field(
        default=64, metadata=_describe("Penalties look so far back.", "N", min=-1)
    )
    repeat_penalty: float = field(default=1.0, metadata=_describe("Above 1: repeat less.", "X"))
    frequency_penalty: float = field(default=0.0, metadata=_describe("Per time seen.", "X"))
    presence_penalty: float = field(default=0.0, metadata=_describe("Once if seen.", "X"))
    top_k: int = field(
        default=40, metadata=_describe("Keep the K most probable tokens; 0: all.", "N", min=0)
    )
    typical_p: float = field(
        default=1.0, metadata=_describe("Keep locally typical tokens; 1: all.", "X")
    )
    top_p: float = field(
        default=0.95, metadata=_describe("Keep the tokens that hold this probability.", "X")
    )
    min_p: float = field(
        default=0.05, metadata=_describe("Keep tokens this probable beside the best.", "X")
    )
    temperature: float = field(default=0.8, metadata=_describe("Randomness; 0 is greedy.", "X"))
    seed: int | None = field(
        default=None,
        metadata=_describe(
            "Start of the random numbers; the same seed gives the same text.", "N", min=0
        ),
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if "min" in option.metadata and (value is not None or option.default is not None):
                whole_number(option.name, value, option.metadata["min"])
        for name in ("typical_p", "top_p", "min_p"):
            _number(name, getattr(self, name), 0.0, 1.0)
        _number("temperature", self.temperature, 0.0)
        _number("repeat_penalty", self.repeat_penalty, 0.0)
        if self.repeat_penalty == 0:
            raise OptionError("repeat_penalty is 0", hint="use a number above 0; 1 means none")
        _number("frequency_penalty", self.frequency_penalty)
        _number("presence_penalty", self.presence_penalty)
        _check_bias(self.logit_bias)

    @property
    def penalizes(self) -> bool:
        """Whether the tokens already seen change anything."""
        off = (1.0, 0.0, 0.0)
        penalties = (self.repeat_penalty, self.frequency_penalty, self.presence_penalty)
        return self.repeat_last_n != 0 and penalties != off

    def check_vocabulary(self, n_vocab: int) -> None:
        """Raise OptionError where ``logit_bias`` names a token that the model does not have."""
        for token in self.logit_bias:
            if token >= n_vocab:
                raise OptionError(
                    f"logit_bias names token {token}, but the vocabulary has {n_vocab}",
                    hint=f"use ids from 0 to {n_vocab - 1}",
                )


class SamplingFields(TypedDict, total=False):
    """The fields of ``Sampling`` as keyword arguments: ``**fields: Unpack[SamplingFields]``."""

    logit_bias: Mapping[int, float]
    repeat_last_n: int
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    top_k: int
    typical_p: float
    top_p: float
    min_p: float
    temperature: float
    seed: int | None


def whole_number(name: str, value: object, low: int) -> None:
    """Raise OptionError unless ``value`` is an integer of at least ``low``."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < low:
        raise OptionError(f"{name} is {value!r}", hint=f"use a whole number from {low} up")


def overridden(
    function: str, known: Iterable[str], sampling: object, given: SamplingFields
) -> Sampling:
    """``sampling``, None for the defaults, with the fields that are ``given`` by name.

    ``known``: the options of ``function``, these fields among them. Raises OptionError for a name
    that is not one of them, and for an unusable value.
    """
    refuse_unknown(function, given, known)
    if sampling is None:
        return Sampling(**given)
    if not isinstance(sampling, Sampling):
        raise OptionError(
            f"sampling is {sampling!r}", hint="use motet.Sampling(…), or name its fields"
        )
    return replace(sampling, **given)


def refuse_unknown(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise OptionError for a name among ``given`` that is not an option of ``function``.

    It says which of the ``known`` ones may be meant.
    """
    names = list(known)
    for name in given:
        if name not in names:
            close = difflib.get_close_matches(name, names)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(names)}"
            raise OptionError(f"{function} has no option {name!r}", hint=hint)


def _check_bias(biases: Any) -> None:
    try:
        items = list(biases.items())
    except AttributeError:
        raise OptionError(
            f"logit_bias is {biases!r}", hint="use a dictionary of numbers by token id"
        ) from None
    for token, bias in items:
        whole_number("a token id of logit_bias", token, 0)
        if bias != -math.inf:
            _number(f"logit_bias of token {token}", bias)


def _number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> None:
    try:
        sound = math.isfinite(value) and low <= value <= high  # type: ignore[arg-type, operator]
    except TypeError:
        sound = False
    if not sound:
        if high < math.inf:
            hint = f"use a number from {low:g} to {high:g}"
        else:
            hint = f"use a finite number from {low:g} up" if low > -math.inf else "use a number"
        raise OptionError(f"{name} is {value!r}", hint=hint)
