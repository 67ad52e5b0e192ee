"""A server under mixed load for minutes: answers are what they are alone, and nothing is left.

    python -m benchmarks.soak MODEL.gguf… [--minutes 10] [--clients 64]

For each model a server is started with few sequences and little memory. Every kind of request
(completions with and without log probabilities, chats, streams, several answers, JSON schemas,
conversations) is asked alone first, several times over with other seeds. Then clients ask them in
any order, all at once, beside some who vanish, read slowly, send nonsense, ten megabytes or
thousands of tiny requests. What an answer says has to be what it said alone; the only refusal is
429. At the end nothing runs or waits, and the process is no larger than after the first minute.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving import free_port, wait_until_ready

Body = dict[str, Any]

STORY = "once upon a time a girl who had a red ball ran to the big tree in the park and said hello"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def kinds(numbers: random.Random, n_vocab: int, texts: bool, chats: bool) -> list[tuple[str, Body]]:
    """A request of each kind, with a prompt and seed of its own.

    ``texts``: whether the model has a vocabulary; token ids are prompts where it has none.
    """

    def text(most: int) -> str | list[int]:
        count = numbers.randint(1, most)
        if texts:
            return " ".join(numbers.choices(STORY.split(), k=count))
        return numbers.choices(range(n_vocab), k=count)

    def sampled(**rest: Any) -> Body:
        return {"model": "any", "seed": numbers.randrange(1 << 30), "temperature": 1.0, **rest}

    found = [
        ("/v1/completions", sampled(prompt=text(40), max_tokens=24)),
        ("/v1/completions", sampled(prompt=text(100), max_tokens=8, logprobs=3)),
        ("/v1/completions", sampled(prompt=text(20), max_tokens=12, n=3)),
        ("/v1/completions", sampled(prompt=text(90), max_tokens=1)),
        ("/v1/completions", sampled(prompt=text(60), max_tokens=4, echo=True, logprobs=1)),
        ("/v1/completions", sampled(prompt=[text(9), text(9)], max_tokens=9, temperature=0)),
    ]
    if texts:
        ended = sampled(prompt=text(30), max_tokens=40, stop=["the", "a "])
        found.append(("/v1/completions", ended))
    if chats:
        schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
        said = [{"role": "user", "content": text(30)}]
        found += [
            ("/v1/chat/completions", sampled(messages=said, max_tokens=24)),
            ("/v1/chat/completions", sampled(messages=said, max_tokens=64, response_format=schema)),
        ]
    return found


def essence(answer: Body) -> Any:
    """What must not depend on others: all but ids, times and what came from the cache."""
    choices = answer["choices"]
    usage = answer["usage"]
    return json.dumps([choices, usage["prompt_tokens"], usage["completion_tokens"]])


class Soak:
    """The clients of one server."""

    def __init__(self, url: str, requests: list[tuple[str, Body]], seed: int) -> None:
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._url = url
        self._requests = requests
        self._numbers = random.Random(seed)
        self._alone: list[Any] = []

    async def ask_alone(self) -> None:
        """What each request is answered when nothing else is asked."""
        async with self._client() as client:
            for path, body in self._requests:
                response = await client.post(path, json=body)
                if "encoder-decoder" in response.text and body.get("echo"):
                    response = await client.post(path, json={**body, "echo": False})
                    body["echo"] = False  # whose answers do not go on from the prompt
                if response.status_code != 200:
                    raise SystemExit(f"{path} {body}: {response.status_code} {response.text}")
                self._alone.append(essence(response.json()))

    async def run(self, clients: int, seconds: float) -> None:
        """All clients at once, until time is up."""
        end = time.monotonic() + seconds
        users = [self._user, self._user, self._user, self._streaming, self._vanishing]
        others = [self._slow, self._nonsense, self._large, self._tiny]
        chosen = [others[i] if i < len(others) else users[i % len(users)] for i in range(clients)]
        await asyncio.gather(*(self._until(end, each) for each in chosen))

    async def _until(self, end: float, user: Any) -> None:
        async with self._client() as client:
            while time.monotonic() < end:
                try:
                    await user(client)
                except httpx.TransportError as error:
                    self.wrong.append(f"{user.__name__}: {error!r}")
                    await asyncio.sleep(1)

    async def _user(self, client: httpx.AsyncClient) -> None:
        number = self._numbers.randrange(len(self._requests))
        path, body = self._requests[number]
        response = await client.post(path, json=body)
        if self._refused(response.status_code):
            await asyncio.sleep(self._numbers.random())
            return
        if response.status_code != 200:
            self.wrong.append(f"{path}: {response.status_code} {response.text[:200]}")
        elif essence(response.json()) != self._alone[number]:
            self.wrong.append(f"{path} {body}: {response.text[:400]} not {self._alone[number]}")
        else:
            self.seen["equal"] += 1

    async def _streaming(self, client: httpx.AsyncClient) -> None:
        """The texts of a stream together are the text that came alone."""
        number = self._numbers.randrange(len(self._requests))
        path, body = self._requests[number]
        if body.get("echo"):  # a scored prompt is not streamed
            return
        texts: dict[int, str] = {}
        async with self._stream(client, path, body) as response:
            if self._refused(response.status_code):
                return
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    for choice in json.loads(line[6:]).get("choices", []):
                        said = choice.get("text") or choice.get("delta", {}).get("content") or ""
                        texts[choice["index"]] = texts.get(choice["index"], "") + said
        for choice in json.loads(self._alone[number])[0]:
            said = choice["text"] if "text" in choice else choice["message"]["content"]
            if texts.get(choice["index"], "") != said:
                self.wrong.append(f"stream {path} {body}: {texts} not {said!r}")
                return
        self.seen["equal stream"] += 1

    async def _vanishing(self, client: httpx.AsyncClient) -> None:
        path, body = self._numbers.choice(self._requests)
        async with self._stream(client, path, body) as response:
            async for _ in response.aiter_lines():
                if self._numbers.random() < 0.3:
                    break
        try:
            await client.post(path, json=body, timeout=self._numbers.random() * 0.2)
        except httpx.TimeoutException:
            self.seen["vanished"] += 1

    async def _slow(self, client: httpx.AsyncClient) -> None:
        path, body = self._numbers.choice(self._requests)
        async with self._stream(client, path, body) as response:
            async for _ in response.aiter_lines():
                await asyncio.sleep(0.1)
        self.seen["slow"] += 1

    async def _nonsense(self, client: httpx.AsyncClient) -> None:
        path, body = self._numbers.choice(self._requests)
        text = json.dumps(body)
        cut = self._numbers.randrange(1, len(text))
        content = self._numbers.choice(
            [text[:cut], text[cut:], "[" * 100_000, '{"a":' * 50_000, "\x00"]
        )
        response = await client.post(
            path, content=content, headers={"content-type": "application/json"}
        )
        if not self._refused(response.status_code) and response.status_code not in (400, 413):
            self.wrong.append(f"nonsense {content[:80]!r}: {response.status_code}")
        self.seen["nonsense"] += 1

    async def _large(self, client: httpx.AsyncClient) -> None:
        body = {"model": "any", "prompt": "word " * 2_000_000, "max_tokens": 1}
        response = await client.post("/v1/completions", json=body)
        if response.status_code not in (400, 413, 429):
            self.wrong.append(f"10 MB: {response.status_code} {response.text[:200]}")
        self.seen["large"] += 1
        await asyncio.sleep(2)

    async def _tiny(self, client: httpx.AsyncClient) -> None:
        body = {"model": "any", "prompt": "a", "max_tokens": 1, "temperature": 0}
        for _ in range(100):
            response = await client.post("/v1/completions", json=body)
            if response.status_code not in (200, 429):
                self.wrong.append(f"tiny: {response.status_code} {response.text[:200]}")
            self.seen["tiny"] += 1

    def _refused(self, status: int) -> bool:
        self.seen["429"] += status == 429
        return status == 429

    @asynccontextmanager
    async def _stream(
        self, client: httpx.AsyncClient, path: str, body: Body
    ) -> AsyncIterator[httpx.Response]:
        async with client.stream("POST", path, json={**body, "stream": True}) as response:
            yield response

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=self._url, timeout=None, limits=limits)


def resident(process: subprocess.Popen[bytes]) -> int:
    """Bytes of the process's own memory."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if "RssAnon" in line) << 10


