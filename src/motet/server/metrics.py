"""What Prometheus collects, under the names of llama-server and of vLLM."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from motet.engine import Completion

if TYPE_CHECKING:
    from motet.server.service import Service

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)

_LONGEST = b"""# HELP llamacpp:n_tokens_max Tokens of the longest sequence, its answer included.
# TYPE llamacpp:n_tokens_max counter
llamacpp:n_tokens_max %d
"""
"""By llama-server's name: the library's counters all end in _total."""


class Metrics:
    """Of one service. Each has a registry of its own."""

    def __init__(self, service: "Service") -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Engine(service))

        def histogram(name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(name, text, buckets=buckets, registry=self._registry)

        self._first = histogram("vllm:time_to_first_token_seconds", "Until the first token.")
        self._between = histogram(
            "vllm:request_time_per_output_token_seconds",
            "Between two tokens, of an answer the mean.",
        )
        self._prefill = histogram("vllm:request_prefill_time_seconds", "Of the prompt.")
        self._decode = histogram("vllm:request_decode_time_seconds", "After the first token.")
        self._whole = histogram("vllm:e2e_request_latency_seconds", "Of a whole answer.")
        self._queued = histogram("vllm:request_queue_time_seconds", "Until a sequence was free.")
        self._prompt = histogram("vllm:request_prompt_tokens", "Of an answer's prompt.", _TOKENS)
        self._answer = histogram("vllm:request_generation_tokens", "Of an answer.", _TOKENS)
        self._done = Counter(
            "vllm:request_success", "Answers.", ("finished_reason",), registry=self._registry
        )
        self._longest = 0
        self._http = Counter(
            "motet:http_requests", "Requests.", ("path", "status"), registry=self._registry
        )

    def observe(self, completion: Completion) -> None:
        """An answer has ended."""
        timings = completion.timings
        self._first.observe(timings.time_to_first_token)
        self._whole.observe(timings.total)
        self._queued.observe(timings.waiting)
        self._prefill.observe(timings.time_to_first_token - timings.waiting)
        self._decode.observe(timings.total - timings.time_to_first_token)
        if timings.completion_tokens > 1:
            seconds = timings.total - timings.time_to_first_token
            self._between.observe(seconds / (timings.completion_tokens - 1))
        usage = completion.usage
        self._longest = max(self._longest, usage.prompt_tokens + usage.completion_tokens)
        self._prompt.observe(usage.prompt_tokens)
        self._answer.observe(usage.completion_tokens)
        self._done.labels(completion.finish_reason).inc()

    def responded(self, path: str, status: int) -> None:
        """A request was answered; ``path``: the endpoint's, never what a client made up."""
        self._http.labels(path, status).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry) + _LONGEST % self._longest


class _Engine(Collector):
    """What the engine of the model counts that clients mean by default."""

    def __init__(self, service: "Service") -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        if not self._service.models:
            return
        load = self._service.models[0].llm.load()
        done = load.total
        prompts = done.prompt_tokens + done.vector_tokens
        for name, text, value in (
            ("llamacpp:prompt_tokens", "Prompt tokens computed.", prompts),
            ("llamacpp:prompt_tokens_cached", "Prompt tokens found.", done.cached_tokens),
            ("vllm:prompt_tokens", "Prompt tokens computed.", prompts),
            ("llamacpp:prompt_seconds", "Seconds of prefill.", done.prompt_seconds),
            ("llamacpp:tokens_predicted", "Tokens generated.", done.generated_tokens),
            ("vllm:generation_tokens", "Tokens generated.", done.generated_tokens),
            ("llamacpp:tokens_predicted_seconds", "Seconds of decoding.", done.generation_seconds),
            ("llamacpp:n_decode", "Steps.", done.steps + done.vector_steps),
            ("llamacpp:spec_decode_num_draft_tokens", "Tokens proposed.", done.proposed_tokens),
            ("vllm:spec_decode_num_draft_tokens", "Tokens proposed.", done.proposed_tokens),
            ("llamacpp:spec_decode_num_accepted_tokens", "Of them chosen.", done.accepted_tokens),
            ("vllm:spec_decode_num_accepted_tokens", "Of them chosen.", done.accepted_tokens),
            ("llamacpp:spec_decode_num_drafts", "Proposals.", done.proposals),
            ("vllm:spec_decode_num_drafts", "Proposals.", done.proposals),
            ("vllm:prefix_cache_queries", "Prompt tokens looked up.", done.prefix_queries),
            ("vllm:prefix_cache_hits", "Prompt tokens found.", done.cached_tokens),
            ("vllm:num_preemptions", "Requests preempted.", done.preemptions),
            ("motet:requests_refused", "Refused because too much waited.", done.refused),
            ("motet:requests_timed_out", "Ended by their time-out.", done.timed_out),
        ):
            yield CounterMetricFamily(name, text, value)
        share = load.kv_bytes_used / max(load.kv_bytes, 1)
        busy = done.busy_sequences / max(done.steps, 1)
        prefill = done.prompt_tokens / max(done.prompt_seconds, 1e-9)
        predict = done.generated_tokens / max(done.generation_seconds, 1e-9)
        for name, text, value in (
            ("llamacpp:prompt_tokens_seconds", "Prompt tokens a second.", prefill),
            ("llamacpp:predicted_tokens_seconds", "Generated tokens a second.", predict),
            ("llamacpp:requests_processing", "Requests running.", load.running),
            ("vllm:num_requests_running", "Requests running.", load.running),
            ("llamacpp:requests_deferred", "Requests waiting.", load.waiting),
            ("vllm:num_requests_waiting", "Requests waiting.", load.waiting),
            ("llamacpp:kv_cache_usage_ratio", "Bytes used of those allowed.", share),
            ("vllm:kv_cache_usage_perc", "Bytes used of those allowed.", share),
            ("llamacpp:n_busy_slots_per_decode", "Sequences in a step, on average.", busy),
            ("motet:kv_bytes_used", "Bytes of caches.", load.kv_bytes_used),
            ("motet:kv_bytes_allowed", "Bytes that caches may take.", load.kv_bytes),
        ):
            yield GaugeMetricFamily(name, text, value)
