# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The functions of `scan`, and conversion by opencc, compiled: the same results, at a few nanoseconds a character.

Each walks over the characters where they lie in memory, one, two or four bytes each, and copies what stays as a
whole. What is rare is left to the Python code, so that the two cannot differ in it.
"""

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_KIND, PyUnicode_Substring
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memmove, memset

from wikigpt.corpus.wikitext import marks
from wikigpt.corpus.wikitext.lines import read_line
from wikigpt.corpus.wikitext.scan import OPENING, comments, visible

cdef extern from "Python.h":
    str PyUnicode_FromKindAndData(int kind, const void *data, Py_ssize_t size)
    bint Py_UNICODE_ISSPACE(uint32_t c) noexcept

cdef fused Char:
    uint8_t
    uint16_t
    uint32_t

cdef uint32_t GONE = ord(marks.GONE)
cdef uint32_t HEADING = ord(marks.HEADING)
cdef uint32_t KEEP_OPEN = ord(marks.KEEP_OPEN)
cdef uint32_t KEEP_CLOSE = ord(marks.KEEP_CLOSE)
cdef uint32_t ZERO = ord(marks.ZERO)
cdef uint32_t RULE = ord(marks.RULE)
cdef Py_ssize_t RULE_BITS = marks.RULE_BITS

# What the ASCII characters are.
cdef enum:
    NO_LINK = 1  # not in the text of a simple link
    NO_LINK_START = 2
    BRACKET = 4
    NOTHING = 8  # stands before a line's beginning
    ITEM = 16
    CLOSING = 32  # what the closing tags begin with that are looked for

cdef enum:
    BLOCK = 32  # characters are looked at in one go where that can be done without branches

cdef uint8_t[128] ASCII
memset(ASCII, 0, sizeof(ASCII))
for _flag, _characters in (
    (NO_LINK, "][{}<>|:=\n\x7f"),
    (NO_LINK_START, "*#;"),
    (BRACKET, "][{}"),
    (NOTHING, f" \t{marks.GONE}"),
    (ITEM, "*#:;"),
    (CLOSING, "nNoOiI"),
):
    for _character in _characters:
        ASCII[<uint32_t> ord(_character)] |= <uint8_t> _flag


cdef inline bint is_a(uint32_t c, int flag) noexcept:
    return c < 128 and ASCII[c] & flag


cdef inline str made(const Char *text, Py_ssize_t start, Py_ssize_t end):
    return PyUnicode_FromKindAndData(sizeof(Char), text + start, end - start)


cdef inline Py_ssize_t copied(const Char *text, Py_ssize_t start, Py_ssize_t end, Char *out) noexcept:
    """How many characters were copied."""
    memcpy(out, text + start, (end - start) * sizeof(Char))
    return end - start


cdef inline Py_ssize_t found(uint32_t c, const Char *text, Py_ssize_t start, Py_ssize_t end) noexcept:
    """Where `c` is next; `end` if nowhere."""
    return found_either(c, c, text, start, end)


cdef inline Py_ssize_t found_either(
    uint32_t c, uint32_t other, const Char *text, Py_ssize_t start, Py_ssize_t end
) noexcept:
    """Where one of two characters is next, which must be among those that `text` can hold."""
    cdef Char first = <Char> c, second = <Char> other, any_is
    cdef int k
    while end - start >= BLOCK:
        any_is = 0
        for k in range(BLOCK):
            any_is |= <Char> (text[start + k] == first) | <Char> (text[start + k] == second)
        if any_is:
            break
        start += BLOCK
    while start < end and text[start] != first and text[start] != second:
        start += 1
    return start


cdef inline Py_ssize_t after(uint32_t c, const Char *text, Py_ssize_t start, Py_ssize_t end) noexcept:
    """Where something else than `c` is next."""
    while start < end and text[start] == c:
        start += 1
    return start


cdef Char *room(const Char *text, Py_ssize_t size) except NULL:
    """Memory for `size` characters like those of `text`."""
    cdef Char *memory = <Char *> PyMem_Malloc((size + 1) * sizeof(Char))
    if memory == NULL:
        raise MemoryError
    return memory


cdef bint _follows(const Char *text, Py_ssize_t size, uint32_t c, str before):
    cdef Py_ssize_t i = found(c, text, 0, size) if <Char> c == c else size
    while i < size:
        if i and <Py_UCS4> text[i - 1] in before:
            return True
        i = found(c, text, i + 1, size)
    return False


def follows(str text not None, Py_UCS4 c, str before not None):
    """See `scan.follows`."""
    cdef void *data = PyUnicode_DATA(text)
    if PyUnicode_KIND(text) == 1:
        return _follows(<uint8_t *> data, len(text), c, before)
    if PyUnicode_KIND(text) == 2:
        return _follows(<uint16_t *> data, len(text), c, before)
    return _follows(<uint32_t *> data, len(text), c, before)


cdef list _places(const Char *text, Py_ssize_t size, uint32_t c):
    cdef list places = []
    cdef Py_ssize_t i = found(c, text, 0, size) if <Char> c == c else size
    while i < size:
        places.append(i)
        i = found(c, text, i + 1, size)
    return places


def places(str text not None, Py_UCS4 c):
    """See `scan.places`."""
    cdef void *data = PyUnicode_DATA(text)
    if PyUnicode_KIND(text) == 1:
        return _places(<uint8_t *> data, len(text), c)
    if PyUnicode_KIND(text) == 2:
        return _places(<uint16_t *> data, len(text), c)
    return _places(<uint32_t *> data, len(text), c)


# Tags

cdef inline bint is_letter(uint32_t c) noexcept:
    return c'a' <= (c | 0x20) <= c'z'


cdef inline bint is_ref(const Char *text) noexcept:
    return (text[0] | 0x20) == c'r' and (text[1] | 0x20) == c'e' and (text[2] | 0x20) == c'f'


cdef Py_ssize_t reference_end(const Char *text, Py_ssize_t start, Py_ssize_t size) noexcept:
    """Where the reference ends whose name ends at `start`; -1 if it is not one without tags in it."""
    cdef Py_ssize_t i = start
    if i < size and Py_UNICODE_ISSPACE(text[i]):
        while i < size and text[i] != c'<' and text[i] != c'>':
            i += 1
    if i == size or text[i] != c'>':
        return -1
    if text[i - 1] == c'/':
        return i + 1
    i = found(c'<', text, i, size)
    if size - i >= 6 and text[i + 1] == c'/' and is_ref(text + i + 2) and text[i + 5] == c'>':
        return i + 6
    return -1


cdef tuple _next_tag(
    const Char *data, Py_ssize_t size, str text, Py_ssize_t position, Py_ssize_t start, names, list out
):
    cdef Py_ssize_t i = start, j, end
    cdef uint32_t c
    while True:
        i = found(c'<', data, i, size)
        if i + 1 >= size:
            return position, -1
        c = data[i + 1]
        if is_letter(c):
            j = i + 2
            while j < size and (is_letter(data[j]) or data[j] == c'-'):
                j += 1
            if j == i + 4 and is_ref(data + i + 1):
                end = reference_end(data, j, size)
                if end >= 0:
                    out.append(PyUnicode_Substring(text, position, i))
                    position = i = end
                    continue
            c = data[j] if j < size else 0
            if c == c'>' or c == c'/' or Py_UNICODE_ISSPACE(c):
                if PyUnicode_Substring(text, i + 1, j).lower() in names:
                    return position, i
                i = j
                continue
            if c < 128:
                i = j
                continue
        elif c == c'!':
            if size - i >= 4 and data[i + 2] == c'-' and data[i + 3] == c'-':
                before, position = comments(text, position, i)
                out.append(before)
                i = position
            else:
                i += 2
            continue
        elif c < 128 and (c != c'/' or (i + 2 < size and data[i + 2] < 128 and not is_a(data[i + 2], CLOSING))):
            i += 1
            continue
        match = OPENING.match(text, i)  # a closing tag, or a name with one of four letters that count as ASCII ones
        if match is not None and match.group(2).lower() in names:
            return position, i
        i += 1


def next_tag(str text not None, Py_ssize_t position, Py_ssize_t start, names, list out not None):
    """See `scan.next_tag`."""
    cdef void *data = PyUnicode_DATA(text)
    cdef Py_ssize_t size = len(text)
    if PyUnicode_KIND(text) == 1:
        return _next_tag(<uint8_t *> data, size, text, position, start, names, out)
    if PyUnicode_KIND(text) == 2:
        return _next_tag(<uint16_t *> data, size, text, position, start, names, out)
    return _next_tag(<uint32_t *> data, size, text, position, start, names, out)


# Headings

cdef list _heading_lines(const Char *text, Py_ssize_t size):
    cdef list headings = []
    cdef Py_ssize_t start = 0, end, i
    while start < size:
        if text[start] == c'=':
            i = found(c'\n', text, start, size)
            end = i
            while text[end - 1] == c' ' or text[end - 1] == c'\t':
                end -= 1
            if end - start >= 2 and text[end - 1] == c'=':
                headings.append((start, end))
            start = i + 1
        else:
            start = found(c'\n', text, start, size) + 1
    return headings


def heading_lines(str text not None):
    """See `scan.heading_lines`."""
    cdef void *data = PyUnicode_DATA(text)
    if PyUnicode_KIND(text) == 1:
        return _heading_lines(<uint8_t *> data, len(text))
    if PyUnicode_KIND(text) == 2:
        return _heading_lines(<uint16_t *> data, len(text))
    return _heading_lines(<uint32_t *> data, len(text))


# Links and brackets

cdef inline Py_ssize_t link_part(const Char *text, Py_ssize_t start, Py_ssize_t end) noexcept:
    """Where the first character is that is not in a simple link's target or text."""
    while start < end and not is_a(text[start], NO_LINK):
        start += 1
    return start


