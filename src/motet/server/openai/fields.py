"""The fields that chat completions and completions have in common."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import AliasChoices, Field, model_validator

from motet.errors import shown
from motet.sampling import SamplingFields
from motet.server.failures import Refused
from motet.server.parts import parts
from motet.server.proposed import MostProposed, heeded
from motet.server.sampling import Asked, SamplingBody, left_out

_CHANGE_NOTHING = {
    *("user", "safety_identifier", "metadata", "service_tier", "request_id", "priority"),
    *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),  # always, by contents
    *("cache_prompt", "backend_sampling"),  # how fast, never what
    *("mirostat_tau", "mirostat_eta", "dynatemp_exponent", "xtc_threshold", "dry_base"),
    *("dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"),  # of what is off
}
"""Fields that are taken whatever they say, for an answer would be the same."""
_AS_IT_IS: dict[str, tuple[Any, ...]] = {
    "store": (False,),
    "best_of": (1,),
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "early_stopping": (False,),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "stop_token_ids": ([],),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True, False),
    "return_tokens_as_token_ids": (False,),
    "return_token_ids": (False,),
    "n_keep": (0,),
    "n_probs": (0,),
    "mirostat": (0,),
    "xtc_probability": (0,),
    "dry_multiplier": (0,),
    "dynatemp_range": (0,),
    "top_n_sigma": (-1, 0),
    "min_keep": (0, 1),
    "lora": ([],),
    "return_progress": (False,),
    "timings_per_token": (False,),
    "verbose": (False,),
    "echo": (False,),
    "include_reasoning": (True,),
}
"""Fields that are taken where they ask for what is done anyway."""


class StreamOptions(Asked):
    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None
    continuous_usage_stats: Annotated[
        bool | None, Field(description="vLLM's: say in each event what was used until then.")
    ] = None


class JsonSchema(Asked):
    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | bool | None, Field(alias="schema")] = None
    strict: Annotated[bool | None, Field(description="It always is.")] = None


class ResponseFormat(Asked):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: Annotated[
        dict[str, Any] | bool | None, Field(alias="schema", description="Of a json_object.")
    ] = None


class StructuredOutputs(Asked):
    """vLLM's."""

    json_: Annotated[dict[str, Any] | bool | str | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Annotated[list[str] | None, Field(min_length=1)] = None
    grammar: str | None = None
    json_object: bool | None = None


class PredictedPart(Asked):
    type: Literal["text"]
    text: str


class Prediction(Asked):
    """Text that the answer may well repeat; it changes how fast the answer comes."""

    type: Literal["content"]
    content: Annotated[list[PredictedPart], Field(fail_fast=True), parts("text")]

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(part.text for part in self.content)


@dataclass(frozen=True)
class Constraint:
    """What an answer is held to; at most one of them."""

    grammar: str | None = None
    json_schema: dict[str, Any] | str | bool | None = None
    regex: str | None = None


class GenerationBody(SamplingBody):
    model: Annotated[
        str | None, Field(description="Any name; the answer says which model wrote it.")
    ] = None
    n: Annotated[int | None, Field(ge=1)] = None
    max_tokens: Annotated[
        int | None, Field(ge=-1, validation_alias=AliasChoices("max_tokens", "n_predict"))
    ] = None
    stop: str | Annotated[list[str], Field(fail_fast=True)] | None = None
    prediction: Prediction | None = None
    max_proposed: MostProposed = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    grammar: Annotated[str | None, Field(description="GBNF or Lark.")] = None
    json_schema: dict[str, Any] | bool | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: str | None = None
    guided_choice: Annotated[list[str] | None, Field(min_length=1)] = None
    guided_grammar: str | None = None
    samplers: Annotated[
        list[str] | None,
        Field(description="llama-server's: those that are left out are switched off."),
    ] = None
    id_slot: Annotated[
        int | None, Field(ge=-1, description="The sequence to compute in; -1: any.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _without_what_changes_nothing(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        given = cast(dict[str, Any], body)
        for name, values in _AS_IT_IS.items():
            value = given.get(name)
            if name not in cls.model_fields and value is not None and value not in values:
                raise ValueError(
                    f"{name} is {_in_json(value)}: this server can only do {_in_json(values[0])}"
                )
        dropped = (_CHANGE_NOTHING | _AS_IT_IS.keys()) - cls.model_fields.keys()
        return {name: value for name, value in heeded(given).items() if name not in dropped}

    @property
    def stops(self) -> list[str]:
        """``stop`` as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def predicted(self) -> str | None:
        """What the answer may well repeat."""
        return None if self.prediction is None else self.prediction.text

    @property
    def slot(self) -> int | None:
        """``id_slot``, where it names one."""
        return None if self.id_slot == -1 else self.id_slot

    @property
    def include_usage(self) -> bool:
        """Whether a stream is to end with its usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def usage_in_each(self) -> bool:
        """Whether each event of a stream is to have the usage until then."""
        return self.stream_options is not None and bool(self.stream_options.continuous_usage_stats)

    def chosen(self) -> SamplingFields:
        """How tokens are chosen. Raises Refused for options of a stream that there is not."""
        if self.stream_options is not None and not self.stream:
            raise Refused(
                400, "stream_options are for streams: leave them out", param="stream_options"
            )
        return cast(SamplingFields, {**self.sampling(), **left_out(self.samplers)})

    def constraint(self) -> Constraint:
        """What the answer is held to. Raises Refused where the fields say more than one thing."""
        found = self._constraints()
        if len(found) > 1:
            names = " and ".join(found)
            raise Refused(400, f"{names} are given, but an answer is held to one of them")
        return next(iter(found.values()), Constraint())

    def _constraints(self) -> dict[str, Constraint]:
        """Each that is given, by the name of its field."""
        outputs = self.structured_outputs or StructuredOutputs()
        schemas = {
            "json_schema": self.json_schema,
            "guided_json": self.guided_json,
            "structured_outputs.json": outputs.json_,
            "structured_outputs.json_object": {"type": "object"} if outputs.json_object else None,
            "response_format": _schema(self.response_format),
        }
        regexes = {
            "guided_regex": self.guided_regex,
            "guided_choice": _one_of(self.guided_choice),
            "structured_outputs.regex": outputs.regex,
            "structured_outputs.choice": _one_of(outputs.choice),
        }
        grammars = {
            "grammar": self.grammar or None,
            "guided_grammar": self.guided_grammar,
            "structured_outputs.grammar": outputs.grammar,
        }
        return {
            **{n: Constraint(json_schema=s) for n, s in schemas.items() if s is not None},
            **{n: Constraint(regex=r) for n, r in regexes.items() if r is not None},
            **{n: Constraint(grammar=g) for n, g in grammars.items() if g is not None},
        }


def _in_json(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else shown(value)


def _schema(form: ResponseFormat | None) -> dict[str, Any] | bool | None:
    """The schema of a response format; None for plain text."""
    if form is None:
        return None
    if form.type != "json_schema" and form.json_schema is not None:
        raise Refused(400, f"response_format has a json_schema, but is of type {form.type}")
    if form.type != "json_object" and form.schema_ is not None:
        raise Refused(400, f"response_format has a schema, but is of type {form.type}")
    if form.type == "json_object":
        return {"type": "object"} if form.schema_ is None else form.schema_
    if form.type == "json_schema":
        if form.json_schema is None or form.json_schema.schema_ is None:
            raise Refused(400, "response_format.json_schema.schema is missing")
        return form.json_schema.schema_
    return None


def _one_of(choices: list[str] | None) -> str | None:
    return None if choices is None else "|".join(re.escape(choice) for choice in choices)
