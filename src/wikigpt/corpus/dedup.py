"""Which documents say the same as an earlier one, exactly or nearly, found without holding them in memory.

Nearly the same: two documents are compared by the sets of their 32-byte windows (about five English words or
ten Chinese characters), sketched by MinHash (Broder 1997) and found by bands of equal sketch values.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import rensa
from numpy.typing import NDArray

PERMUTATIONS = 128  # the similarity is known to about 0.03
BANDS = 16  # of 8 values: at similarity 0.9 one of 10,000 pairs is overlooked, at 0.8 one of 20
SEED = 1
KEPT, DUPLICATE, NEAR_DUPLICATE = 0, 1, 2

_MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio
_EVERY_16TH = 1 << 60
_SAMPLED_ABOVE = 4_096  # bytes; of longer documents every 16th window is enough
_FEWEST = 16  # windows; a shorter document is not sketched
_BATCH = 1_000_000  # bytes; what fits into the cache
_PARTITION = 4_000_000  # values sorted at once


def checksum(text: bytes) -> int:
    """64 bits that tell texts apart."""
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")  # processors have instructions for it


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
    hashes = np.empty(sum(map(len, texts)), np.uint64)
    offsets = [0]
    for text in texts:
        offsets.append(windows(text, hashes, offsets[-1], len(text) > _SAMPLED_ABOVE, _MULTIPLIER, _EVERY_16TH))
    bounds = np.array(offsets, np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes[: offsets[-1]], bounds, PERMUTATIONS, SEED)
    for size, digest in zip(np.diff(bounds), matrix.to_rows(), strict=True):
        yield np.array(digest, np.uint32).tobytes() if size >= _FEWEST else None


def windows_in_python(
    text: bytes, out: NDArray[np.uint64], count: int, sampled: bool, multiplier: int, below: int
) -> int:
    """Write the hash of each 32-byte window of a text to `out`, from `count` on; return how many there are then.

    If they are `sampled`, only of those whose first eight bytes times `multiplier` are less than `below`: windows are
    chosen by what stands there, so that texts that share one choose it both.
    """
    size = len(text) - 31
    if size <= 0:
        return count
    factor = np.uint64(multiplier)
    words: NDArray[np.uint64] = np.ndarray(size + 24, np.dtype("<u8"), text, strides=(1,))  # 8 bytes each
    positions = np.flatnonzero(words[:size] * factor < np.uint64(below)) if sampled else np.arange(size)
    hashes = words[positions]
    for step in (8, 16, 24):
        hashes = hashes * factor ^ words[positions + step]
    hashes ^= hashes >> np.uint64(32)
    hashes *= factor
    out[count : count + len(hashes)] = hashes
    return count + len(hashes)


try:
    if sys.byteorder == "big" or os.environ.get("WIKIGPT_PURE_PYTHON"):
        raise ImportError
    from wikigpt.corpus.windows import windows
except ImportError:
    windows = windows_in_python


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
        mixed = (mixed ^ column) * np.uint64(_MULTIPLIER)
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