cdef Py_ssize_t without_simple_links(const Char *text, Py_ssize_t size, Char *out) noexcept:
    cdef Py_ssize_t i = 0, kept = 0, written = 0, start, end
    while True:
        i = found(c'[', text, i, size)
        if size - i < 5:  # [[a]]
            break
        if text[i + 1] != c'[' or (i and text[i - 1] == c'['):
            i += 1
            continue
        start = i + 2
        if (
            Py_UNICODE_ISSPACE(text[start])
            or text[start] == c'/'
            or (text[start] == c'.' and text[start + 1] == c'.' and text[start + 2] == c'/')
        ):
            i = start
            continue
        end = link_part(text, start, size)
        if end < size and text[end] == c'|':
            start = end + 1
            end = link_part(text, start, size)
        if (
            start < end
            and size - end >= 2
            and text[end] == c']'
            and text[end + 1] == c']'
            and not (size - end > 2 and text[end + 2] == c']')
            and not Py_UNICODE_ISSPACE(text[start])
            and not is_a(text[start], NO_LINK_START)
            and not Py_UNICODE_ISSPACE(text[end - 1])
        ):
            written += copied(text, kept, i, out + written)
            written += copied(text, start, end, out + written)
            kept = end = end + 2
        i = end
    return written + copied(text, kept, size, out + written)


