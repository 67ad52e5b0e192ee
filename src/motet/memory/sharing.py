"""Which pages several sequences can share, told from the tokens that they hold."""

import numpy as np

from motet.kernels.paged import PAGE


def page_blocks(owners: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """int64 ``[N]``: the number of the block, from 0, that each token belongs to.

    A block is what a sequence holds in one table entry. ``owners`` and ``positions``: int64
    ``[N]``, sequence after sequence, positions ascending in each.
    """
    entries = positions // PAGE
    begins = (np.diff(owners) != 0) | (np.diff(entries) != 0)
    return np.concatenate([np.zeros(min(1, len(owners)), np.int64), np.cumsum(begins)])


def shared_blocks(blocks: np.ndarray, positions: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """int64 ``[B]``: for each block the one whose page it can live in, often its own.

    A block lives in another's page where that holds all its tokens at the same positions, as
    forks do until they part, and one that went back or stayed behind. ``rows``: equal numbers
    mean one token.
    """
    count = int(blocks[-1]) + 1 if blocks.size else 0
    itself = np.arange(count)
    if count < 2:
        return itself
    places = np.unique((positions << 32) | rows, return_inverse=True)[1].astype(np.int64)
    sizes = np.bincount(blocks, minlength=count)
    by_place = np.lexsort((blocks, -sizes[blocks], places))
    firsts = np.flatnonzero(np.diff(places[by_place], prepend=-1))
    largest = blocks[by_place[firsts]]  # [place]: the largest block with that token there
    last = np.cumsum(sizes) - 1  # the last token of a block is in the fewest others
    home = largest[places[last]]
    stride = int(places.max()) + 1
    found = np.isin(home[blocks] * stride + places, blocks * stride + places)
    whole = np.bincount(blocks[~found], minlength=count) == 0
    target = np.where(whole, home, itself)
    return np.where(target[target] == target, target, itself)
