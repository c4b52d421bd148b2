# cython: language_level=3, boundscheck=False, wraparound=False
"""`dump.content_in_python`, compiled."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.string cimport memchr, memcmp, memcpy


def content(bytes data not None, Py_ssize_t start, Py_ssize_t end):
    """See `dump.content_in_python`."""
    start = max(start, 0)
    end = min(end, len(data))
    if start >= end:
        return ""
    cdef const unsigned char *text = <const unsigned char *> (<const char *> data)
    cdef const unsigned char *stop = text + end
    cdef Py_ssize_t i
    cdef unsigned char byte, odd = 0
    for i in range(start, end):  # without branches, so that the compiler makes it sixteen bytes at a time
        byte = text[i]
        odd |= ((byte < 0x20) & (byte != 0x09) & (byte != 0x0A)) | (byte == 0x7F) | (byte == 0x3E) | (byte == 0x3C)
    for i in range(start, end - 2):  # U+FFFE and U+FFFF
        odd |= (text[i] == 0xEF) & (text[i + 1] == 0xBF) & ((text[i + 2] & 0xFE) == 0xBE)
    if odd:
        raise ValueError("markup, control characters, or no characters")
    text += start
    cdef const unsigned char *ampersand = <const unsigned char *> memchr(text, 0x26, stop - text)
    if ampersand == NULL:
        return PyUnicode_DecodeUTF8(<const char *> text, stop - text, NULL)
    cdef char *buffer = <char *> PyMem_Malloc(end - start)
    if buffer == NULL:
        raise MemoryError
    cdef char *out = buffer
    cdef Py_ssize_t left
    try:
        while ampersand != NULL:
            memcpy(out, text, ampersand - text)
            out += ampersand - text
            left = stop - ampersand
            if left >= 4 and memcmp(ampersand, b"&lt;", 4) == 0:
                out[0] = b"<"
                text = ampersand + 4
            elif left >= 4 and memcmp(ampersand, b"&gt;", 4) == 0:
                out[0] = b">"
                text = ampersand + 4
            elif left >= 5 and memcmp(ampersand, b"&amp;", 5) == 0:
                out[0] = b"&"
                text = ampersand + 5
            elif left >= 6 and memcmp(ampersand, b"&quot;", 6) == 0:
                out[0] = b'"'
                text = ampersand + 6
            elif left >= 6 and memcmp(ampersand, b"&#039;", 6) == 0:
                out[0] = b"'"
                text = ampersand + 6
            else:
                raise ValueError("an unknown entity")
            out += 1
            ampersand = <const unsigned char *> memchr(text, 0x26, stop - text)
        memcpy(out, text, stop - text)
        out += stop - text
        return PyUnicode_DecodeUTF8(buffer, out - buffer, NULL)
    finally:
        PyMem_Free(buffer)