cdef inline Py_ssize_t next_bracket(const Char *text, Py_ssize_t start, Py_ssize_t end, bint dashes) noexcept:
    """Where one of "[]{}" is next, or a dash."""
    cdef Char small, any_is, dash = c'-' if dashes else c'[' | 0x20
    cdef int k
    while end - start >= BLOCK:
        any_is = 0
        for k in range(BLOCK):
            small = text[start + k] | 0x20  # makes braces of brackets
            any_is |= <Char> (small == c'{') | <Char> (small == c'}') | <Char> (small == dash)
        if any_is:
            break
        start += BLOCK
    while start < end and not (is_a(text[start], BRACKET) or (dashes and text[start] == c'-')):
        start += 1
    return start


cdef list _pieces(const Char *text, Py_ssize_t size, bint variants):
    cdef list out = []
    cdef Py_ssize_t i = 0, start = 0, end
    cdef Char *plain = room(text, size)
    try:
        size = without_simple_links(text, size, plain)
        while True:
            i = next_bracket(plain, i, size, variants)
            if i == size:
                break
            if is_a(plain[i], BRACKET):
                end = after(plain[i], plain, i + 1, size)
                if variants and plain[i] == c'}' and end < size and plain[end] == c'-':
                    end += 1
            elif variants and plain[i] == c'-' and after(c'{', plain, i + 1, size) == i + 2:
                end = i + 2
            else:
                i += 1
                continue
            if end - i > 1:
                out.append(made(plain, start, i))
                out.append(made(plain, i, end))
                start = end
            i = end
        out.append(made(plain, start, size))
    finally:
        PyMem_Free(plain)
    return out


cdef bint _is_balanced(const Char *text, Py_ssize_t size) noexcept:
    cdef Py_ssize_t i = 0, end, templates = 0, links = 0, tables = 0, pairs
    while True:
        i = next_bracket(text, i, size, False)
        if i == size:
            return not templates and not links and not tables
        end = after(text[i], text, i + 1, size)
        pairs = (end - i) // 2
        if text[i] == c'{':
            templates += pairs
            tables += i > 0 and text[i - 1] == c'\n' and i + 1 < size and text[i + 1] == c'|'
        elif text[i] == c'}':
            templates -= pairs
            tables -= i > 1 and text[i - 1] == c'|' and text[i - 2] == c'\n'
        elif text[i] == c'[':
            links += pairs
        else:
            links -= pairs
        i = end


