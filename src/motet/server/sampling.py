"""The fields of requests that say how tokens are chosen, as all APIs have them."""

from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from motet.sampling import SamplingFields

_MOST_FIELDS = 256
MOST_BIASES = 100_000
"""Tokens that logit_bias may name."""


class Asked(BaseModel):
    """A request's body: fields that nobody declared are refused by name.

    A field that is null asks for nothing: clients write what they leave out like that.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _given(cls, body: Any) -> Any:
        """Refuse a great number of fields at once: each would be named."""
        if not isinstance(body, dict):
            return body
        fields = cast(dict[str, Any], body)
        if len(fields) > _MOST_FIELDS:
            raise ValueError(f"there are more than {_MOST_FIELDS} fields")
        return {name: value for name, value in fields.items() if value is not None}


class SamplingBody(Asked):
    """Fields of ``motet.Sampling``, under the names that clients have for them.

    What is not given is as the model's file recommends.
    """

    temperature: Annotated[float | None, Field(ge=0)] = None
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    top_k: int | None = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    typical_p: Annotated[float | None, Field(ge=0, le=1)] = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repeat_penalty: Annotated[float | None, Field(gt=0)] = None
    repetition_penalty: Annotated[
        float | None, Field(gt=0, description="vLLM's name for repeat_penalty.")
    ] = None
    repeat_last_n: int | None = None
    seed: Annotated[int | None, Field(description="Below 0, or null: any.")] = None
    logit_bias: Annotated[dict[int, float], Field(max_length=MOST_BIASES)] | None = None

    def sampling(self) -> SamplingFields:
        """The fields that are given. Raises ValueError for two that contradict each other."""
        given: dict[str, Any] = {
            name: value
            for name in SamplingFields.__annotations__
            if (value := getattr(self, name, None)) is not None
        }
        if self.repetition_penalty is not None:
            given.setdefault("repeat_penalty", self.repetition_penalty)
        if "top_k" in given:
            given["top_k"] = max(given["top_k"], 0)  # -1 and 0: all of them
        if given.get("seed", 0) < 0:
            del given["seed"]
        return SamplingFields(**given)
