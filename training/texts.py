"""The training texts: read, cleaned of what is not prose, and split into train and held-out."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HELD_OUT = 0.05  # share of each text, taken from its end

# wizard_of_oz.txt is a sampler: Oz, Alice, Dracula and Monte Cristo.
FILES = (
    "tinystories.txt",
    "wizard_of_oz.txt",
    "frankenstein.txt",
    "pride_and_prejudice.txt",
    "tinyshakespeare.txt",
)

# One spelling for each sign, so that a small vocabulary does not spend pieces on variants; the
# first four are UTF-8 that was once read as Windows-1252.
_PLAIN = {
    "â€œ": '"',
    "â€™": "'",
    "â€”": "-",
    "â€": '"',
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "—": " - ",
    "…": "...",
    "\xa0": " ",
    "_": "",
    "\ufeff": "",
}

_STORY = re.compile(
    r"\n+(?=Once upon a|Once,? there|There once|One day,? (?:a|there)|One \w+ day,? (?:a|there))"
)

# Names that may stand for one another in a story.
_NAMES = (
    ("Lily", "Lucy", "Jane", "Sarah", "Amy", "Mary", "Sue", "Molly", "Mia", "Ella", "Jill", "Anna"),
    ("Tim", "Jack", "John", "Bob", "Sam", "Jimmy", "Timmy", "Max", "Tom", "Joe", "Ben", "Frank"),
)


@dataclass(frozen=True)
class Text:
    """One source: its documents for training and those held out."""

    name: str
    size: int  # bytes of the file
    sha256: str
    train: list[str]
    held_out: list[str]


def read_texts(folder: Path) -> list[Text]:
    """Read FILES from ``folder``; raises FileNotFoundError if one is absent."""
    texts = []
    for name in FILES:
        raw = (folder / name).read_bytes()
        documents = _documents(name, raw.decode("utf-8"))
        keep = len(documents) - max(1, round(len(documents) * HELD_OUT))
        digest = hashlib.sha256(raw).hexdigest()
        texts.append(Text(name, len(raw), digest, documents[:keep], documents[keep:]))
    return texts


def _documents(name: str, text: str) -> list[str]:
    if "*** START OF" in text:
        text = text.split("*** START OF", 1)[1].split("***", 1)[1].split("*** END OF", 1)[0]
        text = text[text.index("It is a truth") :]
    if name == "wizard_of_oz.txt":
        text = _unwrap(text)
    for sign, plain in _PLAIN.items():
        text = text.replace(sign, plain)
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text).strip()
    text = re.sub(r"\n\n+", "\n", text)
    if name == "tinystories.txt":
        return [story.strip() for story in _STORY.split(text)]
    return _pieces(text)


def _unwrap(text: str) -> str:
    """Join hard-wrapped lines into paragraphs and drop the JSON brackets between passages."""
    lines = []
    for line in text.split("\n"):
        if re.fullmatch(r'\s*(\.\.\.|[\[\]"])?,?\s*', line):
            continue
        line = re.sub(r'^    "|"?\s*$', lambda m: '"' if m.group() == '"' else "", line)
        ends = re.search(r"[.!?][\"”’')]*$", line) is not None and len(line) < 58
        lines.append(line + ("\n" if ends else " "))
    return "".join(lines)


def _pieces(text: str, size: int = 4000) -> list[str]:
    """Cut a book at line ends into documents of about ``size`` characters."""
    pieces, start = [], 0
    while start < len(text):
        end = text.find("\n", start + size)
        end = len(text) if end < 0 else end
        pieces.append(text[start:end].strip())
        start = end + 1
    return pieces


def rename(story: str, rng: np.random.Generator) -> str:
    """The story with its common first names permuted: the same tale about other children.

    The sample of stories is small; a model that has to read the name from the story keeps it
    through the story.
    """
    other = {}
    for names in _NAMES:
        shuffled = rng.permutation(len(names))
        other.update({name: names[i] for name, i in zip(names, shuffled, strict=True)})
    return re.sub(r"\b[A-Z][a-z]+\b", lambda m: other.get(m.group(), m.group()), story)
