"""Time between tokens of those who write while a long prompt comes in, for several step_seconds.

    python benchmarks/under_load.py gemma2-2b-q4_0.gguf --step-seconds 0.1 0.25 0.5 1e9

The last one, where a step may take any time, is what happens without a bound: prompts get the whole
micro-batch.
"""

import argparse
import random
import statistics
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from motet import LLM, Model, Sampling, Stream


@dataclass
class Run:
    """What was measured with one setting."""

    gaps: list[float] = field(default_factory=list)
    """Seconds between two tokens of a writer, while the prompt was computed."""
    alone: list[float] = field(default_factory=list)
    """Those before."""
    first_token: float = 0.0
    """Seconds until the prompt's first token."""
    tokens: int = 0
    """Computed in these seconds, by everybody."""


def measure(model: Model, writers: int, length: int, step_seconds: float) -> Run:
    """Let some write, and a prompt of so many random tokens come in meanwhile."""
    rng, run, long_began = random.Random(1), Run(), threading.Event()
    size = model.config.n_vocab
    never = dict.fromkeys(model.tokenizer.eog, -np.inf) if model.tokenizer else {}
    sampling = Sampling(temperature=0, logit_bias=never)

    def prompt(count: int) -> list[int]:
        return [rng.randrange(5, size) for _ in range(count)]

    with LLM(model, max_sequences=writers + 1, step_seconds=step_seconds) as llm:
        streams = [
            llm.generate(prompt(20), sampling, max_tokens=2000, stream=True) for _ in range(writers)
        ]
        written = [threading.Semaphore(0) for _ in streams]

        def read(stream: Stream, each: threading.Semaphore) -> None:
            last = None
            for _ in stream:
                now = time.perf_counter()
                if last is not None:
                    (run.gaps if long_began.is_set() else run.alone).append(now - last)
                last = now
                each.release()

        threads = [
            threading.Thread(target=read, args=pair) for pair in zip(streams, written, strict=True)
        ]
        for thread in threads:
            thread.start()
        for each in written:
            for _ in range(15):
                each.acquire()
        before = llm.load().total
        long_began.set()
        began = time.perf_counter()
        with llm.generate(prompt(length), sampling, max_tokens=4, stream=True) as stream:
            next(stream)
            run.first_token = time.perf_counter() - began
        after = llm.load().total
        run.tokens = after.prompt_tokens + after.generated_tokens
        run.tokens -= before.prompt_tokens + before.generated_tokens
        for each in streams:
            each.close()
        for thread in threads:
            thread.join()
    return run


def main() -> None:
    """Measure each setting, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=2000, help="tokens of the prompt")
    parser.add_argument("--step-seconds", type=float, nargs="+", default=[0.1, 0.25, 0.5, 1e9])
    options = parser.parse_args()
    model = Model.load(options.model)
    print(f"{options.writers} writers, a prompt of {options.prompt} tokens")
    print("| step_seconds | alone | median | p99 | greatest | first token | tokens/s |")
    print("|---|---|---|---|---|---|---|")
    for seconds in options.step_seconds:
        run = measure(model, options.writers, options.prompt, seconds)
        print(
            f"| {seconds:g} | {statistics.median(run.alone):.3f} | {np.median(run.gaps):.3f} |"
            f" {np.quantile(run.gaps, 0.99):.3f} | {max(run.gaps):.3f} | {run.first_token:.1f} |"
            f" {run.tokens / run.first_token:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
