"""How much of a chat is computed again, turn by turn and after edits: Motet and llama-server.

    PYTHONPATH=src python -m benchmarks.prefix_reuse MODEL.gguf … [--server PATH/llama-server]

Both servers are asked the same prompts, one after the other, in one slot: three turns, the last
answer once more, another third question, another second one, another first one, and the whole chat
as it was. Prompts are texts at /v1/completions, with a fixed answer in each turn, so that both see
the same tokens whatever their models say. For each: the prompt's tokens, how many of them it has in
common with an earlier prompt, how many each server says it did not compute
(``usage.prompt_tokens_details.cached_tokens``), and whether its answer is that of a server which
saw nothing before.
"""

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

SYSTEM = "The rules of this house: be brief, say what is so, and name who said it. " * 4
QUESTIONS = ("What is in the box on the table?", "Who put it in there?", "And when was that?")
ANSWERS = ("A hat, says Ann.", "Tom did, says Ann.", "A day ago, says Tom.")
WAITS = 60


def turns(count: int, last: str = "") -> str:
    """A chat of so many turns, the last one without its answer; ``last``: its question."""
    text = f"[system] {SYSTEM}\n"
    for number in range(count):
        question = last if last and number == count - 1 else QUESTIONS[number]
        text += f"[user] {question}\n[assistant] "
        if number < count - 1:
            text += f"{ANSWERS[number]}\n"
    return text


STEPS = (
    ("first turn", turns(1)),
    ("second turn", turns(2)),
    ("third turn", turns(3)),
    ("the same again", turns(3)),
    ("another third question", turns(3, "Why?")),
    ("another second question", turns(2, "Was it you?")),
    ("another first question", turns(1, "Is it so?")),
    ("the third turn, as it was", turns(3)),
)


def common(text: str, others: list[str]) -> int:
    """Characters that a text has in common with the beginning of another."""
    most = 0
    for other in others:
        pairs = enumerate(zip(text, other, strict=False))
        most = max(most, next((n for n, (a, b) in pairs if a != b), min(len(text), len(other))))
    return most


@contextmanager
def server(command: list[str]) -> Iterator[httpx.Client]:
    """A server that listens at a free port, which is added to its command."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WAITS) as client:
                _wait(client, process, log)
                yield client
        finally:
            process.terminate()
            process.wait(WAITS)


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Any) -> None:
    end = time.monotonic() + WAITS
    while time.monotonic() < end:
        if process.poll() is not None:
            log.seek(0)
            raise SystemExit(log.read().decode(errors="replace")[-2000:])
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("the server does not answer")


def ask(client: httpx.Client, prompt: str) -> tuple[str, int, int]:
    """An answer, the prompt's tokens, and how many of them were not computed."""
    body = {"prompt": prompt, "max_tokens": 16, "temperature": 0, "seed": 1, "logprobs": 5}
    found = client.post("/v1/completions", json=body)
    found.raise_for_status()
    answer = found.json()
    usage = answer["usage"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    if cached is None:
        cached = answer["timings"]["cache_n"]
    said = repr((answer["choices"][0]["text"], answer["choices"][0].get("logprobs")))
    return said, usage["prompt_tokens"], cached


def measured(command: list[str]) -> list[tuple[int, int, bool]]:
    """(tokens, cached, same answer as a server that has seen nothing) of each step."""
    with server(command) as client:
        seen = [ask(client, prompt) for _, prompt in STEPS]
    fresh: dict[str, str] = {}
    for _, prompt in STEPS:
        if prompt not in fresh:
            with server(command) as client:
                fresh[prompt], *_ = ask(client, prompt)
    return [
        (tokens, cached, said == fresh[prompt])
        for (said, tokens, cached), (_, prompt) in zip(seen, STEPS, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--server", help="llama-server; without it Motet alone is asked")
    parser.add_argument("--context", type=int, default=4096)
    options = parser.parse_args()
    size = ["-c", str(options.context), "-t", "1"]
    print("| Model | Prompt | tokens | in common | Motet | same bits | llama-server | same |")
    print("|---|---|--:|--:|--:|---|--:|---|")
    for path in options.models:
        ours = measured([sys.executable, "-m", "motet", "serve", str(path), *size, "-np", "1"])
        theirs: list[tuple[int, int, bool]] = []
        if options.server:
            theirs = measured([options.server, "-m", str(path), *size, "-np", "1"])
        before: list[str] = []
        for number, (what, prompt) in enumerate(STEPS):
            tokens, cached, same = ours[number]
            share = common(prompt, before) / len(prompt)
            before.append(prompt)
            row = [path.parent.name, what, f"{tokens:,}", f"{round(share * tokens):,}"]
            row += [f"{cached:,}", "yes" if same else "NO"]
            if theirs:
                row += [f"{theirs[number][1]:,}", "yes" if theirs[number][2] else "no"]
            else:
                row += ["", ""]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
