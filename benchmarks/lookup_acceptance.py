"""How often looked-up tokens are right, by where they come from and how many tokens before match.

    python -m benchmarks.lookup_acceptance [--vocabulary MODEL.gguf] [--texts FOLDER] [--most 16]

Texts are cut into tokens by a real vocabulary and said token by token, as if a model said them:
what is proposed on the way is compared with what comes. Nothing is computed. The tasks, each with a
prompt and an answer: a text copied; the same with one word in 33 corrected; code with a name in
twenty changed; code with a line in seventeen changed, added or left out; records as JSON; sentences
of one book with quotes from another, the prompt; books and code going on. For each the tokens that
a step gives, if as many are proposed as there are (``--most``), and each kind of proposal with the
share of first, second, fourth and eighth tokens that were right. Books are files of FOLDER, code is
Motet's own.
"""

import argparse
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from motet.cli.demo import shipped_model
from motet.opening import open_model
from motet.speculation import Lookup, Wanted
from motet.tokenizer import Tokenizer, from_gguf

SOURCE = Path(__file__).parents[1] / "src" / "motet"
CODE = ("llm.py", "context.py", "memory/memory.py", "engine/scheduler.py", "batch.py")
PLACES = (1, 2, 4, 8)
LEAST = 8
"""Proposals of a kind that are worth a line."""
Task = tuple[str, str, str]
"""Its name, a prompt and an answer."""


def corrected(text: str, rng: random.Random) -> str:
    """With one word in 33 another one of the text."""
    parts = re.split(r"(\s+)", text)
    words = [part for part in parts if part.strip()]
    return "".join(
        rng.choice(words) if part.strip() and rng.random() < 0.03 else part for part in parts
    )


def renamed(code: str, rng: random.Random) -> str:
    """With one name in twenty another one, everywhere."""
    names = sorted(set(re.findall(r"\b[a-z_]{4,}\b", code)))
    for name in rng.sample(names, max(1, len(names) // 20)):
        code = re.sub(rf"\b{name}\b", f"new_{name}", code)
    return code


def edited(code: str, rng: random.Random) -> str:
    """With one line in fifty left out, one in fifty added, one in fifty longer."""
    lines: list[str] = []
    for line in code.split("\n"):
        chance = rng.random()
        if chance < 0.02:
            continue
        if chance < 0.04:
            indent = " " * (len(line) - len(line.lstrip()))
            lines.append(
                indent + rng.choice(["# check this", "# the order matters", "# for speed"])
            )
        lines.append(f"{line}  # changed" if 0.04 <= chance < 0.06 else line)
    return "\n".join(lines)


def records(names: list[str], rng: random.Random) -> str:
    found = [
        {
            "id": rng.randrange(1000, 99999),
            "name": " ".join(rng.sample(names, 2)),
            "email": f"{rng.choice(names).lower()}@example.com",
            "active": rng.random() < 0.7,
            "address": {"street": f"{rng.randrange(200)} {rng.choice(names)} Street"},
        }
        for _ in range(15)
    ]
    return json.dumps(found, indent=2)


def tasks(books: list[str]) -> Iterator[Task]:
    rng = random.Random(7)
    names = sorted(set(re.findall(r"\b[A-Z][a-z]{3,9}\b", books[0])))[:300]
    for number, book in enumerate(books):
        text = book[20000:28000]
        yield "copied text", f"Repeat.\n\n{text}\n\nAnswer:\n", text
        yield "corrected text", f"Correct.\n\n{corrected(text, rng)}\n\nAnswer:\n", text
        other = books[number - 1].replace("\n", " ")[60000:70000]
        sentences = re.split(r"(?<=[.!?])\s+", text.replace("\n", " "))
        quotes = [each for each in sentences if 40 < len(each) < 400] or sentences
        own = re.split(r"(?<=[.!?])\s+", other)[:12]
        mixed = " ".join(f'{each} It says: "{rng.choice(quotes)}"' for each in own)
        yield "text with quotes", f"Summarise.\n\n{text}\n\nAnswer:\n", mixed
        yield "book going on", book[40000:60000], book[60000:66000]
        yield "records as JSON", "List the customers as JSON.\n", records(names, rng)
    for name in CODE:
        code = (SOURCE / name).read_text()
        asked = f"Change this.\n```python\n{code[:6000]}\n```\n```python\n"
        yield "code, names changed", asked, renamed(code[:6000], rng)
        yield "code, lines changed", asked, edited(code[:6000], rng)
        yield "code going on", code[:6000], code[6000:10000]


class Counts:
    """What became of the proposals of a task's kind."""

    def __init__(self, most: int) -> None:
        self.right: dict[tuple[str, int], list[int]] = defaultdict(list)
        self.tokens = self.steps = 0
        self.seconds = 0.0
        self._most = most

    def say(self, tokenizer: Tokenizer, prompt: str, answer: str) -> None:
        lookup, said = Lookup(), tokenizer.encode(prompt, add_special=False)
        rest = tokenizer.encode(answer, add_special=False)
        self.tokens += len(rest)
        while rest:
            self.steps += 1
            said.append(rest.pop(0))
            began = time.thread_time()
            (proposal,) = lookup.propose([Wanted(0, said, self._most)])
            self.seconds += time.thread_time() - began
            if proposal is None:
                continue
            pairs = zip(proposal.tokens, rest, strict=False)
            length = min(len(proposal.tokens), len(rest))
            right = next((n for n, (a, b) in enumerate(pairs) if a != b), length)
            self.right[proposal.source, min(proposal.quality, 8)].append(right)
            said += rest[:right]
            del rest[:right]

    def show(self, name: str) -> None:
        each = 1e6 * self.seconds / self.steps
        print(f"{name}: {self.tokens / self.steps:.2f} tokens a step, {each:.0f} µs a step")
        for (source, quality), right in sorted(self.right.items()):
            if len(right) < LEAST:
                continue
            shares = (sum(n >= place for n in right) / len(right) for place in PLACES)
            written = " ".join(f"{share:5.2f}" for share in shares)
            more = "+" if quality == 8 else " "
            print(f"    {source:10} {quality}{more} {len(right):5} times {written}")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--vocabulary", type=Path, default=shipped_model())
    parser.add_argument("--texts", type=Path, default=Path("../shared/data/text"))
    parser.add_argument("--most", type=int, default=16)
    given = parser.parse_args()
    with open_model(given.vocabulary) as file:
        tokenizer = from_gguf(file.metadata)
    assert tokenizer is not None
    books = [path.read_text().replace("\r", "") for path in sorted(given.texts.glob("*.txt"))]
    found: dict[str, Counts] = defaultdict(lambda: Counts(given.most))
    for name, prompt, answer in tasks(books):
        found[name].say(tokenizer, prompt, answer)
    for name, counts in found.items():
        counts.show(name)


if __name__ == "__main__":
    main()
