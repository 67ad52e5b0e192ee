"""The circuit of copying_model.py: what is built into a model's weights, and where."""

from dataclasses import dataclass, field

import numpy as np

from benchmarks.shapes import Attention, Mamba
from motet.arrays import Float32

BOS, FIRST_WORD = 2, 268
OPEN, CLOSE, ARROW, SEPARATOR, SUMMARISE, *MARKS = range(260, FIRST_WORD)
"""Ids with a meaning to the circuit; MARKS, one after the other, stand before a text."""

BASE = 1e20
"""Of the rotary embedding."""

CODE, BRIEF, PART, HEAD = 512, 64, 128, 128
"""Signs of a code; of those that later tokens see; channels that a head says; a head's size."""
TOKEN, ANSWER = slice(0, CODE), slice(CODE, 2 * CODE)
BEFORE = [slice(start, start + BRIEF) for start in range(1024, 1408, BRIEF)]
CONSTANT, IS_FIRST, IS_TASK = slice(1408, 1440), slice(1440, 1456), slice(1456, 1472)
ALLOWED = slice(1472, 1488)
CLOSED = [slice(start, start + 8) for start in range(1488, 1520, 8)]
"""Whether this token is CLOSE, and the one, two, three before it."""
OPENED = [slice(1520, 1528), slice(1528, 1536)]
"""Whether this token is OPEN, and the one before it."""
WIDTH = 1536
GROUP = 512
"""Rows that are made at once."""

HINT = 0.25
"""How much of a token's code its embedding has in ``ANSWER``; layer 0 takes it away again."""
FIRST = 7.5
"""What the first token has in ``IS_FIRST``: it is as large as others are."""
NOISE = 0.01
"""What a random attention or MLP writes, beside 1 of the circuit."""
SHARPNESS = 25.0
"""Of an attention score, for each token that agrees."""
ENOUGH, OF_SIX, ARROWED = 1.5, 2.0, 1.65
"""Agreement at which a copy goes on: of three tokens, of six; and at which a rule holds."""
COPY_LOGIT, STORY_LOGITS = 20.0, 1.6
"""A copied token's logit, and the standard deviation of those of own words."""
RULE, QUOTE = 2.2, 0.7
"""What an edit and the beginning of a quote add to ``ANSWER``, beside a copy's 1."""
PERIOD, ORDER = 3, 8
"""Pairs of channels that turn round in 54 tokens, for quotes, and in 1,987, for their order."""
SINK = 63
"""A pair of channels that hardly turns, in which attention finds the first token."""
SCALE = HEAD**0.5
KEY = 20.0


def size(answer: float = 0.0, before: bool = True) -> float:
    """Root mean square of a position's states, with so much in each channel of ``ANSWER``."""
    return ((CODE * (1 + answer**2) + 6 * BRIEF * before + 32) / WIDTH) ** 0.5


@dataclass
class Circuit:
    """What is built into tensors: rows that are cleared, then blocks of values."""

    cleared: dict[str, list[slice]] = field(default_factory=dict)
    blocks: dict[str, list[tuple[int, int, Float32]]] = field(default_factory=dict)

    def clear(self, name: str, start: int, rows: int) -> None:
        self.cleared.setdefault(name, []).append(slice(start, start + rows))

    def put(self, name: str, row: int, column: int, values: np.ndarray) -> None:
        """A block of a matrix; ``row`` 0 of a vector."""
        block = np.atleast_2d(values).astype(np.float32)
        self.blocks.setdefault(name, []).append((row, column, block))

    def put_column(self, name: str, row: int, column: int, values: np.ndarray) -> None:
        self.put(name, row, column, values[:, None])

    def apply(self, name: str, first: int, rows: Float32) -> None:
        """Build into the rows of a tensor from ``first`` on what belongs there."""
        last = first + len(rows)
        for span in self.cleared.get(name, []):
            rows[max(span.start - first, 0) : max(span.stop - first, 0)] = 0
        for row, column, block in self.blocks.get(name, []):
            top, end = max(row, first), min(row + len(block), last)
            if top < end:
                columns = slice(column, column + block.shape[1])
                rows[top - first : end - first, columns] = block[top - row : end - row]