def gauges(url: str) -> dict[str, float]:
    """Of /metrics, those without labels."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    pairs = (line.split() for line in lines if line[:1] not in ("#", "") and "{" not in line)
    return {name: float(value) for name, value in pairs}


def soak(model: str, options: argparse.Namespace) -> bool:
    port = free_port()
    process = subprocess.Popen(
        [
            *[sys.executable, "-m", "motet.cli", "serve", model, "--port", str(port)],
            *["--max-sequences", "8", "--max-waiting", str(options.clients), "--timeout", "300"],
            *(["--kv-bytes", options.kv_bytes] if options.kv_bytes else []),
        ],
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process)
        numbers = random.Random(options.seed)
        n_vocab = httpx.get(f"{url}/v1/models").json()["data"][0]["meta"]["n_vocab"]
        one = {"model": "any", "max_tokens": 1}
        said = {**one, "messages": [{"role": "user", "content": "a"}]}
        texts = httpx.post(f"{url}/v1/completions", json={**one, "prompt": "a"})
        chats = httpx.post(f"{url}/v1/chat/completions", json=said)
        able = texts.status_code == 200, chats.status_code == 200
        requests = [each for _ in range(8) for each in kinds(numbers, n_vocab, *able)]
        clients = Soak(url, requests, options.seed)
        asyncio.run(clients.ask_alone())
        asyncio.run(clients.run(options.clients, options.minutes * 6))
        early = resident(process)
        asyncio.run(clients.run(options.clients, options.minutes * 54))
        time.sleep(2)
        late, after = resident(process), gauges(url)
        left = after["vllm:num_requests_running"] + after["vllm:num_requests_waiting"]
        path = Path(model)
        print(
            f"{path.parent.name}/{path.name}: {dict(clients.seen)}; {len(clients.wrong)} wrong;"
            f" memory {early >> 20} MB after a tenth, {late >> 20} MB at the end;"
            f" {left:.0f} requests left; {after['vllm:num_preemptions_total']:.0f} preempted",
            flush=True,
        )
        for each in clients.wrong[:5]:
            print("  ", each, flush=True)
        return not clients.wrong and not left
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--kv-bytes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = [soak(model, options) for model in options.models]
    raise SystemExit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
