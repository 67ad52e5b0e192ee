"""The fields of requests that say how tokens are chosen, as all APIs have them."""

from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from motet import checks
from motet.sampling import SamplingFields
from motet.server.failures import Refused

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


_ORDER = {
    "penalties": {"repeat_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0},
    "dry": {},
    "top_n_sigma": {},
    "top_k": {"top_k": 0},
    "typ_p": {"typical_p": 1.0},
    "top_p": {"top_p": 1.0},
    "min_p": {"min_p": 0.0},
    "xtc": {},
    "temperature": {"temperature": 1.0},
}
"""Samplers in the order in which they work, and what switches each off."""


def left_out(samplers: list[str] | None) -> dict[str, Any]:
    """What switches off the samplers that a request does not name. Raises Refused for an order
    that Motet does not have."""
    if samplers is None:
        return {}
    known = list(_ORDER)
    names = ["typ_p" if name == "typical_p" else name for name in samplers]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Refused(
            400, f"samplers: there is no {checks.shown(unknown[0])} in Motet", param="samplers"
        )
    if sorted(set(names), key=known.index) != names:
        raise Refused(
            400, f"samplers: they work in this order: {', '.join(known)}", param="samplers"
        )
    return {
        field: value
        for name, fields in _ORDER.items()
        if name not in names
        for field, value in fields.items()
    }
