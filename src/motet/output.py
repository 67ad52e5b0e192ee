"""What ``decode`` and ``encode`` computed."""

import numpy as np

from motet import checks
from motet.arrays import Float32
from motet.errors import BatchError


class Output:
    """Rows of a batch, in the order in which its entries were added.

    A row is there for each entry that was added with ``logits=True``.
    """

    def __init__(
        self,
        wanted: np.ndarray,
        logits: Float32,
        hidden: Float32 | None,
        pooled: dict[int, Float32],
    ) -> None:
        self.logits = logits
        """float32 ``[wanted rows, n_vocab]``; of ``encode`` none, ``[0, 0]``."""
        self.hidden = hidden
        """float32 ``[wanted rows, d_model]``: the last layer's states, normalised as the output
        head sees them. None where they are pooled."""
        self.pooled = pooled
        """Of each sequence in the batch a vector over all of its tokens so far, float32
        ``[d_model]``, not normalised; with ``pooling="rank"`` a classifier's numbers
        ``[n_labels]``. Empty with ``pooling="none"``."""
        self._wanted = wanted

    def __repr__(self) -> str:
        held: list[str] = []
        rows = 0 if self.hidden is None else len(self.hidden)
        for count, what in (
            (len(self.logits), "row{s} of logits"),
            (rows, "row{s} of hidden states"),
            (len(self.pooled), "pooled vector{s}"),
        ):
            held += [f"{count} {what.format(s='s' * (count != 1))}"] if count else []
        return f"<motet.Output: {', '.join(held) or 'nothing was asked for'}>"

    def __getitem__(self, entry: int) -> np.ndarray:
        """Logits float32 ``[n_vocab]`` of a batch entry, from the end if negative.

        Raises BatchError if there is no such entry, or its logits were not asked for.
        """
        count = len(self._wanted)
        entry = checks.whole("the entry", entry, checks.LEAST)
        if not -count <= entry < count:
            raise BatchError(f"there is no entry {entry}: the batch has {count}", entry=entry)
        if not self._wanted[entry]:
            raise BatchError(
                f"the logits of entry {entry % count} were not asked for",
                entry=entry % count,
                hint="add it with logits=True",
            )
        if not self.logits.size:
            raise BatchError(
                "an encoder computes no logits",
                entry=entry % count,
                hint="see out.hidden, out.pooled",
            )
        return self.logits[np.count_nonzero(self._wanted[: entry % count])]