def is_balanced(str text not None):
    """See `scan.is_balanced`."""
    cdef void *data = PyUnicode_DATA(text)
    if PyUnicode_KIND(text) == 1:
        return _is_balanced(<uint8_t *> data, len(text))
    if PyUnicode_KIND(text) == 2:
        return _is_balanced(<uint16_t *> data, len(text))
    return _is_balanced(<uint32_t *> data, len(text))


def pieces(str text not None, bint variants):
    """See `scan.pieces`."""
    cdef void *data = PyUnicode_DATA(text)
    if PyUnicode_KIND(text) == 1:
        return _pieces(<uint8_t *> data, len(text), variants)
    if PyUnicode_KIND(text) == 2:
        return _pieces(<uint16_t *> data, len(text), variants)
    return _pieces(<uint32_t *> data, len(text), variants)


# Lines

cdef Py_ssize_t without_quotes(const Char *text, Py_ssize_t start, Py_ssize_t end, Char *out) noexcept:
    """Write the text without the marks of bold and italic; return its length, -1 if that needs a second look."""
    cdef Py_ssize_t i = start, run, italic = 0, bold = 0, written = 0, begun = 0
    cdef Py_ssize_t after_letter = -1, after_word = -1, after_space = -1, at
    cdef bint bracket = False
    while i < end:
        if text[i] == c"'":
            run = after(c"'", text, i, end) - i
            bold += run > 2
            italic += run == 2 or run > 4
            for _ in range(run if run == 1 else run - 3 if run == 4 else run - 5):  # apostrophes before the marks
                out[written] = text[i]
                written += 1
            i += run
            if run == 3 or run == 4:
                if written > begun and out[written - 1] == c' ':
                    after_space = written if after_space < 0 else after_space
                elif written > begun + 1 and out[written - 2] == c' ':
                    after_letter = written if after_letter < 0 else after_letter
                else:
                    after_word = written if after_word < 0 else after_word
            if run > 1:
                begun = written
        else:
            bracket |= text[i] == c'['
            out[written] = text[i]
            written += 1
            i += 1
    if bracket and (bold or italic):
        return -1
    if bold % 2 and italic % 2:  # one ''' is an apostrophe: see `lines.without_quotes`
        at = after_letter if after_letter >= 0 else after_word if after_word >= 0 else after_space
        if at >= 0:
            memmove(out + at + 1, out + at, (written - at) * sizeof(Char))
            out[at] = c"'"
            written += 1
    return written


