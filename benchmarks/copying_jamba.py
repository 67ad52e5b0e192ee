"""The circuit of copying_model.py in a Jamba: its convolutions bring the tokens before."""

import numpy as np

from benchmarks.copying_circuit import (
    BEFORE,
    BRIEF,
    CODE,
    CONSTANT,
    HINT,
    TOKEN,
    Builder,
    Codes,
    size,
)
from benchmarks.shapes import Mamba


class JambaBuilder(Builder):
    """Copies and edits. There are no positions, so nothing is quoted at a distance."""

    def __init__(self, shape: Mamba, codes: Codes) -> None:
        super().__init__(shape, codes)
        votes, rules = (i for i in range(shape.layers) if shape.attends(i))
        self.bring(0, TOKEN, BEFORE[:3], size(HINT, before=False))
        self.bring(1, BEFORE[2], BEFORE[3:], size())
        self._linear(0, np.eye(CODE), TOKEN.start, -HINT, size(HINT))
        self.vote(votes, six=True, first=0, strength=1.0)
        self.follow_rules(rules, (0, 1, 2, 3))
        self.tell(shape.layers - 1)
        self.read_answers()

    def bring(self, layer: int, seen: slice, written: list[slice], scale: float) -> None:
        """What the last tokens have in ``seen``, by a Mamba layer whose scan stays empty.

        A channel and its negative pass a convolution of one tap; SiLU(v) − SiLU(−v) = v.
        """
        block, taps = f"blk.{layer}.", 4
        inner = self.shape.d_inner  # pyright: ignore[reportAttributeAccessIssue]
        signals = 2 * BRIEF * len(written)
        gate = 4 / (1 + np.exp(-4))
        self.circuit.put(block + "ssm_b_norm.weight", 0, 0, np.zeros(16))
        self.circuit.clear(block + "ssm_in.weight", 0, signals)
        self.circuit.clear(block + "ssm_in.weight", inner, signals)
        gates = np.full((signals, 32), 4 * scale / 32)
        self.circuit.put(block + "ssm_in.weight", inner, CONSTANT.start, gates)
        self.circuit.put(block + "ssm_conv1d.bias", 0, 0, np.zeros(signals))
        self.circuit.put(block + "ssm_d", 0, 0, np.ones(signals))
        output = block + "ssm_out.weight"
        self.circuit.put(output, 0, 0, np.zeros((self.shape.d_model, signals)))
        for index, channels in enumerate(written):
            for half, sign in enumerate((1, -1)):
                row = BRIEF * (2 * index + half)
                self.circuit.put(block + "ssm_in.weight", row, seen.start, sign * np.eye(BRIEF))
                tap = np.zeros((BRIEF, taps))
                tap[:, taps - 2 - index] = 1
                self.circuit.put(block + "ssm_conv1d.weight", row, 0, tap)
                back = sign * scale / gate * np.eye(BRIEF)
                self.circuit.put(output, channels.start, row, back)