class Builder:
    """Parts of the circuit that attention with and without positions shares."""

    def __init__(self, shape: Attention | Mamba, codes: "Codes") -> None:
        if (shape.d_model, shape.head_dim) != (WIDTH, HEAD):
            raise ValueError("the circuit is laid out for a width of 1536 with heads of 128")
        self.shape, self.codes, self.circuit = shape, codes, Circuit()
        self._groups, self._shared = shape.kv_heads, shape.heads // shape.kv_heads
        self._rng = np.random.default_rng(14)

    def vote(self, layer: int, six: bool, first: int, strength: float) -> None:
        """Induction heads, which compare the last three tokens or six, the farther ones half as
        much. The first says part ``first`` of codes."""
        block, scale = f"blk.{layer}.", size()
        weights = (1.0, 1.0, 1.0, 0.5, 0.5, 0.5) if six else (1.0, 1.0, 1.0)
        pairs = 48 // len(weights)
        for group in range(self._groups):
            self._begin_head(layer, self._shared * group, group)
            row, key_row = self._shared * group * HEAD, group * HEAD
            for slot, weight in enumerate(weights):
                asked, found = [TOKEN, *BEFORE][slot], BEFORE[slot]
                agreed = scale * (weight * SHARPNESS * SCALE / (2 * pairs)) ** 0.5
                signs = self._some_signs(2 * pairs)
                for half in range(2):
                    at, part = 14 + pairs * slot + 64 * half, signs[half::2]
                    query, key = (block + f"attn_{name}.weight" for name in "qk")
                    self.circuit.put(query, row + at, asked.start, agreed * part)
                    self.circuit.put(key, key_row + at, found.start, agreed * part)
            one = self._sink(layer, group, OF_SIX if six else ENOUGH, scale)
            values = np.full(8, (0.75 - (OF_SIX if six else ENOUGH)) * one / 8)
            self.circuit.put(block + "attn_q.weight", row + SINK, OPENED[1].start, values)
            for more, flag in zip((4, 3, 2, 1), CLOSED, strict=True):
                values = np.full(8, more * one / 8)
                self.circuit.put(block + "attn_q.weight", row + SINK, flag.start, values)
            turned = 1900 * BASE ** (-ORDER / 64)
            for at, value in ((ORDER, np.cos(turned)), (ORDER + 64, -np.sin(turned))):
                values = np.full(8, 200 * one * value / 8)
                self.circuit.put(block + "attn_q.weight", row + at, OPENED[0].start, values)
            values = np.full(8, KEY * scale / 8)
            self.circuit.put(block + "attn_k.weight", key_row + ORDER, OPENED[1].start, values)
            self._say(layer, group, (first + group) % 4, strength)

    def _some_signs(self, count: int) -> np.ndarray:
        """[count, BRIEF]: a matrix that takes some of a code's signs."""
        return np.eye(BRIEF)[self._rng.permutation(BRIEF)[:count]]

    def follow_rules(self, layer: int, parts: tuple[int, ...]) -> None:
        """The token voted for, two in front of what an arrow leads to, gives way to it."""
        block, asking, scale = f"blk.{layer}.", size(1.0), size()
        signs = (SHARPNESS * SCALE / BRIEF) ** 0.5 * np.eye(BRIEF)
        for group, part in enumerate(parts):
            self._begin_head(layer, self._shared * group, group)
            row, key_row = self._shared * group * HEAD, group * HEAD
            query, key = (block + f"attn_{name}.weight" for name in "qk")
            for half in range(2):
                at, rows = 22 + 64 * half, signs[half::2]
                self.circuit.put(query, row + at, ANSWER.start, asking * rows)
                self.circuit.put(key, key_row + at, BEFORE[1].start, scale * rows)
            arrow = KEY * scale * self.codes[ARROW][:BRIEF] / BRIEF
            self.circuit.put(key, key_row + 55, BEFORE[0].start, arrow)
            one = self._sink(layer, group, ARROWED, asking)
            self.circuit.put(query, row + 55, CONSTANT.start, np.full(32, one / 32))
            self._say(layer, group, part, RULE)

    def tell(self, layer: int) -> None:
        """Own words: a random map of the last three tokens."""
        inputs = self._rng.standard_normal((CODE, BEFORE[1].stop))
        inputs[:, ANSWER] = 0
        inputs[:, BEFORE[0].start :] *= 2
        inputs *= (CODE + 4 * 2 * BRIEF) ** -0.5
        self._linear(layer, inputs, 0, self.story(), size(0.6))

    @staticmethod
    def story() -> float:
        """Own words' size in ``ANSWER``, beside a copy's 1."""
        return STORY_LOGITS / COPY_LOGIT * CODE**0.5

    def read_answers(self) -> None:
        """The last norm lets the head read ``ANSWER`` and what is allowed at all."""
        end = size((1 + self.story() ** 2) ** 0.5)
        weight = np.zeros(WIDTH)
        weight[ANSWER] = COPY_LOGIT * end / (CODE * HINT)
        weight[ALLOWED] = 15 * end / 16
        self.circuit.put("output_norm.weight", 0, 0, weight)

    def _begin_head(self, layer: int, head: int, group: int | None) -> None:
        """Nothing random in and behind a query head, and in its group's keys and values."""
        block = f"blk.{layer}."
        self.circuit.put(block + "attn_output.weight", 0, head * HEAD, np.zeros((WIDTH, HEAD)))
        for name, start in (("q", head), *(() if group is None else (("k", group), ("v", group)))):
            self.circuit.clear(f"{block}attn_{name}.weight", start * HEAD, HEAD)
            self.circuit.put(f"{block}attn_{name}.bias", 0, start * HEAD, np.zeros(HEAD))

    def _read(self, layer: int, name: str, group: int, values: np.ndarray, column: int) -> None:
        self.circuit.put(f"blk.{layer}.attn_{name}.weight", group * HEAD, column, values)

    def _sink(self, layer: int, group: int, threshold: float, asking: float) -> float:
        """The first token has this score, in tokens that agree; what makes it one more."""
        first = np.full(16, KEY * size() / (16 * FIRST))
        block = f"blk.{layer}."
        self.circuit.put(block + "attn_k.weight", group * HEAD + SINK, IS_FIRST.start, first)
        one = SHARPNESS * SCALE / KEY * asking
        asked = np.full(32, threshold * one / 32)
        self.circuit.put(
            block + "attn_q.weight", self._shared * group * HEAD + SINK, CONSTANT.start, asked
        )
        return one

    def _say(self, layer: int, group: int, part: int, strength: float) -> None:
        """A head adds a quarter of the code of what it sees to ``ANSWER``."""
        self._read(layer, "v", group, size() * np.eye(PART), TOKEN.start + part * PART)
        name, row = f"blk.{layer}.attn_output.weight", ANSWER.start + part * PART
        self.circuit.put(name, row, self._shared * group * HEAD, strength * np.eye(PART))

    def _linear(
        self, layer: int, inputs: np.ndarray, column: int, strength: float, asking: float
    ) -> None:
        """Add a linear map to ``ANSWER`` by an MLP, whose gates are then constant."""
        block, count = f"blk.{layer}.", len(inputs)
        for name in ("ffn_gate", "ffn_up"):
            self.circuit.clear(f"{block}{name}.weight", 0, count)
        gates = np.full((count, 32), 4 * asking / 32)
        self.circuit.put(block + "ffn_gate.weight", 0, CONSTANT.start, gates)
        self.circuit.put(block + "ffn_up.weight", 0, column, inputs)
        gate = 4 / (1 + np.exp(-4))
        self.circuit.put(block + "ffn_down.weight", 0, 0, np.zeros((WIDTH, count)))
        written = strength * asking / gate * np.eye(CODE)
        self.circuit.put(block + "ffn_down.weight", ANSWER.start, 0, written)


