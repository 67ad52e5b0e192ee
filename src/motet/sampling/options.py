"""The options of sampling, checked once when they are set."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypedDict

from motet import checks
from motet.errors import OptionError

_LARGEST = 1e30
"""Of a bias or penalty: what several of these add up to has to be a float32."""
_FACTOR = 1e6
"""Of a factor on logits, in either direction."""
GENERATORS = ("pcg64", "mt19937")
"""Where random numbers may come from."""


def _describe(text: str, metavar: str, **limits: int) -> dict[str, Any]:
    """Metadata of a field: what a command line says about it, and ``min`` of a whole number."""
    return {"help": text, "metavar": metavar, **limits}


@checks.named
@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the steps run in the order of the fields below.

    ``logit_bias`` is added to the logits of its token ids (``-inf`` bans a token). The penalties
    look at the last ``repeat_last_n`` tokens, prompt included (-1: all of them, 0: none):
    ``repeat_penalty`` divides a positive logit of a token seen there and multiplies a negative one
    (Keskar et al. 2019), ``frequency_penalty`` subtracts itself once for each time it was seen,
    ``presence_penalty`` once. ``temperature`` 0 takes the largest logit and ignores the steps after
    the penalties; ``top_k`` 0, ``typical_p`` 1, ``top_p`` 1 and ``min_p`` 0 switch their step off.
    ``seed`` None draws one from the operating system. ``generator``: what the seed starts, "pcg64"
    or "mt19937"; the latter draws what llama.cpp does of the same seed, below 2^32. Raises
    OptionError for a value out of range.

    The metadata of a field are ``help`` and ``metavar`` for a command line, ``min`` for a whole
    number, and ``choices`` for a word; ``logit_bias`` has none.
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
    generator: str = field(
        default="pcg64",
        metadata={
            "help": "Where random numbers come from; mt19937: as in llama.cpp.",
            "metavar": "NAME",
            "choices": GENERATORS,
        },
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            name, value = option.name, getattr(self, option.name)
            if name == "logit_bias":
                value = _biases(value)
            elif name == "seed":
                value = checks.optional_whole(name, value)
            elif "choices" in option.metadata:
                value = checks.choice(name, value, option.metadata["choices"])
            elif "min" in option.metadata:
                value = checks.whole(name, value, option.metadata["min"])
            else:
                value = checks.number(name, value, *_RANGES[name])
            object.__setattr__(self, name, value)
        if self.generator == "mt19937" and self.seed is not None and self.seed >= 2**32:
            raise OptionError(
                f"seed is {checks.shown(self.seed)}, and mt19937 takes 32 bits of it",
                hint=f"use 0 to {2**32 - 1}, or generator='pcg64'",
            )

    @property
    def penalizes(self) -> bool:
        """Whether the tokens already seen change anything."""
        off = (1.0, 0.0, 0.0)
        penalties = (self.repeat_penalty, self.frequency_penalty, self.presence_penalty)
        return self.repeat_last_n != 0 and penalties != off

    def check_vocabulary(self, n_vocab: int) -> None:
        """Raise OptionError where ``logit_bias`` names a token that the model does not have."""
        n_vocab = checks.whole("n_vocab", n_vocab)
        for token in self.logit_bias:
            if token >= n_vocab:
                raise OptionError(
                    f"logit_bias names token {token}, but the vocabulary has {n_vocab}",
                    hint=f"use ids from 0 to {n_vocab - 1}",
                )


_RANGES = {
    "repeat_penalty": (1 / _FACTOR, _FACTOR),
    "frequency_penalty": (-_LARGEST, _LARGEST),
    "presence_penalty": (-_LARGEST, _LARGEST),
    "typical_p": (0.0, 1.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "temperature": (0.0, _LARGEST),
}


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
    generator: str


def overridden(
    function: str, known: Iterable[str], default: Sampling, sampling: object, given: SamplingFields
) -> Sampling:
    """``sampling``, None for the ``default``, with the fields that are ``given`` by name.

    ``known``: the options of ``function``, these fields among them. Raises OptionError for a name
    that is not one of them, and for an unusable value.
    """
    checks.refuse_unknown(function, given, known)
    if sampling is None:
        sampling = default
    hint = "use motet.Sampling(…), or name its fields"
    return replace(checks.instance("sampling", sampling, Sampling, hint), **given)


def _biases(given: object) -> dict[int, float]:
    """``logit_bias``, checked and copied."""
    found = dict[int, float]()
    for token, bias in checks.mapping("logit_bias", given, "of numbers by token id").items():
        number = checks.whole("a token id of logit_bias", token)
        name = f"logit_bias of token {number}"
        banned = isinstance(bias, float) and bias == -math.inf
        found[number] = -math.inf if banned else checks.number(name, bias, -_LARGEST, _LARGEST)
    return found
