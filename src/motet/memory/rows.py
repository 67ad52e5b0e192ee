"""Moving tokens, or states, between the arrays where they lie by slot and plain rows."""

from collections.abc import Iterator

import numpy as np

_FEW = 4
"""Runs shorter than this on average are moved by index, all at once."""


def gather(array: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """The rows in ``slots``, contiguous ``[n, …]``.

    ``array``: ``[pages, rows of a page, …]``, in any layout; slot = page × rows of a page + row.
    """
    rows_a_page = array.shape[1]
    if len(slots) < _FEW * _count_runs(slots, rows_a_page):
        return np.ascontiguousarray(array[slots // rows_a_page, slots % rows_a_page])
    out = np.empty((len(slots), *array.shape[2:]), array.dtype)
    for first, last, page, row in _runs(slots, rows_a_page):
        out[first:last] = array[page, row : row + last - first]
    return out


def scatter(array: np.ndarray, slots: np.ndarray, rows: np.ndarray) -> None:
    """Put ``rows`` ``[n, …]`` into ``slots``; the reverse of ``gather``."""
    rows_a_page = array.shape[1]
    if len(slots) < _FEW * _count_runs(slots, rows_a_page):
        array[slots // rows_a_page, slots % rows_a_page] = rows
        return
    turned = array.ndim > 2 and array.strides[-1] != array.itemsize
    for first, last, page, row in _runs(slots, rows_a_page):
        target = array[page, row : row + last - first]
        if turned:  # channels apart from each other: head by head, so that one stays in the cache
            for head in range(array.shape[2]):
                target[:, head] = rows[first:last, head].copy()
        else:
            target[...] = rows[first:last]


def _breaks(slots: np.ndarray, rows_a_page: int) -> np.ndarray:
    """Where a slot does not follow the one before it, or begins a page."""
    return np.flatnonzero((np.diff(slots) != 1) | (slots[1:] % rows_a_page == 0)) + 1


def _count_runs(slots: np.ndarray, rows_a_page: int) -> int:
    return len(_breaks(slots, rows_a_page)) + 1


def _runs(slots: np.ndarray, rows_a_page: int) -> Iterator[tuple[int, int, int, int]]:
    """(first, last + 1, page, row of the first) of slots that follow each other in one page."""
    starts = np.concatenate([[0], _breaks(slots, rows_a_page)])
    ends = np.append(starts[1:], len(slots))
    pages, rows = np.divmod(slots[starts], rows_a_page)
    return zip(starts.tolist(), ends.tolist(), pages.tolist(), rows.tolist(), strict=True)
