# cython: language_level=3, boundscheck=False, wraparound=False
"""`dedup.windows_in_python`, compiled."""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy


cdef inline uint64_t word(const unsigned char *text) noexcept nogil:
    """Eight bytes, the first one lowest."""
    cdef uint64_t value
    memcpy(&value, text, 8)
    return value


def windows(bytes text not None, uint64_t[::1] out not None, Py_ssize_t count, bint sampled,
            uint64_t multiplier, uint64_t below):
    """See `dedup.windows_in_python`."""
    if count < 0 or count + len(text) > out.shape[0]:
        raise ValueError("there is no room for a window at each byte")
    cdef const unsigned char *start = <const unsigned char *> (<const char *> text)
    cdef const unsigned char *end = start + len(text) - 31
    cdef uint64_t first, value
    with nogil:
        while start < end:
            first = word(start)
            if not sampled or first * multiplier < below:
                value = first * multiplier ^ word(start + 8)
                value = value * multiplier ^ word(start + 16)
                value = value * multiplier ^ word(start + 24)
                value = (value ^ value >> 32) * multiplier
                out[count] = value
                count += 1
            start += 1
    return count
