"""The sampling that a model's file recommends."""

import logging
from collections.abc import Mapping
from typing import Any

from motet.errors import OptionError, shown
from motet.sampling.options import Sampling, SamplingFields

_PREFIX = "general.sampling."
FIELDS = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repeat_penalty",
    "penalty_last_n": "repeat_last_n",
}
"""Keys of GGUF, and what they are called here."""
_log = logging.getLogger("motet")


def recommended(metadata: Mapping[str, Any]) -> Sampling:
    """``Sampling()`` with what the ``general.sampling.*`` keys say.

    What asks for a way of sampling that Motet does not have, or makes no sense, is left out with a
    note in the log: it is advice.
    """
    given: SamplingFields = {}
    for key, value in metadata.items():
        if not key.startswith(_PREFIX):
            continue
        field = FIELDS.get(key.removeprefix(_PREFIX))
        if field is None:
            _log.info("%s is %s: Motet does not sample so", key, shown(value))
            continue
        try:
            Sampling(**{field: value})
        except OptionError as error:
            _log.warning("%s is not used: %s", key, error.message)
            continue
        given[field] = value
    return Sampling(**given)
