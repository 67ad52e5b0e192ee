"""Thousands of random requests, with and without speculation: equal to the bit.

    python -m benchmarks.speculation_equality MODEL.gguf… [--requests 1000] [--draft DRAFT.gguf]

For each model requests are drawn: prompts that begin alike, every way of sampling, seeds, grammars
(where the model has a vocabulary), stop strings, biases, several answers, log probabilities, echo.
Each is asked alone of an LLM that does not speculate. Then all are asked at once, by several
threads, of LLMs with several sequences and small batches: one is told what comes next by something
that knows, but errs often; the others look it up, as much as pays or always, or have a draft model.
Token ids, texts, finish reasons and the bits of log probabilities have to be the same.
"""

import argparse
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from motet import LLM, Completion, Model, MotetError
from motet.speculation import Proposal, Proposer, Wanted

SCHEMAS: tuple[Any, ...] = (
    True,
    {
        "type": "object",
        "properties": {"long_name": {"type": "string", "maxLength": 9}, "age": {"type": "integer"}},
        "required": ["long_name", "age"],
        "additionalProperties": False,
    },
    {"enum": ["nothing at all", "nothing in particular", "something else"]},
)
PATTERNS = ("(the|a) (dog|cat) (ran|sat)( and (ran|sat))*", "[a-z ]{5,30}\\.")
STOPS = (" the", "a", "and then", ".", "e ")


@dataclass(frozen=True)
class Asked:
    """A request, and what it gives without speculation."""

    prompt: list[int]
    options: dict[str, Any]
    plain: "tuple[Any, ...] | str"


class Erring:
    """A proposer that knows how answers go on, and is wrong now and then, or has nothing to say."""

    def __init__(self, seed: int, right: float = 0.8) -> None:
        self._random = random.Random(seed)
        self._right = right
        self.known: list[list[int]] = []
        """Prompts with their answers."""
        self.vocabulary = 1

    def propose(self, wanted: Sequence[Wanted]) -> list[Proposal | None]:
        return [self._of(each) for each in wanted]

    def ended(self, seq: int, tokens: Sequence[int], start: int) -> None:
        assert seq >= 0 and 0 <= start <= len(tokens)

    def forget(self) -> None: ...

    def close(self) -> None: ...

    def _of(self, wanted: Wanted) -> Proposal | None:
        assert wanted.most >= 1
        said, count = wanted.tokens, self._random.randint(0, wanted.most)
        begun = [text for text in self.known if text[: len(said)] == said]
        text = self._random.choice(begun)[len(said) :] if begun else []
        tokens = text[:count]
        for place in range(count):
            other = self._random.randrange(self.vocabulary)
            if place >= len(tokens):
                tokens.append(other)
            elif self._random.random() > self._right:
                tokens[place] = other
        return (
            Proposal(tuple(tokens), self._random.choice([0, 4, 20]), "erring") if tokens else None
        )


def requests(llm: LLM, count: int, rng: random.Random, longest: int = 40) -> list[Asked]:
    """So many, as ``llm``, which does not speculate, answers them."""
    return [_answered(llm, *_drawn(llm, rng, longest)) for _ in range(count)]


