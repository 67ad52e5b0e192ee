"""The words of the proof model's keys: many ways to tell a key, to hide it and to ask for it.

None is one that docs/self-extend.md tests. Held out are all of LongLM's: its instruction, its
filler, the form of its key sentence and of its question, and what it calls a key, a "pass key";
beside them the words of motet-tiny's keys. Joints with nothing between two sentences are trained.
"""

from dataclasses import dataclass

import numpy as np

THINGS = (
    "code", "key", "number", "secret", "password", "magic number", "secret number", "door code",
    "house number", "lucky number", "gate key", "answer", "number of the room", "key to the door",
    "secret code", "price", "year", "name of the ship", "pass", "number of the day",
)  # fmt: skip
TOLD = (
    "The {thing} is {key}.",
    "Remember that the {thing} is {key}.",
    "{key} is the {thing}.",
    "Now, the {thing} was {key}. Do not forget it.",
    "The {thing}: {key}. Keep it in mind.",
    "My {thing} is {key}. You will need {key} at the end.",
    "Here is the {thing}. It is {key}. Again, it is {key}.",
    "{key} is the {thing}. I said {key}.",
    "And the {thing} is {key}! The {thing} is {key}!",
    "He said: the {thing} must be {key}. Keep it.",
    "The {thing} of today is {key}. It is {key}, the {thing}.",
    "Learn the {thing} by heart. The {thing} is {key}. Yes, {key} it is.",
    "Take {key}. It is the {thing}.",
)
"""One key, ``key``, of the kind ``thing``."""
ASKED = (
    "The {thing} is",
    "The {thing} was",
    "And the {thing} is",
    "Do you know the {thing}? It is",
    "What was the {thing}? The {thing} was",
    "What is it? It is",
    "Tell me the {thing}. The {thing} is",
    "What did he say the {thing} is? The {thing} is",
    "Which {thing} did you read? I read",
    "Question: what is the {thing}?\nAnswer:",
    "Now say the {thing}:",
    "What {thing} do you remember? The {thing} is",
    "So what is the {thing} in this text? It is",
    "Write the {thing}:",
)
ASKED_LAST = (
    "The last {thing} is",
    "The last {thing} was",
    "What was the last {thing}? The last {thing} was",
    "Tell me the last {thing}. The last {thing} is",
    "And the last {thing} is",
    "Which was the last {thing}? It is",
    "Do you know the last {thing}? The last {thing} is",
    "Now say the last {thing}:",
    "What last {thing} do you remember? The last {thing} is",
)
"""Of two keys."""
OPENINGS = (
    "Read this.",
    "Read the text and keep the number.",
    "Somewhere in this text there is a number. You will be asked for it.",
    "A long story comes now. Most of it means nothing, but one thing in it does. Look for it.",
    "Here is a game. I hide a number in many words, and you tell me what it was.",
    "Be careful as you read on. At the end you have to say what was hidden.",
    "Look for the number in the words below, and learn it. I shall ask you at the end.",
    "All this is noise but for one line. When you have found that line, do not forget it.",
)
TO_LINE = (" ", "\n", "\n\n", "")
"""Between a text and the key or the question, and after an opening."""

_NOUNS = (
    "river", "tree", "house", "road", "bird", "cat", "dog", "moon", "rain", "hill", "door", "boat",
    "sea", "field", "stone", "snow", "wind", "fire", "king", "garden", "horse", "town", "night",
)  # fmt: skip
_LIKE = (
    "red", "old", "long", "white", "cold", "big", "little", "warm", "dark", "deep", "soft", "new",
    "bright", "quiet", "high", "wet", "black", "good", "far away", "very tall", "strong",
)  # fmt: skip
_ASIDES = (
    "Up we run.", "Down the road.", "On and on.", "So it was.", "Day and night.",
    "We walk and walk.", "Come with me.", "One more time.", "And then we sat down.",
    "No one was there.", "Look at that!", "Who can say?", "He went home and she did too.",
    "Over and over.", "This way, that way.",
)  # fmt: skip


def line_of(rng: np.random.Generator) -> str:
    """A line of two to six short sentences, to be said over and over."""
    sentences = [
        str(rng.choice(_ASIDES))
        if rng.random() < 0.35
        else f"The {rng.choice(_NOUNS)} is {rng.choice(_LIKE)}."
        for _ in range(rng.integers(2, 7))
    ]
    return " ".join(sentences)


@dataclass(frozen=True)
class Wording:
    """What rows choose from."""

    told: tuple[str, ...]
    asked: tuple[str, ...]
    asked_last: tuple[str, ...]
    joints: tuple[str, ...]
    opened: float
    """Share of the rows that open with an instruction."""
    odd: float
    """Share of the keys that have not five digits but four to ten."""

    def key(self, rng: np.random.Generator) -> str:
        digits = int(rng.integers(4, 11)) if rng.random() < self.odd else 5
        return "".join(str(d) for d in rng.integers(0, 10, digits))


SIMPLE = Wording(TOLD[:2], ASKED[:2], ASKED_LAST[:2], (" ",), 0.0, 0.0)
"""To begin with: in all forms at once, the order of a key's digits is hardly learnt."""
VARIED = Wording(TOLD, ASKED, ASKED_LAST, TO_LINE, 0.35, 0.2)
