"""Passes over a whole page, a character at a time: what `native` does compiled, in Python.

Each function is a pure one, but that `next_tag` and `Words.take` add to a list; `kernels` chooses between the two.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from wikigpt.corpus.wikitext.lines import STARTS, read_line
from wikigpt.corpus.wikitext.marks import HEADING, KEEP_CLOSE, KEEP_OPEN, RULE, RULE_BITS, ZERO


def follows(text: str, c: str, before: str) -> bool:
    """Whether the character `c` stands right behind one of the characters `before`."""
    return _follows(c, before).search(text) is not None


@cache
def _follows(c: str, before: str) -> re.Pattern[str]:
    return re.compile(f"{re.escape(c)}(?<=[{re.escape(before)}]{re.escape(c)})")  # one character, then back, is fast


def places(text: str, c: str) -> list[int]:
    """Where the character `c` stands."""
    return [match.start() for match in re.finditer(re.escape(c), text)]


# A comment, a reference with no tag in it (most of them: gone in one match), or a tag whose name is looked up.
OPENING = re.compile(
    r"<(?:!--|(ref)(?:\s[^<>]*+)?(?:(?<=/)>|>[^<]*+</ref>)|([a-z][a-z-]*+|/(?:noinclude|onlyinclude|includeonly))(?=[\s/>]))",
    re.IGNORECASE,
)


def next_tag(text: str, position: int, start: int, names: frozenset[str], out: list[str]) -> tuple[int, int]:
    """Drop comments, and references with no tag in them, up to the next opening tag with a name in `names`.

    Up to `position` the text has been read, and up to `start` there are no more tags to find. Appends what is kept
    to `out`; returns the new position, and where the tag starts: -1 if there is none.
    """
    while match := OPENING.search(text, start):
        begin, start = match.span()
        if match.lastindex == 1:
            out.append(text[position:begin])
            position = start
        elif match.lastindex is None:
            before, position = comments(text, position, begin)
            out.append(before)
            start = position
        elif match.group(2).lower() in names:
            return position, begin
    return position, -1


def comments(text: str, position: int, start: int) -> tuple[str, int]:
    """What stands between `position` and the comments at `start`, and where to read on.

    Comments that have their lines to themselves take the spaces around them and the line break along.
    """
    end = start
    while text.startswith("<!--", end):
        close = text.find("-->", end + 4)
        if close < 0:  # it goes on to the end of the page
            return text[position:start], len(text)
        after = close + 3
        end = after
        while text[end : end + 1] in (" ", "\t"):
            end += 1
    before = text[position:start]
    kept = before.rstrip(" \t")
    alone = (kept[-1] if kept else text[position - 1 : position]) == "\n" and text[end : end + 1] in ("\n", "")
    return (kept, end + 1) if alone else (before, after)


_HEADING_LINE = re.compile(r"\n(=[^\n]*=)[ \t]*(?=\n)")


def heading_lines(text: str) -> list[tuple[int, int]]:
    """Where the lines that begin and end with "=" begin and, but for spaces, end."""
    if "\n=" not in text and not text.startswith("="):
        return []
    return [(match.start(), match.end(1) - 1) for match in _HEADING_LINE.finditer(f"\n{text}\n")]


# [[target]] and [[target|text]] without anything that needs a second look: nine links of ten. The one group is
# what is shown, so that joining the pieces of `split` replaces every such link, without a call for each.
_SIMPLE_LINK = re.compile(
    r"\[\[(?<!\[\[\[)(?![\s/]|\.\./)(?:[^][{}<>|:=\n\x7f]*+\|)?+"  # the target, if a text follows
    r"((?![\s*#;])[^][{}<>|:=\n\x7f]++)(?<!\s)\]\](?!\])"
)
_BRACKETS = re.compile(r"(\{\{+|\}\}+|\[\[+|\]\]+)")
_BRACKETS_AND_VARIANTS = re.compile(r"(\{\{+|\}+-|\}\}+|\[\[+|\]\]+|-\{(?!\{))")


_PAIRS = (("{{", "}}"), ("[[", "]]"), ("\n{|", "\n|}"))


def is_balanced(text: str) -> bool:
    """Whether as many templates, links and tables begin in the text as end in it."""
    return all(text.count(opening) == text.count(closing) for opening, closing in _PAIRS)


def pieces(text: str, variants: bool) -> list[str]:
    """Replace links that need no second look by what they show; cut the rest at brackets: text and brackets in turns.

    With `variants`, `-{` and `}-` are brackets too.
    """
    return (_BRACKETS_AND_VARIANTS if variants else _BRACKETS).split("".join(_SIMPLE_LINK.split(text)))


def read_lines(text: str, marked: bool) -> str:
    """The text with each line as `read_line` gives it."""
    # For one character, `in` is several times as fast as for two.
    lines = [
        read_line(line, marked) if line and (line[0] in STARTS or "'" in line) else line for line in text.split("\n")
    ]
    return "\n".join(lines)


_ODD = re.compile("[\u00a0\u00ad\u2002-\u200b\u200e\u200f\u202a-\u202f\u205f\u2060\u2066-\u2069\ufeff]")
_INVISIBLE = frozenset("\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")


def tidied(text: str) -> str:
    """Lines in composed form (NFC), with nothing invisible, single spaces between words and none around."""
    return "\n".join([line.strip() if line.isascii() else visible(line) for line in _single_spaces(text).split("\n")])


def visible(line: str) -> str:
    """The same for one line; all spaces but the ideographic one become ordinary ones."""
    if not line.isprintable():  # no line with such a character is, and this takes a third of the time
        line = _ODD.sub(lambda match: "" if match.group() in _INVISIBLE else " ", line)
    return unicodedata.normalize("NFC", (_single_spaces(line) if "  " in line else line).strip())


def _single_spaces(text: str) -> str:
    """One space for each run of them (by `split`, which takes half the time of a regular expression)."""
    return " ".join([piece.lstrip(" ") for piece in text.split("  ") if piece])


_EMPTY_LINES = re.compile("\n\n\n+")


def drop_empty_sections(text: str) -> str:
    """The text without empty list items and headings that nothing follows, and with one empty line for several."""
    lead, *sections = "\n".join([line for line in text.split("\n") if line != "-"]).split(HEADING)
    kept: list[str] = []
    below = 0  # level of the heading that follows; 7 when text does; 0 at the end of the page
    for section in reversed(sections):
        heading, _, body = section.partition("\n")
        level = len(heading) - len(heading.lstrip("#"))
        if body and not body.isspace():
            below = 7
        if below > level and heading.strip("# "):
            kept.append(section)
            below = level
        else:
            kept.append(body)
    return _EMPTY_LINES.sub("\n\n", "".join((lead, *reversed(kept)))).strip()


# Characters first: several times as fast as a class.
_VARIANT_MARK = re.compile(f"({KEEP_OPEN}|{KEEP_CLOSE}|{RULE}[{ZERO}{RULE}]{{{RULE_BITS}}})")


def cut_at_marks(text: str) -> list[str]:
    """Text and the marks that `variants` left in it (`KEEP_OPEN`, `KEEP_CLOSE`, and those of rules) in turns."""
    return _VARIANT_MARK.split(text)


class Words:
    """What a page's conversion rules replace; `sources` are one or more words, none of them empty."""

    def __init__(self, sources: Iterable[str]) -> None:
        lengths: dict[str, set[int]] = {}
        for source in sources:
            lengths.setdefault(source[0], set()).add(len(source))
        self.lengths = {start: sorted(found, reverse=True) for start, found in lengths.items()}
        self.starts = re.compile(f"[{re.escape(''.join(lengths))}]")

    def take(self, text: str, words: dict[str, str], out: list[tuple[bool, str]]) -> None:
        """Append `text` to `out` in pieces: what replaces a word (True) and what stands between them (False).

        `words` are those of the sources that hold here, and what replaces them; the longest come first.
        """
        done = position = 0
        while match := self.starts.search(text, position):
            at = match.start()
            position = at + 1
            for length in self.lengths[text[at]]:
                target = words.get(text[at : at + length])
                if target is not None:
                    out += [(False, text[done:at]), (True, target)]
                    done = position = at + length
                    break
        out.append((False, text[done:]))
