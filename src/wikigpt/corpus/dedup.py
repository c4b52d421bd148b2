"""Which documents say the same as an earlier one, exactly or nearly, found without holding them in memory.

Nearly the same: two documents are compared by the sets of their 32-byte windows (about five English words or
ten Chinese characters), sketched by MinHash (Broder 1997) and found by bands of equal sketch values.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import rensa
from numpy.typing import NDArray

PERMUTATIONS = 128  # the similarity is known to about 0.03
BANDS = 16  # of 8 values: at similarity 0.9 one of 10,000 pairs is overlooked, at 0.8 one of 20
SEED = 1
KEPT, DUPLICATE, NEAR_DUPLICATE = 0, 1, 2

_MULTIPLIER = 0x9E3779B1  # 2^32 / golden ratio
_SAMPLED_ABOVE = 4_096  # bytes; of longer documents every 16th window is enough
_FEWEST = 16  # windows; a shorter document is not sketched
_BATCH = 1_000_000  # bytes; what fits into the cache
_PARTITION = 4_000_000  # values sorted at once


def checksum(text: bytes) -> int:
    """64 bits that tell texts apart."""
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def sketches(texts: Iterable[bytes]) -> Iterator[bytes | None]:
    """The MinHash sketch of each text, `PERMUTATIONS` values of 32 bits; None for a very short one."""
    held: list[bytes] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= _BATCH:
            yield from _sketched(held)
            held, size = [], 0
    yield from _sketched(held)


def _sketched(texts: list[bytes]) -> Iterator[bytes | None]:
    if not texts:
        return
    windows = _windows(np.frombuffer(b"".join(texts), np.uint8))
    rows: list[NDArray[np.uint64]] = []
    start = 0
    for text in texts:
        own = windows[start : max(start, start + len(text) - 31)]
        start += len(text)
        if len(text) > _SAMPLED_ABOVE:
            own = own[own >> np.uint32(28) == 0]
        rows.append(own.astype(np.uint64))
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(rows), offsets, PERMUTATIONS, SEED)
    for row, digest in zip(rows, matrix.to_rows(), strict=True):
        yield np.array(digest, np.uint32).tobytes() if len(row) >= _FEWEST else None


def _windows(data: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """A polynomial hash of the 32 bytes from each position on."""
    if len(data) < 32:
        return np.zeros(0, np.uint32)
    hashes: NDArray[np.uint32] = np.ndarray(len(data) - 3, np.dtype("<u4"), data, strides=(1,))  # 4 bytes each
    factor = _MULTIPLIER
    for step in (4, 8, 16):  # windows of 8, 16 and 32 bytes
        later = hashes[step:]
        hashes = hashes[:-step] * np.uint32(factor)
        hashes += later
        factor = factor * factor % 2**32
    return hashes


def find_duplicates(
    checksums: NDArray[np.uint64], sketched: NDArray[np.bool_], matrix: Any, threshold: float | None
) -> NDArray[np.uint8]:
    """For each document, in order: `KEPT`, `DUPLICATE`, or `NEAR_DUPLICATE` of an earlier one.

    Args:
        checksums: of the texts.
        sketched: which documents have a row in `matrix`.
        matrix: the sketches in order, `[documents, PERMUTATIONS]` of uint32 (rows of others are not read);
            a memory map will do.
        threshold: similarity (0 to 1) from which a document counts as nearly the same; None: only exact.
    """
    found = np.zeros(len(checksums), np.uint8)
    for _, later in _equal(checksums):
        found[later] = DUPLICATE
    if threshold is None or not sketched.any():
        return found
    width = PERMUTATIONS // BANDS
    numbers = np.flatnonzero(sketched & (found == KEPT))
    for band in range(BANDS):
        values = matrix[numbers, band * width : (band + 1) * width]
        for first, later in _equal(_mixed(values)):
            first, later = numbers[first], numbers[later]
            for start in range(0, len(later), 10_000):
                chunk = slice(start, start + 10_000)
                same = (matrix[first[chunk]] == matrix[later[chunk]]).mean(axis=1) >= threshold
                found[later[chunk][same]] = NEAR_DUPLICATE
    return found


def _mixed(values: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """One 64-bit value for each row."""
    mixed = np.zeros(len(values), np.uint64)
    for column in values.T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _equal(values: NDArray[np.uint64]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Positions of values that occurred before: (where first, where again), partition by partition."""
    partitions = len(values) // _PARTITION + 1
    for partition in range(partitions):
        positions = np.flatnonzero(values % np.uint64(partitions) == partition)
        order = positions[np.argsort(values[positions], kind="stable")]
        ordered = values[order]
        again = np.zeros(len(ordered), bool)
        again[1:] = ordered[1:] == ordered[:-1]
        starts = np.maximum.accumulate(np.where(again, 0, np.arange(len(ordered))))
        yield order[starts[again]], order[again]
