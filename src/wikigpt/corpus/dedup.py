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

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_EVERY_16TH = np.uint64(1 << 60)
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
    data = b"".join(texts)
    words: NDArray[np.uint64] = np.ndarray(max(0, len(data) - 7), np.dtype("<u8"), data, strides=(1,))  # 8 bytes each
    # Chosen by what stands there, so that texts that share a window choose it both.
    chosen = words * _MULTIPLIER < _EVERY_16TH
    ends = np.cumsum([len(text) for text in texts])
    starts = ends - [len(text) for text in texts]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - start <= _SAMPLED_ABOVE:
            chosen[start:end] = True
        chosen[max(start, end - 31) : end] = False  # no whole window begins here
    positions = np.flatnonzero(chosen)
    windows = words[positions]
    for step in (8, 16, 24):
        windows = windows * _MULTIPLIER ^ words[positions + step]
    windows ^= windows >> np.uint64(32)
    windows *= _MULTIPLIER
    offsets = np.searchsorted(positions, [0, *ends]).astype(np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(windows, offsets, PERMUTATIONS, SEED)
    for size, digest in zip(np.diff(offsets), matrix.to_rows(), strict=True):
        yield np.array(digest, np.uint32).tobytes() if size >= _FEWEST else None


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
        mixed = (mixed ^ column) * _MULTIPLIER
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