class AttentionBuilder(Builder):
    """The whole circuit, over the layers of a model with rotary embedding."""

    def __init__(self, shape: Attention, codes: "Codes") -> None:
        super().__init__(shape, codes)
        last = shape.layers - 1
        late = max(last - 4, 5)
        self.bring_tokens_before(0)
        for index, layer in enumerate(np.linspace(1, late - 1, 4).astype(int)):
            self.vote(int(layer), index > 1, 2 * index, 0.6 if index > 1 else 0.4)
        self.follow_rules(late, (2, 3))
        self.follow_rules(late + 1, (0, 1))
        self.begin_quotes(last)
        self.tell(last)
        self.read_answers()

    def bring_tokens_before(self, layer: int) -> None:
        """Six heads that see one distance each; and the MLP takes the embedding's hint away."""
        block, pairs = f"blk.{layer}.", np.arange(12)
        angles = BASE ** (-pairs / 64)
        strength = (20 * SCALE) ** 0.5
        self._begin_head(layer, 0, 0)
        self.circuit.put(block + "attn_k.bias", 0, 0, np.full(12, strength))
        self._read(layer, "v", 0, np.eye(BRIEF), TOKEN.start)
        for row, flag in ((BRIEF, CLOSED[0]), (BRIEF + 1, OPENED[0])):
            self.circuit.put(block + "attn_v.weight", row, flag.start, np.full(8, 1 / 8))
        scale, output = size(HINT, before=False), block + "attn_output.weight"
        for index, channels in enumerate(BEFORE):
            start, distance = index * HEAD, index + 1
            if index:
                self._begin_head(layer, index, None)
            turned = -distance * angles
            self.circuit.put(block + "attn_q.bias", 0, start, strength * np.cos(turned))
            self.circuit.put(block + "attn_q.bias", 0, start + 64, strength * np.sin(turned))
            self.circuit.put(output, channels.start, start, scale * np.eye(BRIEF))
            for row, flags in ((BRIEF, CLOSED), (BRIEF + 1, OPENED)):
                if distance < len(flags):
                    place = flags[distance].start
                    self.circuit.put_column(output, place, start + row, np.full(8, scale))
        self._linear(layer, np.eye(CODE), TOKEN.start, -HINT, size(HINT))

    def begin_quotes(self, layer: int) -> None:
        """At a distance of 25 and then every 54 tokens from ``SUMMARISE``, OPEN."""
        block, pair, strength = f"blk.{layer}.", PERIOD, 400.0
        angle = BASE ** (-pair / 64)
        asked = strength * SCALE / KEY
        self._begin_head(layer, 0, 0)
        task = np.full(16, KEY * size() / 16)
        self.circuit.put(block + "attn_k.weight", pair, IS_TASK.start, task)
        first = np.full(16, KEY * size() / (16 * FIRST))
        self.circuit.put(block + "attn_k.weight", SINK, IS_FIRST.start, first)
        for at, value in (
            (pair, np.cos(-25 * angle)),
            (pair + 64, np.sin(-25 * angle)),
            (SINK, np.cos(0.19)),
        ):
            self.circuit.put(block + "attn_q.bias", 0, at, np.full(1, asked * value))
        for flag in OPENED:
            never = np.full(8, asked * size() / 8)
            self.circuit.put(block + "attn_q.weight", SINK, flag.start, never)
        self.circuit.put(block + "attn_v.weight", 0, IS_TASK.start, np.full(16, size() / 16))
        said = QUOTE * self.codes[OPEN]
        self.circuit.put_column(block + "attn_output.weight", ANSWER.start, 0, said)


