"""What speculation gains, beside llama-server's own ways, on one file in one run, turn by turn.

    python -m benchmarks.speculation MODEL.gguf --text FILE [--draft DRAFT.gguf]
        [--llama-server PATH] [--sequences 1] [--answer 256] [--turns 3] [--json FILE]

MODEL is one of copying_model.py's; prompts are those of copying_texts.py, of passages of FILE,
others in each turn. Every engine gets the same token ids, computes the prompts and one token first
(not measured), and then answers all at once, greedily or by ``--temperature``. "forced" proposes
what plain Motet has just answered: the upper bound, for models that copy nothing (``--bound`` takes
any model, with random prompts). Ratios are those to the same engine without speculation, of the
same turn. With one thread, times are the processor's: what others take of its core is left out.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Protocol

import httpx

from benchmarks.copying_texts import Case, Texts
from benchmarks.serving import free_port, wait_until_ready
from motet import LLM, Model, Sampling
from motet.speculation import Proposal, Wanted

PEERS = {
    "plain": [],
    "lookup": ["--spec-type", "ngram-cache"],
    "ngram-simple": ["--spec-type", "ngram-simple"],
    "ngram-map-k": ["--spec-type", "ngram-map-k"],
    "ngram-mod": ["--spec-type", "ngram-mod"],
    "draft": ["--spec-type", "draft-simple", "--spec-draft-n-max", "8"],
}
"""llama-server's ways: "lookup" is the n-gram cache of its lookup example."""


@dataclass
class Turn:
    """What an engine did with a turn's prompts."""

    seconds: float
    tokens: int
    proposed: int
    accepted: int
    answers: list[list[int]]

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


class Engine(Protocol):
    def run(self, prompts: list[list[int]], count: int, temperature: float) -> Turn: ...

    def close(self) -> None: ...


class Known:
    """Proposes the answers that are known beforehand."""

    def __init__(self) -> None:
        self.answers: dict[tuple[int, ...], list[int]] = {}
        self._found: dict[int, tuple[list[int], int, list[int]]] = {}

    def propose(self, wanted: Sequence[Wanted]) -> list[Proposal | None]:
        return [self._of(each) for each in wanted]

    def _of(self, wanted: Wanted) -> Proposal | None:
        said, start, answer = self._found.get(wanted.seq, ([], 0, []))
        if said is not wanted.tokens:
            for prompt, known in self.answers.items():
                if tuple(wanted.tokens[: len(prompt)]) == prompt:
                    self._found[wanted.seq] = wanted.tokens, len(prompt), known
                    return self._of(wanted)
            return None
        at = len(said) - start
        tokens = tuple(answer[at : at + wanted.most])
        return Proposal(tokens, 0, "known") if tokens else None

    def ended(self, seq: int, tokens: Sequence[int], start: int) -> None:
        self._found.pop(seq, None)

    def close(self) -> None:
        pass


class Motet:
    def __init__(self, model: Model, options: argparse.Namespace, speculate: object) -> None:
        self.llm = LLM(
            model,
            max_sequences=options.sequences,
            max_tokens=options.ctx,
            speculate=speculate,  # pyright: ignore
        )
        self._processor = options.threads == 1

    def run(self, prompts: list[list[int]], count: int, temperature: float) -> Turn:
        def ask(tokens: int):
            sampling = Sampling(temperature=temperature, seed=1)
            return self.llm.generate(prompts, sampling, max_tokens=tokens)

        ask(1)
        clock = time.process_time if self._processor else time.perf_counter
        began = clock()
        found = ask(count)
        seconds = clock() - began
        return Turn(
            seconds,
            sum(len(each.tokens) for each in found),
            sum(each.usage.proposed_tokens for each in found),
            sum(each.usage.accepted_tokens for each in found),
            [list(each.tokens) for each in found],
        )

    def close(self) -> None:
        self.llm.close()