def different(asked: Sequence[Asked], llm: LLM, threads: int, seed: int) -> list[str]:
    """What of requests that many threads ask at once, some of them streamed, is not as it was."""
    wrong: list[str] = []
    rest = list(enumerate(asked))
    random.Random(seed).shuffle(rest)

    def ask() -> None:
        while rest:
            try:
                number, each = rest.pop()
            except IndexError:
                return
            got = _given(llm, each.prompt, each.options, stream=number % 3 == 0)
            if got != each.plain:
                wrong.append(f"{each.prompt}, {each.options}: {got}, not {each.plain}")

    workers = [threading.Thread(target=ask) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return wrong


def known_to(proposer: Erring, asked: Sequence[Asked], vocabulary: int) -> None:
    """Tell a proposer what the answers are."""
    proposer.vocabulary = vocabulary
    for each in asked:
        if not isinstance(each.plain, str):
            proposer.known += [[*each.prompt, *answer[1]] for answer in each.plain]


def _drawn(llm: LLM, rng: random.Random, longest: int) -> tuple[list[int], dict[str, Any]]:
    vocabulary = llm.model.config.n_vocab
    begins = [random.Random(n).choices(range(vocabulary), k=30) for n in range(4)]
    prompt = rng.choice(begins)[: rng.randint(1, 30)]
    prompt = [*prompt, *rng.choices(range(vocabulary), k=rng.randint(0, 4))]
    if rng.random() < 0.3:
        prompt = [*prompt, *prompt]
    options: dict[str, Any] = {"max_tokens": rng.randint(1, longest), "seed": rng.randint(0, 5)}
    options["temperature"] = rng.choice([0.0, 0.3, 0.8, 1.5])
    options |= rng.choice([{}, {}, {"top_k": 5}, {"typical_p": 0.8, "top_p": 0.7}, {"min_p": 0.2}])
    options |= rng.choice([{}, {}, {"repeat_penalty": 1.3}, {"presence_penalty": 0.5}])
    options |= rng.choice([{}, {}, {"generator": "mt19937"}])
    options |= rng.choice([{}, {}, {"n": rng.randint(2, 3)}])
    options |= rng.choice([{}, {"logprobs": rng.randint(0, 3)}])
    if rng.random() < 0.2:
        options["logit_bias"] = {rng.randrange(vocabulary): rng.choice([-1e9, 5.0])}
    if llm.model.config.decoder_start is None and rng.random() < 0.2:
        options["echo"] = True
    if llm.tokenizer is not None:
        options |= rng.choice([{}, {}, {"stop": rng.sample(STOPS, 2)}])
        options |= rng.choice(
            [{}, {}, {"json_schema": rng.choice(SCHEMAS)}, {"regex": rng.choice(PATTERNS)}]
        )
    return prompt, options


def _answered(llm: LLM, prompt: list[int], options: dict[str, Any]) -> Asked:
    return Asked(prompt, options, _given(llm, prompt, options, stream=False))


def _given(
    llm: LLM, prompt: list[int], options: dict[str, Any], stream: bool
) -> "tuple[Any, ...] | str":
    """All that an answer is, or the error that it ends with."""
    try:
        if stream:
            with llm.generate(prompt, stream=True, **options) as chunks:
                got = [chunk.completion for chunk in chunks if chunk.completion]
            got.sort(key=lambda answer: answer.index)
        else:
            answers = llm.generate(prompt, **options)
            got = answers if isinstance(answers, list) else [answers]
    except MotetError as error:
        return f"{type(error).__name__}: {error.message}"
    return tuple(map(_facts, got))


def _facts(answer: Completion) -> tuple[Any, ...]:
    return (
        *(answer.text, answer.tokens, answer.finish_reason, answer.index, answer.seed),
        *(answer.logprobs, answer.prompt_logprobs, answer.stop),
    )


def check(
    model: Model, count: int, seed: int, longest: int = 40, draft: Model | None = None
) -> tuple[list[str], list[str]]:
    """What was different, and a line for each LLM that was asked."""
    rng, wrong, lines = random.Random(seed), list[str](), list[str]()
    length = min(model.config.context_length, 160)
    with LLM(model, speculate=None, max_sequences=3, max_tokens=length) as plain:
        asked = requests(plain, count, rng, longest)
    erring = Erring(seed)
    known_to(erring, asked, model.config.n_vocab)
    ways: list[tuple[str, str | Proposer | Model]] = [
        ("erring", erring),
        ("lookup", "lookup"),
        ("auto", "auto"),
    ]
    if draft is not None:
        ways.append(("draft", draft))
    for name, speculate in ways:
        options: dict[str, Any] = {"max_sequences": rng.choice([3, 5, 8])}
        options |= {"ubatch": rng.choice([8, 64, 512]), "prefix_reuse": rng.random() < 0.8}
        with LLM(model, speculate=speculate, max_tokens=length, **options) as llm:
            found = different(asked, llm, threads=rng.choice([1, 4, 9]), seed=seed)
            total = llm.load().total
        wrong += found
        lines.append(
            f"{name}: {len(found)} different; {total.proposed_tokens} tokens proposed,"
            f" {total.accepted_tokens} of them chosen, {total.generated_tokens} written in"
            f" {total.steps} steps"
        )
    return wrong, lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draft")
    given = parser.parse_args()
    draft = None if given.draft is None else Model.load(given.draft)
    failed = False
    for path in given.models:
        began = time.perf_counter()
        wrong, lines = check(Model.load(path), given.requests, given.seed, draft=draft)
        print(f"{path}: {given.requests} requests, {time.perf_counter() - began:.0f} s")
        for line in (*lines, *wrong[:5]):
            print(f"  {line}", flush=True)
        failed |= bool(wrong)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
