"""From a row of logits to a token: penalties and bias, a chain of truncations, one draw."""

from motet.sampling.logprobs import TokenLogprob, token_logprob, token_logprobs
from motet.sampling.options import Sampling, SamplingFields
from motet.sampling.sampler import Sampler, chain
from motet.sampling.steps import Candidates
from motet.sampling.stop import StopStrings

__all__ = [
    "Candidates",
    "Sampler",
    "Sampling",
    "SamplingFields",
    "StopStrings",
    "TokenLogprob",
    "chain",
    "token_logprob",
    "token_logprobs",
]
