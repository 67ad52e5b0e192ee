"""`motet serve` beside llama-server under load: the same requests, one server after the other.

    python -m benchmarks.serving MODEL.gguf --llama-server PATH [--clients 1 8 32] [--rounds 2]

Each client asks for a completion of token ids, streamed and greedy, and for the next one when it
has ended. "unshared": every prompt is another one; "shared": all begin with the same tokens, of
which a first request has warmed the cache. For every load each server runs `--rounds` times, in
turns, in a process of its own that is started anew. Tables go to standard output, as Markdown.
"""

import argparse
import asyncio
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

VOCABULARY = range(1_000, 30_000)
"""Token ids that prompts are made of: plain ones in every vocabulary of the models measured."""


@dataclass(frozen=True)
class Load:
    clients: int
    requests: int
    """Of each client, one after the other."""
    prompt: int
    shared: int
    """Tokens at the beginning of a prompt that are the same in all."""
    answer: int

    def prompts(self, seed: int) -> list[list[list[int]]]:
        """[client][request]: token ids."""
        numbers = random.Random(seed)
        prefix = numbers.choices(VOCABULARY, k=self.shared)
        return [
            [
                prefix + numbers.choices(VOCABULARY, k=self.prompt - self.shared)
                for _ in range(self.requests)
            ]
            for _ in range(self.clients)
        ]


@dataclass
class Times:
    """Of one run, in seconds."""

    whole: float = 0.0
    tokens: int = 0
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)

    def facts(self) -> dict[str, float]:
        return {
            "tokens/s": self.tokens / self.whole,
            "first, median": median(self.first),
            "first, p99": percentile(self.first, 99),
            "between, median": median(self.between),
            "between, p99": percentile(self.between, 99),
            "between, most": max(self.between),
        }


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))]


def command(engine: str, options: argparse.Namespace, load: Load, port: int) -> list[str]:
    context = load.prompt + load.answer + 32
    if engine == "motet":
        return [
            *[sys.executable, "-m", "motet.cli", "serve", str(options.model), "--port", str(port)],
            *["--max-sequences", str(load.clients), "--ctx", str(context)],
            *["--threads", str(options.threads)],
        ]
    return [
        *[str(options.llama_server), "-m", str(options.model), "--port", str(port)],
        *["-np", str(load.clients), "-c", str(load.clients * context)],
        *["-t", str(options.threads), "-tb", str(options.threads), "--no-webui"],
    ]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until a server has loaded its model. Raises SystemExit where it ends instead."""
    while process.poll() is None:
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"the server ended with status {process.returncode}")


@contextmanager
def running(engine: str, options: argparse.Namespace, load: Load) -> Iterator[str]:
    """The address of a server that is ready."""
    port = free_port()
    process = subprocess.Popen(
        command(engine, options, load, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


async def ask(client: httpx.AsyncClient, prompt: list[int], tokens: int, times: Times) -> None:
    """One request; its tokens' times are noted."""
    body = {
        "model": "default",
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began = last = time.perf_counter()
    count = 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        if response.status_code != 200:
            raise SystemExit(f"{response.status_code}: {await response.aread()!r}")
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            times.tokens += (chunk.get("usage") or {}).get("completion_tokens", 0)
            if not any(choice["text"] for choice in chunk["choices"]):
                continue
            now = time.perf_counter()
            (times.between if count else times.first).append(now - last if count else now - began)
            last, count = now, count + 1


async def run(url: str, load: Load, seed: int) -> Times:
    times, prompts = Times(), load.prompts(seed)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=None, limits=limits) as client:
        if load.shared:
            await ask(client, [*prompts[0][0][: load.shared], VOCABULARY[0]], 2, Times())

        async def user(mine: list[list[int]]) -> None:
            for prompt in mine:
                await ask(client, prompt, load.answer, times)

        began = time.perf_counter()
        await asyncio.gather(*(user(mine) for mine in prompts))
        times.whole = time.perf_counter() - began
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--llama-server", type=Path, required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--answer", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    print("| clients | prefix | figure | Motet | llama-server | ratio |\n|---|---|---|---|---|---|")
    for clients in options.clients:
        for shared in (0, options.prompt * 3 // 4):
            load = Load(clients, options.requests, options.prompt, shared, options.answer)
            runs: dict[str, list[dict[str, float]]] = {"motet": [], "llama": []}
            for turn in range(options.rounds):
                for engine in runs if turn % 2 == 0 else reversed(runs):
                    with running(engine, options, load) as url:
                        runs[engine].append(asyncio.run(run(url, load, turn)).facts())
            found.append({"clients": clients, "shared": shared, **runs})
            for name in runs["motet"][0]:
                ours, theirs = ([each[name] for each in runs[engine]] for engine in runs)
                ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
                prefix = f"{shared} shared" if shared else "unshared"
                print(
                    f"| {clients} | {prefix} | {name} | {spread(ours)} | {spread(theirs)} |"
                    f" {ratio:.2f} |",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def spread(values: list[float]) -> str:
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


if __name__ == "__main__":
    main()
