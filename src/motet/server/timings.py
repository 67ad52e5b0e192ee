"""How long an answer took, in llama-server's form."""

from motet.engine import Completion


def timings(
    cached: int, computed: int, prompt_seconds: float, predicted: int, predicted_seconds: float
) -> dict[str, float]:
    """Of ``computed`` tokens of the prompt, beside the ``cached`` ones, and ``predicted`` ones.

    ``predicted_seconds``: since the first token, which the prompt's computation gave.
    """
    after_first = max(predicted - 1, 0)
    return {
        "cache_n": cached,
        "prompt_n": computed,
        "prompt_ms": prompt_seconds * 1e3,
        "prompt_per_token_ms": prompt_seconds * 1e3 / max(computed, 1),
        "prompt_per_second": computed / prompt_seconds if prompt_seconds > 0 else 0.0,
        "predicted_n": predicted,
        "predicted_ms": predicted_seconds * 1e3,
        "predicted_per_token_ms": predicted_seconds * 1e3 / max(after_first, 1),
        "predicted_per_second": after_first / predicted_seconds if predicted_seconds > 0 else 0.0,
    }


def timings_of(completion: Completion) -> dict[str, float]:
    """Of an answer that has ended."""
    times, usage = completion.timings, completion.usage
    found = timings(
        usage.cached_tokens,
        times.computed_tokens,
        times.time_to_first_token - times.waiting,
        times.completion_tokens,
        times.total - times.time_to_first_token if times.completion_tokens > 1 else 0.0,
    )
    if usage.proposed_tokens:
        found |= {"draft_n": usage.proposed_tokens, "draft_n_accepted": usage.accepted_tokens}
    return found
