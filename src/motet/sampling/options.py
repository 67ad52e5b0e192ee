"""The options of sampling, checked once when they are set."""

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, field

from motet.errors import OptionError


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
    """

    logit_bias: Mapping[int, float] = field(default_factory=dict)
    repeat_last_n: int = field(
        default=64, metadata={"help": "Penalties look so far back.", "metavar": "N"}
    )
    repeat_penalty: float = field(
        default=1.0, metadata={"help": "Above 1: repeat less.", "metavar": "X"}
    )
    frequency_penalty: float = field(
        default=0.0, metadata={"help": "Per time seen.", "metavar": "X"}
    )
    presence_penalty: float = field(default=0.0, metadata={"help": "Once if seen.", "metavar": "X"})
    top_k: int = field(
        default=40, metadata={"help": "Keep the K most probable tokens; 0: all.", "metavar": "N"}
    )
    typical_p: float = field(
        default=1.0, metadata={"help": "Keep locally typical tokens; 1: all.", "metavar": "X"}
    )
    top_p: float = field(
        default=0.95,
        metadata={"help": "Keep the tokens that hold this probability.", "metavar": "X"},
    )
    min_p: float = field(
        default=0.05,
        metadata={"help": "Keep tokens this probable beside the best.", "metavar": "X"},
    )
    temperature: float = field(
        default=0.8, metadata={"help": "Randomness; 0 is greedy.", "metavar": "X"}
    )
    seed: int | None = field(
        default=None,
        metadata={
            "help": "Start of the random numbers; the same seed gives the same text.",
            "metavar": "N",
        },
    )

    def __post_init__(self) -> None:
        whole_number("repeat_last_n", self.repeat_last_n, -1)
        whole_number("top_k", self.top_k, 0)
        if self.seed is not None:
            whole_number("seed", self.seed, 0)
        for name in ("typical_p", "top_p", "min_p"):
            _number(name, getattr(self, name), 0.0, 1.0)
        _number("temperature", self.temperature, 0.0)
        _number("repeat_penalty", self.repeat_penalty, 0.0)
        if self.repeat_penalty == 0:
            raise OptionError("repeat_penalty is 0", hint="use a number above 0; 1 means none")
        _number("frequency_penalty", self.frequency_penalty)
        _number("presence_penalty", self.presence_penalty)
        for token, bias in self.logit_bias.items():
            whole_number("a token id of logit_bias", token, 0)
            if bias != -math.inf:
                _number(f"logit_bias of token {token}", bias)

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


def whole_number(name: str, value: object, low: int) -> None:
    """Raise OptionError unless ``value`` is an integer of at least ``low``."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < low:
        raise OptionError(f"{name} is {value!r}", hint=f"use a whole number from {low} up")


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
