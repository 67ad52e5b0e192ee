"""How much of a chat is computed again, turn by turn and after edits: Motet and llama-server.

    PYTHONPATH=src python -m benchmarks.prefix_reuse MODEL.gguf … [--server PATH/llama-server]

Both servers, with four slots and otherwise as they come, are asked the same chats one after the
other: three turns, the last answer once more, another third question, another second one, another
first one, and the whole chat as it was. Answers are fixed texts, so that both see the same tokens
whatever their models say. For each: the prompt's tokens, how many of them it has in common with the
beginning of an earlier prompt, how many each server says that it did not compute
(``usage.prompt_tokens_details.cached_tokens``), and what of its answer is the same as from a server
that keeps nothing: all of it, five log probabilities a token included, the text, or nothing.
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

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
SYSTEM = "The rules of this house: be brief, say what is so, and name who said it. " * 4
QUESTIONS = ("What is in the box on the table?", "Who put it in there?", "And when was that?")
ANSWERS = ("A hat, says Ann.", "Tom did, says Ann.", "A day ago, says Tom.")
SLOTS = 4
WAITS = 120

Messages = list[dict[str, str]]


def turns(count: int, last: str = "") -> Messages:
    """A chat of so many turns, the last one without its answer; ``last``: its question."""
    said = [{"role": "system", "content": SYSTEM}]
    for number in range(count):
        question = last if last and number == count - 1 else QUESTIONS[number]
        said.append({"role": "user", "content": question})
        if number < count - 1:
            said.append({"role": "assistant", "content": ANSWERS[number]})
    return said


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


def common(tokens: list[int], others: list[list[int]]) -> int:
    """Tokens that a prompt has in common with the beginning of another."""
    most = 0
    for other in others:
        pairs = enumerate(zip(tokens, other, strict=False))
        most = max(most, next((n for n, (a, b) in pairs if a != b), min(len(tokens), len(other))))
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


def ask(client: httpx.Client, messages: Messages, **fields: Any) -> tuple[list[Any], int, int]:
    """An answer and its log probabilities, the prompt's tokens, and how many of them were not
    computed."""
    body = {"messages": messages, "max_tokens": 16, "temperature": 0, "seed": 1}
    body |= {"logprobs": True, "top_logprobs": 5, **fields}
    found = client.post("/v1/chat/completions", json=body)
    found.raise_for_status()
    answer = found.json()
    (choice,), usage = answer["choices"], answer["usage"]
    return (
        [choice["message"]["content"], choice["logprobs"]],
        usage["prompt_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
    )


def measured(command: list[str], *, erases: bool) -> list[tuple[int, int, str]]:
    """(tokens, cached, what is as when nothing is kept) of each step. ``erases``: the server
    empties a slot when it is told to; otherwise it keeps to ``cache_prompt``."""
    with server([*command, "-np", str(SLOTS)]) as client:
        seen = [ask(client, messages) for _, messages in STEPS]
    fresh: list[list[Any]] = []
    with server([*command, "-np", "1"]) as client:
        for _, messages in STEPS:
            if erases:
                client.post("/slots/0?action=erase").raise_for_status()
            said, _, cached = ask(client, messages, **({} if erases else {"cache_prompt": False}))
            assert cached == 0
            fresh.append(said)
    return [
        (tokens, cached, "all" if said == alone else "text" if said[0] == alone[0] else "nothing")
        for (said, tokens, cached), alone in zip(seen, fresh, strict=True)
    ]


def tokenized(command: list[str]) -> list[list[int]]:
    """The tokens of each step's prompt."""
    with server([*command, "-np", "1"]) as client:
        texts = [
            client.post("/apply-template", json={"messages": messages}).json()["prompt"]
            for _, messages in STEPS
        ]
        return [client.post("/tokenize", json={"content": t}).json()["tokens"] for t in texts]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--server", help="llama-server; without it Motet alone is asked")
    parser.add_argument("--context", type=int, default=1024)
    options = parser.parse_args()
    print("| Model | Prompt | tokens | in common | Motet | the same | llama-server | the same |")
    print("|---|---|--:|--:|--:|---|--:|---|")
    with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
        template.write(TEMPLATE)
        template.flush()
        size = ["-c", str(options.context), "-t", "1", "--chat-template-file", template.name]
        for path in options.models:
            table(path, size, options.server)


def table(path: Path, size: list[str], peer: str | None) -> None:
    """The rows of one model."""
    command = [sys.executable, "-m", "motet", "serve", str(path), *size]
    prompts, ours = tokenized(command), measured(command, erases=True)
    theirs: list[tuple[int, int, str]] = []
    if peer:
        # Its context is for all slots together.
        size = ["-c", str(SLOTS * int(size[1])), *size[2:], "--jinja"]
        theirs = measured([peer, "-m", str(path), *size], erases=False)
    for number, (what, _) in enumerate(STEPS):
        tokens, cached, same = ours[number]
        assert tokens == len(prompts[number])
        row = [path.parent.name, what, str(tokens)]
        row += [str(common(prompts[number], prompts[:number])), str(cached)]
        row += [same]
        if theirs:
            assert theirs[number][0] == tokens
            row += [str(theirs[number][1]), theirs[number][2]]
        else:
            row += ["", ""]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