class Codes:
    """Random signs for every token of a vocabulary."""

    def __init__(self, count: int) -> None:
        self.count = count

    def rows(self, group: int) -> Float32:
        """Of ``GROUP`` tokens."""
        rng = np.random.Generator(np.random.SFC64([14, group]))
        bits = rng.integers(0, 2, (min(GROUP, self.count - group * GROUP), CODE), np.int8)
        return (2 * bits - 1).astype(np.float32)

    def __getitem__(self, token: int) -> Float32:
        return self.rows(token // GROUP)[token % GROUP]

    def embeddings(self, group: int) -> Float32:
        codes = self.rows(group)
        rows = np.zeros((len(codes), WIDTH), np.float32)
        rows[:, TOKEN], rows[:, ANSWER] = codes, HINT * codes
        rows[:, CONSTANT] = rows[:, ALLOWED] = 1
        first = group * GROUP
        rows[: max(OPEN - first, 0), ALLOWED] = -1
        if first == 0:
            rows[BOS, TOKEN] = rows[BOS, ANSWER] = 0
            rows[BOS, IS_FIRST] = FIRST
            rows[SUMMARISE, IS_TASK] = 1
            rows[CLOSE, CLOSED[0]] = rows[OPEN, OPENED[0]] = 1
        return rows
