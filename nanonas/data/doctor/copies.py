"""Which images are copies of each other: the same pixels, or nearly.

Near copies are images whose small pictures are correlated. Not all pairs are looked at: a hash has
64 bits, each for the side of a random plane that a picture lies on, so that those of an angle θ
differ in 64 θ/π bits on average (Charikar 2002, https://doi.org/10.1145/509907.509965): 2.9 of
pictures that are just alike enough. Two hashes of 8 bytes that differ by less than 8 bits have a
byte in common, so only images that share a byte, in its place, are compared (Norouzi et al. 2012,
https://arxiv.org/abs/1307.2982). Hashes of DCTs, as of imagehash, missed a tenth of the copies of
digits and of smooth pictures with little noise, whose high frequencies are nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.data.doctor.thumbnails import Thumbnails

_BYTES = 8  # of a hash
_BITS = 7  # that hashes of near copies may differ by: less than `_BYTES`
# Correlation of the small grey pictures of near copies. Of 1,797 digits 9 pairs are as near, and
# all copies with noise of 12 levels.
ALIKE = 0.99
_COLOUR = 24.0  # levels of 255 that the mean of each channel may differ by
_BLOCK = 4_000_000  # hashes that are compared at once
_MOST = 8_000_000_000  # that are compared in all; bytes that many images share are left out first
_BESIDE = 16  # images with the very same hash that each is compared with, where there are many


def same_pixels(parts: Iterable[NDArray[np.uint8]]) -> Integers:
    """Which of the images of several arrays, (n, H, W, C) each, are the same: equal numbers."""
    digests = [
        hashlib.blake2b(image.tobytes(), digest_size=8).digest()
        for images in parts
        for image in images
    ]
    numbers = np.frombuffer(b"".join(digests), np.uint64)
    return np.asarray(np.unique(numbers, return_inverse=True)[1], np.int64)


def near_copies(thumbs: Thumbnails, same: Integers) -> Integers:
    """Which images are copies, or copies of copies: equal numbers, (N,).

    Args:
        thumbs: of N images.
        same: which have the same pixels, (N,), as `same_pixels` says.
    """
    hashes = hashes_of(thumbs.grey)
    first = np.unique(same, return_index=True)[1][same]  # of those with the same pixels
    links = [np.stack([np.arange(len(same)), first], axis=1)]
    rows = np.unique(first)
    rows = rows[thumbs.grey[rows].any(1)]  # those of one colour are copies if pixels are the same
    links += [_links(thumbs, *pair) for pair in _equal_hashes(thumbs, hashes, rows)]
    # of copies with equal hashes one is enough
    known = connected(np.concatenate(links), len(same))[rows].astype(np.uint64)
    rows = rows[np.unique(np.stack([hashes[rows], known]), axis=1, return_index=True)[1]]
    links += [_links(thumbs, *pair) for pair in _near_hashes(hashes[rows], rows)]
    return connected(np.concatenate(links), len(same))


def connected(links: Integers, number: int) -> Integers:
    """A number for each of `number` things, (number,), equal where links, (n, 2), lead from one to
    the other.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(links), np.int8)
    graph = coo_array((ones, (links[:, 0], links[:, 1])), shape=(number, number))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def hashes_of(grey: NDArray[np.float32]) -> NDArray[np.uint64]:
    """(N,), of small grey pictures, (N, d), as vectors."""
    planes = np.random.default_rng(0).normal(size=(grey.shape[1], 8 * _BYTES)).astype(np.float32)
    return np.packbits(grey @ planes > 0, axis=1).view(np.uint64)[:, 0]


def _links(thumbs: Thumbnails, a: Integers, b: Integers) -> Integers:
    """The pairs of images (a, b), (n,) each, that look the same, (m, 2); where they are many, as
    few as lead from each to each.
    """
    kept = []
    for start in range(0, len(a), 50_000):
        x, y = a[start : start + 50_000], b[start : start + 50_000]
        alike = np.einsum("nd,nd->n", thumbs.grey[x], thumbs.grey[y]) >= ALIKE
        alike &= (np.abs(thumbs.colour[x] - thumbs.colour[y]) <= _COLOUR).all(1)
        kept.append(np.stack([x[alike], y[alike]], axis=1))
    pairs = np.concatenate(kept) if kept else np.zeros((0, 2), np.int64)
    if len(pairs) <= len(thumbs.grey):
        return pairs
    together = connected(pairs, len(thumbs.grey))
    _, firsts = np.unique(together, return_index=True)
    return np.stack([np.arange(len(together)), firsts[together]], axis=1)


def _equal_hashes(
    thumbs: Thumbnails, hashes: NDArray[np.uint64], rows: Integers
) -> Iterator[tuple[Integers, Integers]]:
    """Pairs of images with one hash: each with the next few, in the order of their brightness."""
    order = rows[np.lexsort((thumbs.colour[rows].mean(1), hashes[rows]))]
    for beside in range(1, min(_BESIDE, len(order) - 1) + 1):
        a, b = order[:-beside], order[beside:]
        equal = hashes[a] == hashes[b]
        if not equal.any():
            return
        yield a[equal], b[equal]


def _near_hashes(hashes: NDArray[np.uint64], rows: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Pairs of images, from `rows`, (n,), whose hashes, (n,), differ by few bits."""
    octets = np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, _BYTES)
    sizes = np.stack([np.bincount(octet, minlength=256) for octet in octets.T]).astype(np.int64)
    spent = 0
    for place in np.argsort((sizes**2).sum(1), kind="stable"):
        spent += int((sizes[place] ** 2).sum())
        if spent > _MOST:
            return
        order = np.argsort(octets[:, place], kind="stable")
        ends = np.cumsum(sizes[place])
        for start, end in zip(ends - sizes[place], ends, strict=True):
            yield from _within(hashes, order[start:end], rows)


def _within(
    hashes: NDArray[np.uint64], members: Integers, rows: Integers
) -> Iterator[tuple[Integers, Integers]]:
    """Those pairs among `members`, (m,), places in `hashes` and `rows`."""
    step = max(1, _BLOCK // max(1, len(members)))
    for start in range(0, len(members), step):
        some = members[start : start + step]
        differing = hashes[some][:, None] ^ hashes[members][None]
        a, b = np.nonzero(_ones(differing) <= _BITS)
        before = b > a + start
        if before.any():
            yield rows[some[a[before]]], rows[members[b[before]]]


def _ones(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """How many bits of each are set."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        counts: NDArray[np.uint8] = np.bitwise_count(values)
        return counts
    halves = np.ascontiguousarray(values)[..., None].view(np.uint16)
    return np.asarray(_ONES[halves].sum(-1), np.uint8)


_ONES = np.unpackbits(np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(
    axis=1, dtype=np.uint8
)
