"""The tokens that the sequences are made of, kept in pages beside their keys and values."""

import numpy as np

from motet.kernels.paged import PAGE, reserve

_TOKEN = np.dtype([("id", np.int32), ("serial", np.int64)], align=True)


class TokenPool:
    """Token ids by slot, and a serial number for each token that was ever decoded.

    Equal serials mean one token, decoded once: its keys and values are the same bits in whichever
    pages they lie. It copies, reads and writes as a KVPool does, so that tokens move with keys.
    """

    def __init__(self, pages: int) -> None:
        self._slots = reserve(pages * PAGE, _TOKEN.itemsize).view(_TOKEN)[:, 0]
        self._decoded = 0

    def put(self, slots: np.ndarray, ids: np.ndarray) -> None:
        """Newly decoded tokens, int32 ``[n]``, into ``slots``."""
        self.put_rows(slots, ids, np.arange(len(ids)))

    def put_rows(self, slots: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> None:
        """Tokens that are new here; those with equal ``rows``, int ``[n]`` from 0, are one."""
        self._slots["id"][slots] = ids
        self._slots["serial"][slots] = self._decoded + rows
        self._decoded += int(rows.max(initial=-1)) + 1

    def ids(self, slots: np.ndarray) -> np.ndarray:
        """int32 ``[n]``."""
        return self._slots["id"][slots]

    def serials(self, slots: np.ndarray) -> np.ndarray:
        """int64 ``[n]``."""
        return self._slots["serial"][slots]

    def copy_page(self, source: int, target: int) -> None:
        self._slots[target * PAGE :][:PAGE] = self._slots[source * PAGE :][:PAGE]

    def read(self, slots: np.ndarray) -> np.ndarray:
        return self._slots[slots]

    def write(self, slots: np.ndarray, raw: np.ndarray) -> None:
        self._slots[slots] = raw