cdef Py_ssize_t heading(const Char *line, Py_ssize_t size, bint marked, Char *out) noexcept:
    """Write what a line shows that begins with "="; return the length, -1 if that needs a second look."""
    cdef Py_ssize_t level, i, written = 0
    while is_a(line[size - 1], NOTHING):
        size -= 1
    level = min(after(c'=', line, 0, size), 6, (size - 1) // 2)
    for i in range(level):
        if line[size - 1 - i] != c'=':
            level = i
            break
    if not level:
        return -1
    line += level
    size -= 2 * level
    if not marked:
        return without_quotes_around(line, size, out)
    out[0] = c'\n'
    out[1] = HEADING
    written = 2
    for i in range(max(2, level)):
        out[written] = c'#'
        written += 1
    out[written] = c' '
    written += 1
    i = without_quotes_around(line, size, out + written)
    if i < 0:
        return -1
    written += i
    out[written] = c'\n'
    return written + 1


cdef Py_ssize_t without_quotes_around(const Char *text, Py_ssize_t size, Char *out) noexcept:
    """`without_quotes`, and without the spaces around the text."""
    cdef Py_ssize_t start = 0
    while start < size and Py_UNICODE_ISSPACE(text[start]):
        start += 1
    while size > start and Py_UNICODE_ISSPACE(text[size - 1]):
        size -= 1
    return without_quotes(text, start, size, out)


cdef Py_ssize_t list_item(const Char *line, Py_ssize_t size, Char *out) noexcept:
    """Write what a line shows that begins with one of "*#:;"; return the length, -1 if that needs a second look."""
    cdef Py_ssize_t start = 0, written
    while start < size and is_a(line[start], ITEM):
        start += 1
    cdef uint32_t mark = line[start - 1]
    if mark == c';' and found(c':', line, start, size) < size:
        return -1
    if mark == c':' or mark == c';':
        return without_quotes_around(line + start, size - start, out)
    written = without_quotes_around(line + start, size - start, out + 2)
    if written <= 0:
        return written
    out[0] = c'-'
    out[1] = c' '
    return written + 2


cdef str _read_lines(const Char *text, Py_ssize_t size, bint marked):
    cdef list parts = []
    cdef Py_ssize_t line = 0, end, bare, length, kept = 0, written = 0
    cdef bint quotes, is_heading, is_rule
    cdef uint32_t first
    cdef Char *out = room(text, 2 * size + 8)  # the line "=a=" becomes twice as long
    try:
        while line < size:
            quotes = False
            end = found_either(c'\n', c"'", text, line, size)
            while end < size and text[end] != c'\n':
                quotes |= end + 1 < size and text[end + 1] == c"'"
                end = found_either(c'\n', c"'", text, end + 1, size)
            bare = line
            if end > line and text[line] == GONE:
                while bare < end and is_a(text[bare], NOTHING):
                    bare += 1
            first = text[bare] if bare < end else 0
            is_heading = first == c'=' and end - bare > 2
            is_rule = first == c'-' and after(c'-', text, bare, end) >= bare + 4
            if not (is_heading or is_rule or quotes or is_a(first, ITEM)):
                line = end + 1
                continue
            written += copied(text, kept, line, out + written)
            if is_heading:
                length = heading(text + bare, end - bare, marked, out + written)
            elif is_a(first, ITEM):
                length = list_item(text + bare, end - bare, out + written)
            else:
                length = without_quotes(text, after(c'-', text, bare, end) if is_rule else line, end, out + written)
            if length >= 0:
                written += length
            else:
                parts.append(made(out, 0, written))
                parts.append(read_line(made(text, line, end), marked))
                written = 0
            kept = end
            line = end + 1
        written += copied(text, kept, size, out + written)
        parts.append(made(out, 0, written))
    finally:
        PyMem_Free(out)
    return "".join(parts)


def read_lines(str text not None, bint marked):
    """See `scan.read_lines`."""
    cdef void *data = PyUnicode_DATA(text)
    if PyUnicode_KIND(text) == 1:
        return _read_lines(<uint8_t *> data, len(text), marked)
    if PyUnicode_KIND(text) == 2:
        return _read_lines(<uint16_t *> data, len(text), marked)
    return _read_lines(<uint32_t *> data, len(text), marked)


# Spaces

cdef enum:
    ORDINARY  # as it is in composed form (NFC), whatever stands before it
    SPACE
    INVISIBLE
    OTHER


cdef inline int sort_of(uint32_t c) noexcept:
    """What `scan.visible` does with a character beyond ASCII."""
    if c < 0x300:
        return SPACE if c == 0xA0 else INVISIBLE if c == 0xAD else ORDINARY
    if 0x4E00 <= c < 0xA000 or 0xFF01 <= c < 0xFF5F or 0x3000 <= c < 0x302A:
        return ORDINARY
    if 0x2002 <= c < 0x2070:
        if c <= 0x200A or c == 0x202F or c == 0x205F:
            return SPACE
        if 0x2010 <= c < 0x2028 or 0x2030 <= c < 0x205F:
            return ORDINARY
        if c == 0x200C or c == 0x200D or c == 0x2028 or c == 0x2029 or 0x2061 <= c < 0x2066 or c > 0x2069:
            return OTHER
        return INVISIBLE
    if c == 0xFEFF:
        return INVISIBLE
    if 0x391 <= c < 0x3CF or 0x400 <= c < 0x483 or 0x5D0 <= c < 0x5EB or 0x620 <= c < 0x64B:  # Greek to Arabic
        return ORDINARY
    if 0x3041 <= c < 0x3097 or 0x30A1 <= c < 0x30FF or 0xAC00 <= c < 0xD7A4:  # kana and hangul
        return ORDINARY
    return OTHER


cdef inline bint is_tidy(const Char *text) noexcept:
    """Whether the next characters are ASCII or Chinese ones in one line, and none of them a space behind a space."""
    cdef Char odd = 0, c
    cdef int k
    for k in range(BLOCK):
        c = text[k]
        odd |= <Char> (c < 0x20) | <Char> (c == 0x20) & <Char> (text[k - 1] == 0x20)
        if Char is uint8_t:
            odd |= <Char> (c > 0x7F)
        else:
            odd |= (
                <Char> (c > 0x7F)
                & <Char> (<Char> (c - 0x4E00) >= 0xA000 - 0x4E00)
                & <Char> (<Char> (c - 0x3000) >= 0x302A - 0x3000)
                & <Char> (<Char> (c - 0xFF01) >= 0xFF5F - 0xFF01)
            )
    return not odd


cdef str _tidied(const Char *text, Py_ssize_t size):
    cdef list parts = []
    cdef Py_ssize_t i = 0, line, next_block = 0, begun = 0, written = 0
    cdef uint32_t c
    cdef int sort
    cdef Char *out = room(text, size)
    try:
        while True:
            line = i
            while i < size:
                if i >= next_block and written > begun:
                    while size - i >= BLOCK and is_tidy(text + i) and (text[i] != c' ' or out[written - 1] != c' '):
                        written += copied(text, i, i + BLOCK, out + written)
                        i += BLOCK
                    next_block = i + BLOCK
                    if i == size:
                        break
                c = text[i]
                if c == c'\n':
                    break
                i += 1
                if c > 0x7F:
                    sort = sort_of(c)
                    if sort == INVISIBLE:
                        continue
                    if sort == SPACE:
                        c = c' '
                    elif sort == OTHER:
                        i = found(c'\n', text, i, size)
                        parts.append(made(out, 0, begun))
                        parts.append(visible(made(text, line, i)))
                        begun = written = 0
                        break
                if c == c' ' and written > begun and out[written - 1] == c' ':
                    continue
                if written == begun and Py_UNICODE_ISSPACE(c):
                    continue
                out[written] = c
                written += 1
            while written > begun and Py_UNICODE_ISSPACE(out[written - 1]):
                written -= 1
            if i == size:
                break
            out[written] = c'\n'
            written += 1
            begun = written
            i += 1
        parts.append(made(out, 0, written))
    finally:
        PyMem_Free(out)
    return "".join(parts)


def tidied(str text not None):
    """See `scan.tidied`."""
    cdef void *data = PyUnicode_DATA(text)
    if PyUnicode_KIND(text) == 1:
        return _tidied(<uint8_t *> data, len(text))
    if PyUnicode_KIND(text) == 2:
        return _tidied(<uint16_t *> data, len(text))
    return _tidied(<uint32_t *> data, len(text))


# Sections

cdef Py_ssize_t without_dashes(const Char *text, Py_ssize_t size, Char *out, Py_ssize_t *headings) noexcept:
    """Copy the lines that are not "-" alone; count the marks of headings."""
    cdef Py_ssize_t line = 0, end, written = 0
    headings[0] = 0
    while line <= size:
        end = found_either(c'\n', HEADING, text, line, size)
        while end < size and text[end] != c'\n':
            headings[0] += 1
            end = found_either(c'\n', HEADING, text, end + 1, size)
        if end - line != 1 or text[line] != c'-':
            written += copied(text, line, end, out + written)
            out[written] = c'\n'
            written += 1
        line = end + 1
    return written - 1 if written else 0


cdef str _drop_empty_sections(const Char *text, Py_ssize_t size):
    cdef Py_ssize_t count = 0, number = 0, i, start, end, body, level, below = 0, written = 0
    cdef bint named
    cdef Py_ssize_t *kept = NULL  # where the lead and each section start, and from where on each is kept
    cdef Py_ssize_t *starts
    cdef Char *out = room(text, size)
    try:
        size = without_dashes(text, size, out, &count)
        kept = <Py_ssize_t *> PyMem_Malloc(2 * (count + 2) * sizeof(Py_ssize_t))
        if kept == NULL:
            raise MemoryError
        starts = kept + count + 2
        kept[0] = starts[0] = 0
        i = found(HEADING, out, 0, size)
        while i < size:
            number += 1
            starts[number] = i + 1
            i = found(HEADING, out, i + 1, size)
        starts[count + 1] = size + 1
        for number in range(count, 0, -1):
            start, end = starts[number], starts[number + 1] - 1
            level = after(c'#', out, start, end) - start
            i = start
            while i < end and (out[i] == c'#' or out[i] == c' '):
                i += 1
            named = i < end and out[i] != c'\n'
            body = i = min(found(c'\n', out, i, end) + 1, end)
            while i < end and Py_UNICODE_ISSPACE(out[i]):
                i += 1
            if i < end:
                below = 7
            if named and below > level:
                below = level
                kept[number] = start
            else:
                kept[number] = body
        for number in range(count + 1):
            i, end = kept[number], starts[number + 1] - 1
            while i < end:
                if written == 0 and Py_UNICODE_ISSPACE(out[i]):
                    i += 1
                elif out[i] != c'\n':
                    start = i
                    i = found(c'\n', out, i, end)
                    memmove(out + written, out + start, (i - start) * sizeof(Char))
                    written += i - start
                else:
                    if written < 2 or out[written - 1] != c'\n' or out[written - 2] != c'\n':
                        out[written] = c'\n'
                        written += 1
                    i += 1
        while written and Py_UNICODE_ISSPACE(out[written - 1]):
            written -= 1
        return made(out, 0, written)
    finally:
        PyMem_Free(kept)
        PyMem_Free(out)


def drop_empty_sections(str text not None):
    """See `scan.drop_empty_sections`."""
    cdef void *data = PyUnicode_DATA(text)
    if PyUnicode_KIND(text) == 1:
        return _drop_empty_sections(<uint8_t *> data, len(text))
    if PyUnicode_KIND(text) == 2:
        return _drop_empty_sections(<uint16_t *> data, len(text))
    return _drop_empty_sections(<uint32_t *> data, len(text))


# Variants

cdef inline Py_ssize_t next_control(const Char *text, Py_ssize_t start, Py_ssize_t end) noexcept:
    """Where the next character is that can be one of the marks of `variants`."""
    cdef Char any_is
    cdef int k
    while end - start >= BLOCK:
        any_is = 0
        for k in range(BLOCK):
            any_is |= <Char> (text[start + k] <= 0x04)
        if any_is:
            break
        start += BLOCK
    while start < end and text[start] > 0x04:
        start += 1
    return start


cdef list _cut_at_marks(const Char *text, Py_ssize_t size):
    cdef list out = []
    cdef Py_ssize_t i = 0, start = 0, end
    while True:
        i = next_control(text, i, size)
        if i == size:
            break
        end = i
        if text[i] == KEEP_OPEN or text[i] == KEEP_CLOSE:
            end += 1
        elif text[i] == RULE and size - i > RULE_BITS:
            end += 1
            while end <= i + RULE_BITS and (text[end] == ZERO or text[end] == RULE):
                end += 1
            if end <= i + RULE_BITS:
                end = i
        if end > i:
            out.append(made(text, start, i))
            out.append(made(text, i, end))
            start = i = end
        else:
            i += 1
    out.append(made(text, start, size))
    return out


def cut_at_marks(str text not None):
    """See `scan.cut_at_marks`."""
    cdef void *data = PyUnicode_DATA(text)
    if PyUnicode_KIND(text) == 1:
        return _cut_at_marks(<uint8_t *> data, len(text))
    if PyUnicode_KIND(text) == 2:
        return _cut_at_marks(<uint16_t *> data, len(text))
    return _cut_at_marks(<uint32_t *> data, len(text))


cdef class Words:
    """See `scan.Words`."""

    cdef dict lengths
    cdef uint8_t[1024] starts  # whether a word may begin with a character, by its last bits

    def __cinit__(self, sources not None):
        cdef dict lengths = {}
        cdef str source
        for source in sources:
            lengths.setdefault(source[0], set()).add(len(source))
            self.starts[<uint32_t> source[0] & 1023] = True
        self.lengths = {start: sorted(found, reverse=True) for start, found in lengths.items()}

    def take(self, str text not None, dict words not None, list out not None):
        """See `scan.Words.take`."""
        cdef void *data = PyUnicode_DATA(text)
        if PyUnicode_KIND(text) == 1:
            _take(self, <uint8_t *> data, text, words, out)
        elif PyUnicode_KIND(text) == 2:
            _take(self, <uint16_t *> data, text, words, out)
        else:
            _take(self, <uint32_t *> data, text, words, out)


cdef void _take(Words self, const Char *data, str text, dict words, list out) except *:
    cdef Py_ssize_t i = 0, done = 0, size = len(text), length
    while i < size:
        if self.starts[data[i] & 1023] and (lengths := self.lengths.get(text[i])) is not None:
            for length in lengths:
                target = words.get(PyUnicode_Substring(text, i, min(i + length, size)))
                if target is not None:
                    out.append((False, PyUnicode_Substring(text, done, i)))
                    out.append((True, target))
                    i += length
                    done = i
                    break
            else:
                i += 1
        else:
            i += 1
    out.append((False, PyUnicode_Substring(text, done, size)))


cdef enum:
    ALONE  # is converted whatever its neighbours are
    ODD  # only together with both of them
    SEQUENCE  # with all that follows: begins the description of a character by its parts (⿰氵也)
    MEMBER  # this and the numbers above: one of the characters of phrases


cdef class Converter:
    """`convert`, many times as fast: characters by a table, and what may be a phrase by `convert` itself.

    `phrases` are the words that `convert` looks for, the longest first; a word of one character stands for what may
    happen before that, and is left to `convert` with its neighbours. So are characters beyond the first 65,536.
    """

    cdef object convert
    cdef uint16_t[0x10000] become  # what a character becomes
    cdef uint16_t[0x10000] sort
    cdef Py_ssize_t sorts
    cdef uint8_t *linked  # for each two sorts, whether neighbours of these sorts must be converted together

    def __cinit__(self, convert not None, phrases not None):
        cdef Py_ssize_t i
        cdef uint32_t c
        cdef str phrase
        cdef str old, new
        cdef tuple codes = (*range(1, 10), *range(11, 0x2FF0), *range(0x3000, 0xD800), *range(0xE000, 0x10000))
        cdef list characters = list(map(chr, codes))
        cdef list converted = convert("\n".join(characters)).split("\n")
        self.convert = convert
        for i in range(0x10000):
            self.sort[i] = ODD
        for i in range(len(characters) if len(converted) == len(characters) else 0):
            old, new = characters[i], converted[i]
            if len(new) == 1 and (new == old if old < "\u0100" else new < "\U00010000"):
                c = <Py_UCS4> old
                self.become[c] = <uint16_t> <Py_UCS4> new
                self.sort[c] = ALONE
        self.become[<int> c'\n'] = c'\n'
        self.sort[<int> c'\n'] = ALONE
        for i in range(0xFE00, 0xFE10):  # choose a form of the character before them
            self.sort[i] = ODD
        for i in range(0x2FF0, 0x3000):
            self.sort[i] = SEQUENCE
        self.sort[0] = SEQUENCE  # opencc 1.2 ends there
        self.sorts = MEMBER
        for phrase in phrases:
            for c in phrase:
                if c < 0x10000 and len(phrase) == 1:
                    self.sort[c] = ODD
                elif c < 0x10000 and self.sort[c] == ALONE:
                    self.sort[c] = <uint16_t> self.sorts
                    self.sorts += 1
        self.linked = <uint8_t *> PyMem_Calloc(self.sorts, self.sorts)
        if self.linked == NULL:
            raise MemoryError
        for phrase in phrases:
            for i in range(1, len(phrase)):
                self.linked[sort_in(self, phrase[i - 1]) * self.sorts + sort_in(self, phrase[i])] = True
        for i in range(self.sorts):
            for c in (ODD, SEQUENCE):
                self.linked[i * self.sorts + c] = self.linked[c * self.sorts + i] = True

    def __dealloc__(self):
        PyMem_Free(self.linked)

    def __call__(self, str text not None):
        cdef void *data = PyUnicode_DATA(text)
        if PyUnicode_KIND(text) == 1:
            return _converted(self, <uint8_t *> data, len(text))
        if PyUnicode_KIND(text) == 2:
            return _converted(self, <uint16_t *> data, len(text))
        return _converted(self, <uint32_t *> data, len(text))


cdef inline uint32_t sort_in(Converter self, uint32_t c) noexcept:
    return self.sort[c] if c < 0x10000 else ODD


cdef inline bint are_linked(Converter self, uint32_t sort, uint32_t following) noexcept:
    return self.linked[sort * self.sorts + following]  # nearly always False, which is sooner seen than why


cdef str _converted(Converter self, const Char *text, Py_ssize_t size):
    cdef list parts = []
    cdef Py_ssize_t i = 0, end, kept = 0
    cdef uint32_t sort = sort_in(self, text[0]) if size else ALONE, following
    cdef Char *out = room(text, size)
    try:
        while i < size:
            following = sort_in(self, text[i + 1]) if i + 1 < size else ALONE
            if not are_linked(self, sort, following):
                out[i] = <Char> self.become[text[i]]
                i += 1
                sort = following
                continue
            end = i + 1
            while end < size and are_linked(self, sort, following):
                end = size if sort == SEQUENCE or following == SEQUENCE else end + 1
                sort = following
                following = sort_in(self, text[end]) if end < size else ALONE
            parts.append(made(out, kept, i))
            parts.append(self.convert(made(text, i, end)))
            kept = i = end
            sort = following
        parts.append(made(out, kept, size))
    finally:
        PyMem_Free(out)
    return "".join(parts)
