"""What the tiny T5 is asked, with the answers: a key, the last word, a text with a word changed."""

import re
from dataclasses import dataclass

import numpy as np
import sentencepiece as spm

from training.texts import Text, rename

TOLD = ("The pass key is {key}.", "The key is {key}.", "Remember the key {key}.")
KEY_DIGITS = 5
LONGEST_ANSWER = 40
"""Tokens of an answer, at most, without the end."""
TRIES = 10_000
_SENTENCE = re.compile(r"""(?<=[.!?])\s+|(?<=[.!?]["'])\s+|\n+""")
_WORD = re.compile(r"[A-Za-z]+")

KINDS = ("key", "last", "change")


@dataclass(frozen=True)
class Question:
    prompt: str
    answer: str


class Questions:
    """Makes questions over sentences in a row from the documents; all chance is the given rng's."""

    def __init__(self, documents: list[str], vocabulary: spm.SentencePieceProcessor) -> None:
        self.vocabulary = vocabulary
        cut = [[s for s in _SENTENCE.split(d) if _WORD.search(s)] for d in documents]
        self.documents = [[(s, self._size(s)) for s in sentences] for sentences in cut if sentences]
        words = {w for d in cut for s in d for w in _WORD.findall(s) if len(w) > 2}
        self.words = sorted(w for w in words if w.islower())
        self.names = sorted({w for w in words if w.istitle()} - {w.title() for w in self.words})

    def ask(self, kind: str, longest: int, rng: np.random.Generator) -> Question:
        """One question whose prompt has at most ``longest`` tokens, and mostly not many fewer."""
        for _ in range(TRIES):
            question = getattr(self, f"_{kind}")(longest, rng)
            if question is not None and self._size(question.prompt) <= longest:
                return question
        raise ValueError(f"no question of at most {longest} tokens in {TRIES} tries")

    def _size(self, text: str) -> int:
        return len(self.vocabulary.encode(text)) + 1

    def _passage(self, longest: int, rng: np.random.Generator) -> list[str]:
        """Sentences in a row, of at most ``longest`` tokens in all if the first isn't longer."""
        document = self.documents[rng.integers(len(self.documents))]
        start = int(rng.integers(len(document)))
        chosen, size = [document[start][0]], document[start][1]
        for sentence, more in document[start + 1 :]:
            size += more
            if size > longest:
                break
            chosen.append(sentence)
        return chosen

    def _key(self, longest: int, rng: np.random.Generator) -> Question:
        key = "".join(str(d) for d in rng.integers(0, 10, KEY_DIGITS))
        told = TOLD[rng.integers(len(TOLD))].format(key=key)
        passage = self._passage(longest - 20, rng)
        passage.insert(int(rng.integers(len(passage) + 1)), told)
        return Question(f"find the key: {' '.join(passage)}", key)

    def _last(self, longest: int, rng: np.random.Generator) -> Question:
        text = " ".join(self._passage(longest - 6, rng))
        return Question(f"last word: {text}", _WORD.findall(text)[-1])

    def _change(self, longest: int, rng: np.random.Generator) -> Question | None:
        """None where no word of the text can be changed."""
        text = " ".join(self._passage(min(longest - 12, LONGEST_ANSWER - 4), rng))
        found = sorted({w for w in _WORD.findall(text) if len(w) > 2})
        names = [w for w in found if w in self.names]
        choices = names if names and rng.random() < 0.5 else [w for w in found if w.islower()]
        if not choices:
            return None
        old = choices[rng.integers(len(choices))]
        others = self.names if old in self.names else self.words
        new = others[rng.integers(len(others))]
        changed = re.sub(rf"\b{old}\b", new, text)
        if self._size(changed) > LONGEST_ANSWER:
            return None
        return Question(f"change {old} to {new}: {text}", changed)


def documents_of(texts: list[Text], copies: int, seed: int) -> list[str]:
    """The training documents; stories so many times, with other names."""
    rng = np.random.default_rng(seed)
    made = []
    for text in texts:
        stories = text.name == "tinystories.txt"
        made += (
            [rename(d, rng) for _ in range(copies) for d in text.train] if stories else text.train
        )
    return made
