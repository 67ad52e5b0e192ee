"""What HTTP costs: seconds of the event loop's thread for each token of streamed answers.

    python -m benchmarks.http_overhead [MODEL.gguf] [--clients 32] [--tokens 200] [--rounds 3]

The server runs here, clients in another process. Beside it the same answers are streamed to
coroutines of one event loop without HTTP, through AsyncLLM: the difference is what HTTP adds. With
`--profile`, where the time goes.
"""

import argparse
import asyncio
import cProfile
import json
import pstats
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

from motet import LLM, AsyncLLM
from motet.server.run import bound, server_of
from motet.server.service import Served, Service
from motet.server.settings import ServerSettings

TINY = Path(__file__).parents[1] / "src/motet/data/motet-tiny.gguf"
CLIENT = """
import asyncio, json, sys

host, port, path, clients, bodies = sys.argv[1], *sys.argv[2:4], int(sys.argv[4]), sys.stdin.read()


async def ask(body):
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Type: application/json\\r\\n"
    head += f"Content-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n"
    writer.write((head + body).encode())
    answer = await reader.read(-1)
    assert b"[DONE]" in answer, answer[-300:]


async def main():
    await asyncio.gather(*(ask(body) for body in json.loads(bodies)))


asyncio.run(main())
"""


def request(number: int, tokens: int) -> dict[str, Any]:
    return {"prompt": [5 + number, 9, 11], "max_tokens": tokens, "seed": number, "temperature": 2.0}


class Loop:
    """The event loop's thread, and how long it has computed."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def here(self) -> None:
        self._loop = asyncio.get_running_loop()

    def call(self, function: Callable[[], Any]) -> Any:
        """Call it in that thread."""
        done, results = threading.Event(), []
        assert self._loop is not None
        self._loop.call_soon_threadsafe(lambda: (results.append(function()), done.set()))
        done.wait()
        return results[0]


def over_http(llm: LLM, clients: int, tokens: int, path: str, profile: bool) -> list[float]:
    """Seconds: of the loop's thread, and of all."""
    loop = Loop()

    def load() -> list[Served]:
        return [Served("model", AsyncLLM(llm))]

    service = Service(ServerSettings(port=0), load)
    listening = bound(service.settings)
    server = server_of(service)
    begin = service.start

    async def start() -> None:
        loop.here()
        await begin()

    service.start = start  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while service.status == "loading":
        time.sleep(0.01)
    bodies = []
    for number in range(clients):
        body = {**request(number, tokens), "stream": True}
        if path.endswith("chat/completions"):
            body["messages"] = [{"role": "user", "content": f"Say {body.pop('prompt')}"}]
        bodies.append(json.dumps(body))
    port = str(listening.getsockname()[1])
    command = [sys.executable, "-c", CLIENT, "127.0.0.1", port, path, str(clients)]
    profiler = cProfile.Profile() if profile else None
    before = loop.call(time.thread_time)
    if profiler:
        loop.call(profiler.enable)
    begun = time.perf_counter()
    subprocess.run(command, input=json.dumps(bodies), text=True, check=True)
    whole = time.perf_counter() - begun
    if profiler:
        loop.call(profiler.disable)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    after = loop.call(time.thread_time)
    server.should_exit = True
    thread.join()
    return [after - before, whole]


def without_http(llm: LLM, clients: int, tokens: int) -> list[float]:
    """Seconds: of the loop's thread, and of all."""

    async def ask(front: AsyncLLM, number: int) -> None:
        asked = request(number, tokens)
        async for _ in front.generate(asked.pop("prompt"), stream=True, **asked):
            pass

    async def main() -> list[float]:
        front = AsyncLLM(llm)
        before, begun = time.thread_time(), time.perf_counter()
        await asyncio.gather(*(ask(front, number) for number in range(clients)))
        return [time.thread_time() - before, time.perf_counter() - begun]

    return asyncio.run(main())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", default=TINY)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    clients, tokens = options.clients, options.tokens

    def made() -> LLM:
        llm = LLM(options.model, max_sequences=clients)
        assert llm.tokenizer is not None
        llm.tokenizer.eog = frozenset()  # each answer has all its tokens
        template = "{{ messages[0].content }}"
        templates = {"default": llm.tokenizer.chat_template or template}
        llm.tokenizer.chat_templates = MappingProxyType(templates)
        return llm

    ways: dict[str, Callable[[], list[float]]] = {
        "AsyncLLM, without HTTP": lambda: without_http(made(), clients, tokens),
        "/v1/completions": lambda: over_http(
            made(), clients, tokens, "/v1/completions", options.profile
        ),
        "/v1/chat/completions": lambda: over_http(
            made(), clients, tokens, "/v1/chat/completions", options.profile
        ),
    }
    measured: dict[str, list[list[float]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            measured[name].append(way())
    print(f"{clients} streams of {tokens} tokens; median of {options.rounds} (least to greatest)\n")
    print("| | loop's thread, µs a token | tokens/s in all |\n|---|---|---|")
    for name, rounds in measured.items():
        cost = sorted(loop / clients / tokens * 1e6 for loop, _ in rounds)
        speed = median(clients * tokens / whole for _, whole in rounds)
        print(f"| {name} | {median(cost):.1f} ({cost[0]:.1f} to {cost[-1]:.1f}) | {speed:.0f} |")


if __name__ == "__main__":
    main()
