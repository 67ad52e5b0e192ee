"""A model without weights whose logits are a rule on the tokens so far, to test what drives it."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from motet.batch import Batch
from motet.errors import CannotRewind, CapacityError
from motet.spec import FullAttention, Recurrent
from motet.state import look
from motet.tokenizer.sandbox import TemplateSandbox
from motet.tokenizer.template_traits import KnownTemplates

BOS, EOS, N_VOCAB = 256, 257, 258
Rule = Callable[[Sequence[int]], np.ndarray]


class ByteTokenizer:
    """Bytes, BOS and EOS."""

    n_vocab, bos, eos, eog, add_bos = N_VOCAB, BOS, EOS, frozenset({EOS}), True
    unk = sep = pad = None
    suppressed: frozenset[int] = frozenset()
    special = frozenset({BOS, EOS})

    def __init__(self, chat_template: str | None = None) -> None:
        self.chat_template = chat_template
        self.chat_templates = {"default": chat_template} if chat_template else {}
        self.sandbox = TemplateSandbox()
        self.known_templates = KnownTemplates(self.sandbox)

    def encode(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        ids = [BOS] if add_special else []
        for part in text.replace("<s>", "\0").partition("\0") if parse_special else [text]:
            ids += [BOS] if part == "\0" else part.encode()
        return ids

    def decode(self, ids: Sequence[int], previous: int | None = None) -> str:
        del previous
        return b"".join(map(self.piece, ids)).decode(errors="replace")

    def split_special(self, text: str) -> Iterator[str | int]:
        return iter([text] if text else [])

    def piece(self, token: int) -> bytes:
        return {BOS: b"<s>", EOS: b"</s>"}.get(token) or bytes([token])

    def opens_text(self, token: int | None) -> bool:
        del token
        return False


def noise(history: Sequence[int]) -> np.ndarray:
    """Logits that depend on every token of the past; never ends."""
    row = np.random.default_rng(list(history)).normal(0, 2, N_VOCAB).astype(np.float32)
    row[[BOS, EOS]] = -np.inf
    return row


def saying(text: str) -> Rule:
    """Says ``text`` after any prompt that ends with "?", then EOS."""
    script = [*text.encode(), EOS]

    def rule(history: Sequence[int]) -> np.ndarray:
        said = len(history) - 1 - max(i for i, token in enumerate(history) if token == ord("?"))
        row = np.zeros(N_VOCAB, np.float32)
        row[script[min(said, len(script) - 1)]] = 50.0
        return row

    return rule


@dataclass(frozen=True)
class ScriptedConfig:
    context_length: int = 128
    n_vocab: int = N_VOCAB
    positional: str = "rotary"
    decoder_start: int | None = None


class ScriptedMemory:
    """Token ids, each with a serial number that no other decoded token has.

    ``recurrent``: it goes back to the beginning, or to a checkpoint, for as long as a sequence
    begins with the very tokens that were held there.
    """

    def __init__(self, sequences: int, recurrent: bool) -> None:
        self.held: list[list[tuple[int, int]]] = [[] for _ in range(sequences)]
        self.rewinds_anywhere = not recurrent
        self.context_length = 0
        """Positions of a sequence; set by the model."""
        self.room: int | None = None
        """Tokens that all sequences may hold together."""
        self.being_exported: set[int] = set()
        self.kv_bytes = self.used_bytes = 0
        self.budget: int | None = None
        """Checkpoints that may still be made."""
        self._points: set[tuple[int, ...]] = set()
        self.rewindable: dict[int, int] = {}
        """By sequence, the least position that it can be rewound to."""

    def length(self, seq: int) -> int:
        return len(self.held[seq])

    def own_bytes(self, seq: int) -> int:
        return self.length(seq)

    def tokens(self, seq: int) -> np.ndarray:
        return np.array([token for token, _ in self.held[seq]], np.int32)

    def remove(self, seq: int, start: int = 0, end: int | None = None) -> None:
        assert end is None
        self._require(seq, start)
        del self.held[seq][start:]
        self._points = {
            p for p in self._points if any(self._serials(h, len(p)) == p for h in self.held)
        }

    def rewind(self, ends: Mapping[int, int]) -> None:
        """To positions among the tokens that were decoded last, to be rewound, or to the end."""
        for seq, end in ends.items():
            assert self.rewindable.pop(seq, self.length(seq)) <= end <= self.length(seq)
            del self.held[seq][end:]

    def clear(self) -> None:
        self.held = [[] for _ in self.held]
        self._points.clear()

    def trim(self) -> None: ...

    def copy(self, source: int, target: int, start: int = 0, end: int | None = None) -> None:
        assert start == 0 and not self.held[target]
        end = self.length(source) if end is None else end
        self._require(source, end)
        self.held[target] = self.held[source][:end]

    def checkpoint(self, seq: int) -> None:
        if self.rewinds_anywhere:
            return
        if self.budget is not None:
            if self.budget == 0:
                raise CapacityError("no room for a checkpoint")
            self.budget -= 1
        self._points.add(self._serials(self.held[seq]))

    def drop_checkpoints(self) -> bool:
        dropped = bool(self._points)
        self._points.clear()
        return dropped

    def checkpoints(self, seq: int) -> list[int]:
        held = self.held[seq]
        return [p for p in range(1, len(held) + 1) if self._serials(held, p) in self._points]

    def reachable(self, seq: int, position: int) -> int:
        if self.rewinds_anywhere or position >= self.length(seq):
            return position
        return max((p for p in self.checkpoints(seq) if p <= position), default=0)

    def _require(self, seq: int, position: int) -> None:
        nearest = self.reachable(seq, position)
        if nearest != position:
            raise CannotRewind("no state", seq=seq, position=position, nearest=nearest)

    @staticmethod
    def _serials(held: list[tuple[int, int]], count: int | None = None) -> tuple[int, ...]:
        return tuple(serial for _, serial in held[:count])


@dataclass(frozen=True)
class ScriptedOutput:
    logits: np.ndarray


class ScriptedContext:
    """Keeps to the contract of ``Context``; notes the batches, and fails or waits when told to."""

    def __init__(self, model: "ScriptedModel", sequences: int, ubatch: int) -> None:
        self.model = model
        self.max_sequences = sequences
        self.ubatch = ubatch
        self.memory = ScriptedMemory(sequences, model.recurrent)
        self.self_extend: Any = None
        self.batches: list[list[tuple[int, int]]] = []
        """(sequence, position) of every entry of every batch."""
        self.fail: BaseException | None = None
        """Raised by the next decode."""
        self.gate = threading.Event()
        """Cleared, it holds decode back."""
        self.gate.set()
        self.entered = threading.Event()
        """Set when a decode has begun."""
        self._rule = model.rule
        self._decoded = 0

    def notes(self, file: Any) -> dict[str, str]:
        return look(file).notes

    def decode(self, batch: Batch) -> ScriptedOutput:
        self.entered.set()
        assert self.gate.wait(10)
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error
        entries = batch.entries()
        self.memory.rewindable.clear()
        room, held = self.memory.room, sum(map(len, self.memory.held))
        if room is not None and held + len(entries.tokens) > room:
            raise CapacityError(f"{held} tokens held, {len(entries.tokens)} more, room for {room}")
        rows, noted = [], []
        rewindable = entries.rewindable
        for entry, (token, position, number, wanted) in enumerate(
            zip(entries.tokens, entries.positions, entries.set_of, entries.wanted, strict=True)
        ):
            (seq,) = entries.sets[number]
            held = self.memory.held[seq]
            assert position == len(held), "positions continue the memory"
            if rewindable is not None and rewindable[entry]:
                self.memory.rewindable.setdefault(seq, int(position))
            held.append((int(token), self._decoded))
            self._decoded += 1
            noted.append((seq, int(position)))
            if wanted:
                rows.append(self._rule([token for token, _ in held]))
        self.batches.append(noted)
        return ScriptedOutput(np.array(rows, np.float32).reshape(-1, N_VOCAB))


class ScriptedModel:
    """``rule`` gives a row of logits for the tokens of a sequence. ``made``: its last context."""

    name = "scripted"
    bytes_per_token = 1000

    def __init__(
        self,
        rule: Rule = noise,
        tokenizer: ByteTokenizer | None = None,
        config: ScriptedConfig | None = None,
        recurrent: bool = False,
    ) -> None:
        self.rule = rule
        self.recurrent = recurrent
        spec = Recurrent(((1,),)) if recurrent else FullAttention(1, 1, 1)
        self.caches = ((spec,),)
        self.family = self
        self.tokenizer = tokenizer or ByteTokenizer()
        self.config = config or ScriptedConfig()
        self.file = SimpleNamespace(metadata={})
        self.made: ScriptedContext

    def context(
        self,
        self_extend: Any = None,
        context_length: int | None = None,
        max_sequences: int = 1,
        max_tokens: int | None = None,
        ubatch: int = 512,
        split: str = "auto",
        kv_type: str = "auto",
        kv_bytes: int | None = None,
        checkpoint_bytes: int | None = None,
        pooling: str | None = None,
    ) -> ScriptedContext:
        del max_tokens, split, kv_type, kv_bytes, checkpoint_bytes, pooling
        self.made = ScriptedContext(self, max_sequences, ubatch)
        self.made.self_extend = self_extend
        self.made.memory.context_length = context_length or self.config.context_length
        return self.made
