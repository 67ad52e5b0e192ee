"""Turns of a conversation: how much of each prompt `motet serve` and llama-server compute again.

    python -m benchmarks.turns MODEL.gguf --llama-server PATH [--turns 8]

Each turn's prompt is all that was said before, the model's own answer and a new line; then the turn
is taken again with another line, with which the conversation goes on. Shown are the tokens that a
prompt shares with what was said before, those that a server says it did not compute, and whether
the greedy answer is the one that it gives with an empty cache. Before every prompt another one is
answered, which begins otherwise.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from benchmarks.serving import free_port, wait_until_ready

OPENING = "Once upon a time there was a girl who had a red ball. "
LINES = ("She ran to the tree. ", "Then a dog came. ", "They sat in the sun. ", "It was late. ")
OTHER = "The big cat said hello to the bird. "


class Server:
    def __init__(self, command: list[str], port: int, fresh: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None)
        wait_until_ready(str(self._client.base_url).rstrip("/"), self.process)
        self.fresh = fresh

    def ask(self, prompt: str, tokens: int, **rest: Any) -> dict[str, Any]:
        body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "model": "any", **rest}
        response = self._client.post("/v1/completions", json=body)
        if response.status_code != 200:
            raise SystemExit(f"{response.status_code}: {response.text}")
        return response.json()

    def close(self) -> None:
        self._client.close()
        self.process.terminate()
        self.process.wait()


def start(engine: str, options: argparse.Namespace, reuse: bool) -> Server:
    port = free_port()
    if engine == "Motet":
        command = [sys.executable, "-m", "motet.cli", "serve", str(options.model)]
        command += ["--port", str(port), "--max-sequences", "4" if reuse else "1"]
        return Server(command, port, {})
    command = [str(options.llama_server), "-m", str(options.model), "--port", str(port)]
    return Server([*command, "-np", "4", "-c", "2048", "--no-webui"], port, {"cache_prompt": False})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--llama-server", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=8)
    options = parser.parse_args()
    print(
        "| | turn | prompt | shared | not computed | as with an empty cache |\n"
        "|---|---|---|---|---|---|"
    )
    for engine in ("Motet", "llama-server"):
        server, alone = start(engine, options, True), start(engine, options, False)
        said, before = OPENING, 0
        try:
            for turn in range(options.turns):
                for retry in (False, True):
                    line = LINES[(turn + retry) % len(LINES)]
                    server.ask(OTHER + str(turn), 2)
                    answer = server.ask(said + line, 8)
                    alone.ask(OTHER * 2, 1)
                    fresh = alone.ask(said + line, 8, **alone.fresh)
                    usage = answer["usage"]
                    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
                    same = answer["choices"][0]["text"] == fresh["choices"][0]["text"]
                    print(
                        f"| {engine} | {turn}{', other line' * retry} | {usage['prompt_tokens']} |"
                        f" {before} | {cached} | {'yes' if same else 'no'} |",
                        flush=True,
                    )
                before = usage["prompt_tokens"] + usage["completion_tokens"] - 1
                said += line + answer["choices"][0]["text"]
        finally:
            server.close()
            alone.close()


if __name__ == "__main__":
    main()
