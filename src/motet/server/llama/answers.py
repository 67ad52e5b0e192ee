"""Answers of /completion as llama-server's clients read them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from motet.engine import Chunk, Completion
from motet.sampling import Candidates, Sampling, TokenLogprob, chain
from motet.server.llama.fields import CompletionBody
from motet.server.llama.prompts import raw_text
from motet.server.service import Served
from motet.server.timings import timings_of
from motet.tokenizer import Tokenizer

_LEAST = -float(np.finfo(np.float32).max)
"""For the logarithm of 0, which JSON lacks."""


@dataclass(frozen=True)
class Form:
    """What the answers to one request say, beside what was generated."""

    served: Served
    tokenizer: Tokenizer
    body: CompletionBody
    prompts: Sequence[Sequence[int]]
    sampling: Sampling
    max_tokens: int | None
    """Of an answer, as the request or the server says; the context's length where it is -1."""

    def final(self, completion: Completion, *, streamed: bool) -> dict[str, Any]:
        """A whole answer; ``streamed``: its text was sent already."""
        body, text = self.body, completion.text
        ids = self.prompts[completion.index // body.n_cmpl]
        tokens = completion.tokens
        answer: dict[str, Any] = {
            "index": completion.index,
            "content": "" if streamed else text,
            "tokens": list(tokens) if body.return_tokens and not streamed else [],
            "id_slot": body.id_slot,
            "stop": True,
            "model": self.served.name,
            "tokens_predicted": len(tokens),
            "tokens_evaluated": len(ids),
            "generation_settings": settings(self.sampling, self.max_tokens, body, completion.seed),
            "prompt": raw_text(ids, self.tokenizer),
            "has_new_line": "\n" in text,
            "truncated": self._filled(completion),
            "stop_type": self._ended_by(completion),
            "stopping_word": completion.stop or "",
            "tokens_cached": completion.usage.cached_tokens,
            "timings": timings_of(completion),
        }
        if body.n_probs and not streamed:
            answer["completion_probabilities"] = self._probabilities(completion.logprobs or ())
        return answer if not body.response_fields else _picked(answer, body.response_fields)

    def pieces(self, chunk: Chunk, so_far: int) -> Iterator[dict[str, Any]]:
        """What a chunk adds to a streamed answer, which then has ``so_far`` tokens."""
        ended = chunk.completion is not None and chunk.tokens and self._ends(chunk.tokens[-1])
        if chunk.tokens and (chunk.text or not ended):
            piece: dict[str, Any] = {
                "index": chunk.index,
                "content": chunk.text,
                "tokens": list(chunk.tokens),
                "stop": False,
                "id_slot": self.body.id_slot,
                "tokens_predicted": so_far,
                "tokens_evaluated": len(self.prompts[chunk.index // self.body.n_cmpl]),
            }
            if self.body.n_probs:
                piece["completion_probabilities"] = self._probabilities(chunk.logprobs or ())
            yield piece
        if chunk.completion is not None:
            yield self.final(chunk.completion, streamed=True)

    def _ends(self, token: int) -> bool:
        return token in self.tokenizer.eog

    def _filled(self, completion: Completion) -> bool:
        """Whether the context's end is what ended it."""
        count = len(completion.tokens)
        full = completion.usage.prompt_tokens + count >= self.served.context_length
        wanted = self.max_tokens is not None and count >= self.max_tokens
        return completion.finish_reason == "length" and full and not wanted

    def _ended_by(self, completion: Completion) -> str:
        if completion.stop is not None:
            return "word"
        return "limit" if completion.finish_reason == "length" else "eos"

    def _probabilities(self, rows: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
        if self.body.post_sampling_probs:
            return [self._sampled(row) for row in rows]
        return [
            {
                **self._token(row.token),
                "logprob": max(row.logprob, _LEAST),
                "top_logprobs": [
                    {**self._token(token), "logprob": max(logprob, _LEAST)}
                    for token, logprob in row.top
                ],
            }
            for row in rows
        ]

    def _sampled(self, row: TokenLogprob) -> dict[str, Any]:
        """Probabilities of what was drawn from, which the most probable tokens tell: whatever
        comes after top_k looks at differences of logits alone."""
        shares = shares_of(row, self.sampling, self.tokenizer)
        return {
            **self._token(row.token),
            "prob": shares.get(row.token, 0.0),
            "top_probs": [
                {**self._token(token), "prob": share}
                for token, share in list(shares.items())[: self.body.n_probs]
            ],
        }

    def _token(self, token: int) -> dict[str, Any]:
        piece = self.tokenizer.piece(token)
        return {"id": token, "token": piece.decode("utf-8", "ignore"), "bytes": list(piece)}


def shares_of(row: TokenLogprob, sampling: Sampling, tokenizer: Tokenizer) -> dict[int, float]:
    """The probability of each token that could be drawn, most probable first."""
    usable = [(token, value) for token, value in row.top if token not in tokenizer.suppressed]
    if sampling.temperature == 0:
        return {token: 1.0 for token, _ in usable[:1]}
    ids = np.array([token for token, _ in usable], np.int64)
    candidates = Candidates(ids, np.array([value for _, value in usable], np.float64))
    for step in chain(sampling):
        candidates = step(candidates)
    weights = candidates.weights()
    shares = dict(zip(candidates.ids.tolist(), (weights / weights.sum()).tolist(), strict=True))
    return {
        token: shares[token]
        for token in sorted(shares, key=lambda t: (-shares[t], t))
        if shares[token]
    }


def settings(
    sampling: Sampling, max_tokens: int | None, body: CompletionBody, seed: int | None
) -> dict[str, Any]:
    """How an answer was generated: what was asked, and what else counts."""
    limit = -1 if max_tokens is None else max_tokens
    return {
        "seed": sampling.seed if sampling.seed is not None else -1 if seed is None else seed,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "typical_p": sampling.typical_p,
        "repeat_last_n": sampling.repeat_last_n,
        "repeat_penalty": sampling.repeat_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        **_SWITCHED_OFF,
        "stop": body.stops,
        "max_tokens": limit,
        "n_predict": limit,
        "n_keep": 0,
        "n_discard": 0,
        "ignore_eos": body.ignore_eos,
        "stream": body.stream,
        "logit_bias": [
            {"token": token, "bias": value if math.isfinite(value) else None}
            for token, value in sampling.logit_bias.items()
        ],
        "n_probs": body.n_probs,
        "min_keep": 0,
        "grammar": body.grammar or "",
        "samplers": ["penalties", "top_k", "typ_p", "top_p", "min_p", "temperature"],
        "timings_per_token": body.timings_per_token,
        "post_sampling_probs": body.post_sampling_probs,
        "lora": [],
    }


_SWITCHED_OFF = {
    "dynatemp_range": 0.0,
    "dynatemp_exponent": 1.0,
    "top_n_sigma": -1.0,
    "xtc_probability": 0.0,
    "xtc_threshold": 0.1,
    "dry_multiplier": 0.0,
    "mirostat": 0,
    "adaptive_target": -1.0,
    "adaptive_decay": 0.9,
}
"""Of samplers that Motet does not have."""


def _picked(answer: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The fields that are named, as in generation_settings/seed; those that aren't there aren't."""
    found: dict[str, Any] = {}
    for field in fields:
        value: Any = answer
        for part in field.split("/"):
            value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
        if value is not _MISSING:
            found[field] = value
    return found


_MISSING = object()
