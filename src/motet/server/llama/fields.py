"""The fields of /completion: what is asked of an answer, and which of them change nothing here."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AliasChoices, Field, model_validator

from motet import checks
from motet.sampling import Sampling
from motet.server.asking import Wanted
from motet.server.failures import Refused
from motet.server.proposed import MostProposed, heeded
from motet.server.sampling import MOST_BIASES, SamplingBody, left_out
from motet.tokenizer import Tokenizer

Whether = Annotated[bool, Field(strict=True)]
MOST_PROBS = 1000
"""Of most probable tokens at a place: more than a client reads, and a vocabulary is longer."""
MOST_CANDIDATES = 1000
"""That post_sampling_probs looks at."""


class CompletionBody(SamplingBody):
    """What /completion is asked. Sampling that Motet does not have is refused unless it is off."""

    prompt: Annotated[Any, Field(description="Text, token ids, a list of both, or several.")]
    n_predict: Annotated[
        int | None,
        Field(
            ge=-1,
            validation_alias=AliasChoices("n_predict", "max_tokens", "max_completion_tokens"),
            description="Tokens at most; -1: as many as there is room for.",
        ),
    ] = None
    n_cmpl: Annotated[int, Field(ge=1, validation_alias=AliasChoices("n_cmpl", "n"))] = 1
    stop: list[str] | str | None = None
    n_probs: Annotated[
        int, Field(ge=0, le=MOST_PROBS, validation_alias=AliasChoices("n_probs", "logprobs"))
    ] = 0
    post_sampling_probs: Whether = False
    return_tokens: Whether = False
    stream: Whether = False
    timings_per_token: Whether = False
    return_progress: Whether = False
    ignore_eos: Whether = False
    cache_prompt: Annotated[Whether, Field(description="No result depends on it.")] = True
    id_slot: Annotated[int, Field(ge=-1)] = -1
    grammar: str | None = None
    json_schema: dict[str, Any] | bool | None = None
    response_fields: list[str] | None = None
    samplers: Annotated[
        list[str] | None, Field(description="Those that are left out are switched off.")
    ] = None
    logit_bias: Any = None
    max_proposed: MostProposed = None
    model: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _switched_off(cls, data: Any) -> Any:
        """Take out what changes nothing. Raises Refused for what Motet does not have."""
        if not isinstance(data, dict):
            return data
        kept: dict[str, Any] = {}
        for name, value in heeded(data).items():
            is_off = _OFF.get(name)
            if is_off is None:
                kept[name] = value
            elif value is not None and not is_off(value):
                raise Refused(
                    400, f"{name}: there is none in Motet; leave it out or off", param=name
                )
        return kept

    def chosen(self, default: Sampling, tokenizer: Tokenizer | None) -> Sampling:
        """How tokens are chosen, where a server's requests are sampled by ``default``."""
        given = {**self.sampling()}
        given.pop("logit_bias", None)
        bias = _biases(self.logit_bias, tokenizer)
        if self.ignore_eos and tokenizer is not None:
            bias.update(dict.fromkeys(tokenizer.eog, -math.inf))
        off = left_out(self.samplers)
        return replace(default, **{**given, **off}, logit_bias=bias)

    def wanted(self, sampling: Sampling, n_vocab: int, context_length: int) -> Wanted:
        """What is asked of every answer."""
        return Wanted(
            sampling={name: getattr(sampling, name) for name in _SAMPLING},  # pyright: ignore
            max_tokens=context_length if self.n_predict == -1 else self.n_predict,
            n=self.n_cmpl,
            stop=self.stops,
            logprobs=self._logprobs(sampling, n_vocab),
            grammar=self.grammar or None,
            json_schema=self.json_schema,
            max_proposed=self.max_proposed,
        )

    @property
    def stops(self) -> list[str]:
        """The texts that end an answer; llama-server, too, passes over empty ones."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in given if text]

    def _logprobs(self, sampling: Sampling, n_vocab: int) -> int | None:
        if not self.n_probs:
            return None
        if not self.post_sampling_probs:
            return self.n_probs
        if (
            sampling.penalizes
            or sampling.logit_bias
            or self.grammar
            or self.json_schema is not None
        ):
            raise Refused(
                400,
                "post_sampling_probs: not with penalties, logit_bias, ignore_eos or a grammar",
                param="post_sampling_probs",
            )
        count = min(sampling.top_k or n_vocab, n_vocab)
        if count > MOST_CANDIDATES:
            raise Refused(
                400,
                f"post_sampling_probs looks at {MOST_CANDIDATES} tokens at most: give a top_k",
                param="post_sampling_probs",
            )
        return count


_SAMPLING = tuple(Sampling.__dataclass_fields__)


def _is(*values: object) -> Callable[[Any], bool]:
    return lambda value: any(value == each for each in values)


def _anything(value: Any) -> bool:
    return True


def _not_above_zero(value: Any) -> bool:
    return isinstance(value, int | float) and value <= 0


_OFF: dict[str, Callable[[Any], bool]] = {
    "mirostat": _is(0),
    "mirostat_tau": _anything,
    "mirostat_eta": _anything,
    "dynatemp_range": _is(0),
    "dynatemp_exponent": _anything,
    "dry_multiplier": _is(0),
    "dry_base": _anything,
    "dry_allowed_length": _anything,
    "dry_penalty_last_n": _anything,
    "dry_sequence_breakers": _anything,
    "xtc_probability": _is(0),
    "xtc_threshold": _anything,
    "top_n_sigma": _not_above_zero,
    "adaptive_target": lambda value: isinstance(value, int | float) and value < 0,
    "adaptive_decay": _anything,
    "tfs_z": _is(1),
    "min_keep": _is(0, 1),
    "n_indent": _is(0),
    "n_cache_reuse": _is(0),
    "t_max_predict_ms": _not_above_zero,
    "lora": _is([]),
    "image_data": _is([]),
    "grammar_lazy": _is(False),
    "grammar_triggers": _is([]),
    "echo": _is(False),
    "verbose": _is(False),
    "n_keep": _anything,  # nothing that was said is ever forgotten
    "n_discard": _anything,
    "backend_sampling": _anything,
    "stream_options": _anything,
    "user": _anything,
}
"""Fields that Motet has nothing for, and which of their values change nothing."""


def _biases(given: object, tokenizer: Tokenizer | None) -> dict[int, float]:
    """``logit_bias`` by token: pairs or an object, of token ids or of texts all of whose tokens
    are meant; ``false`` bans a token."""
    if given is None:
        return {}
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    if not isinstance(pairs, list):
        raise _no_bias(given)
    if len(pairs) > MOST_BIASES:
        raise Refused(
            400,
            f"logit_bias has {len(pairs)} entries; at most {MOST_BIASES} are taken",
            param="logit_bias",
        )
    found: dict[int, float] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise _no_bias(pair)
        key, value = pair
        if value is False:
            value = -math.inf
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _no_bias(pair)
        if isinstance(key, str) and not (isinstance(given, Mapping) and key.isdecimal()):
            if tokenizer is None:
                raise _no_bias(pair)
            tokens = tokenizer.encode(key, add_special=False, parse_special=True)
        elif isinstance(key, bool) or not isinstance(key, int | str):
            raise _no_bias(pair)
        else:
            tokens = [int(key)]
        found.update(dict.fromkeys(tokens, float(value)))
    return found


def _no_bias(given: object) -> Refused:
    return Refused(
        400,
        f"logit_bias has {checks.shown(given)}: give pairs of a token id or text and a number",
        param="logit_bias",
    )