class LlamaServer:
    def __init__(self, options: argparse.Namespace, more: list[str]) -> None:
        port = free_port()
        command = [str(options.llama_server), "-m", str(options.model), "--port", str(port)]
        command += ["-np", str(options.sequences), "-c", str(options.sequences * options.ctx)]
        command += ["-t", str(options.threads), "-tb", str(options.threads), "--no-webui"]
        if "draft-simple" in more:
            more = [*more, "-md", str(options.draft), "-td", str(options.threads)]
        self._process = subprocess.Popen(
            command + more, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None)
        self._processor = options.threads == 1
        wait_until_ready(str(self._client.base_url).rstrip("/"), self._process)

    def run(self, prompts: list[list[int]], count: int, temperature: float) -> Turn:
        def ask(slot: int, tokens: int) -> dict:
            body = {
                "prompt": prompts[slot],
                "n_predict": tokens,
                "temperature": temperature,
                "seed": 1,
                "id_slot": slot,
                "cache_prompt": True,
                "return_tokens": True,
                "ignore_eos": True,
            }
            response = self._client.post("/completion", json=body)
            if response.status_code != 200:
                raise SystemExit(f"{response.status_code}: {response.text}")
            return response.json()

        with ThreadPoolExecutor(len(prompts)) as pool:
            slots = range(len(prompts))
            list(pool.map(lambda slot: ask(slot, 1), slots))
            clock = self._seconds if self._processor else time.perf_counter
            began = clock()
            found = list(pool.map(lambda slot: ask(slot, count), slots))
            seconds = clock() - began
        return Turn(
            seconds,
            sum(len(each["tokens"]) for each in found),
            sum(each["timings"].get("draft_n", 0) for each in found),
            sum(each["timings"].get("draft_n_accepted", 0) for each in found),
            [each["tokens"] for each in found],
        )

    def _seconds(self) -> float:
        """Of the processor, that the server has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait()


def engines(
    model: Model, options: argparse.Namespace, stack: ExitStack
) -> tuple[dict[str, Engine], Known]:
    """Those asked for by name; "plain" is always there."""
    known, found = Known(), dict[str, Engine]()
    ways: dict[str, object] = {"plain": None, "lookup": "lookup", "auto": "auto", "forced": known}
    if options.draft:
        ways["draft"] = Model.load(options.draft, threads=options.threads)
    makers: list[tuple[str, Callable[[], Engine]]] = []
    for name, speculate in ways.items():
        if name == "plain" or not options.ways or name in options.ways:
            makers.append((f"Motet {name}", lambda way=speculate: Motet(model, options, way)))
    for name, more in PEERS.items():
        drafted = name != "draft" or options.draft
        chosen = name == "plain" or not options.peer_ways or name in options.peer_ways
        if options.llama_server and drafted and chosen:
            makers.append((f"llama {name}", lambda more=more: LlamaServer(options, more)))
    for name, make in makers:
        engine = found[name] = make()
        stack.callback(engine.close)
    return found, known


def turn_prompts(options: argparse.Namespace, size: int, turn: int) -> dict[str, list[Case]]:
    """Prompts of a turn, by case: one for each sequence."""
    if options.bound:
        numbers = random.Random(turn)
        return {
            "bound": [
                Case("bound", numbers.choices(range(5, size), k=64), [])
                for _ in range(options.sequences)
            ]
        }
    found: dict[str, list[Case]] = {}
    for sequence in range(options.sequences):
        texts = Texts(options.text, size, 1000 * turn + sequence)
        for case in texts.cases(options.words):
            if not options.cases or case.name in options.cases:
                found.setdefault(case.name, []).append(case)
    return found


def report(case: str, turns: dict[str, list[Turn]], wanted: list[list[list[int]]]) -> None:
    """A line for each engine."""
    print(f"\n{case}\n\n| | tokens/s | × plain | proposed | accepted | as plain | right |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, found in turns.items():
        plain = turns[f"{name.split()[0]} plain"]
        ratios = [a.rate / b.rate for a, b in zip(found, plain, strict=True)]
        tokens = sum(each.tokens for each in found)
        proposed = sum(each.proposed for each in found)
        accepted = sum(each.accepted for each in found)
        same = share([each.answers for each in found], [each.answers for each in plain])
        right = share([each.answers for each in found], wanted) if wanted[0][0] else ""
        print(
            f"| {name} | {spread([each.rate for each in found], '.1f')} |"
            f" {spread(ratios, '.2f')} | {proposed / tokens:.2f} a token |"
            f" {accepted / max(proposed, 1):.0%} | {same} | {right} |",
            flush=True,
        )


def share(answers: list[list[list[int]]], others: list[list[list[int]]]) -> str:
    """How many tokens stand at the same place in both."""
    pairs = [
        (a, b)
        for turn, other in zip(answers, others, strict=True)
        for answer, known in zip(turn, other, strict=True)
        for a, b in zip(answer, known, strict=False)
    ]
    return f"{sum(a == b for a, b in pairs) / max(len(pairs), 1):.1%}"


def spread(values: list[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--bound", action="store_true", help="any model, random prompts")
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--sequences", type=int, default=1)
    parser.add_argument("--words", type=int, default=2000)
    parser.add_argument("--answer", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--ways", nargs="*", default=[], help="Motet's")
    parser.add_argument("--peer-ways", nargs="*", default=[], choices=PEERS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if bool(options.text) == options.bound:
        sys.exit("give --text or --bound")
    options.ctx = 64 * ((options.words * 5 // 4 + options.answer + 128) // 64)
    results: dict[str, dict[str, list[Turn]]] = {}
    with ExitStack() as stack:
        model = Model.load(options.model, threads=options.threads)
        found, known = engines(model, options, stack)
        wanted: dict[str, list[list[list[int]]]] = {}
        for turn in range(options.turns):
            for name, cases in turn_prompts(options, model.config.n_vocab, turn).items():
                prompts = [case.prompt for case in cases]
                wanted.setdefault(name, []).append([case.wanted for case in cases])
                for engine, each in found.items():
                    done = each.run(prompts, options.answer, options.temperature)
                    results.setdefault(name, {}).setdefault(engine, []).append(done)
                    if engine == "Motet plain":
                        known.answers = {
                            tuple(prompt): answer
                            for prompt, answer in zip(prompts, done.answers, strict=True)
                        }
    for case, turns in results.items():
        report(case, turns, wanted[case])
    if options.json:
        plain_data = {
            case: {name: [asdict(turn) for turn in found] for name, found in turns.items()}
            for case, turns in results.items()
        }
        options.json.write_text(json.dumps(plain_data))


if __name__ == "__main__":
    main()
