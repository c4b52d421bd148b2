"""Third stage, line by line: tables, headings, lists, bold and italic."""

import re
from typing import TYPE_CHECKING

from wikigpt.corpus.wikitext.kernels import follows, read_lines
from wikigpt.corpus.wikitext.tables import has_tables, take_tables

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext.read import Page


def lay_out(text: str, page: "Page", *, headings: bool = False) -> str:
    """Drop or flatten tables, turn headings and lists into their plain form, undo quotes.

    With `headings`, each heading is marked for `drop_empty_sections`; without, it is a line like any other.
    """
    if has_tables(text):
        text = "\n".join(take_tables(text.split("\n"), keep=page.keep_tables))
    if headings and follows(text, "/", "<") and _HEADING_END.search(text):
        text = _HTML_HEADING.sub(_wiki_heading, text)
    text = read_lines(text, headings)
    if follows(text, "]", "]") or follows(text, "}", "}"):
        text = "\n".join(map(_without_strays, text.split("\n")))
    return text


_HEADING_END = re.compile(r"<(?=/[hH][1-6])")
_HTML_HEADING = re.compile(r"<h([1-6])(?=[\s>])[^<>]*>((?:[^<]|<(?!/?h[1-6]))*+)</h[1-6]\s*>", re.IGNORECASE)


def _wiki_heading(match: re.Match[str]) -> str:
    marks, name = "=" * int(match.group(1)), " ".join(match.group(2).split())
    return f"\n{marks} {name} {marks}\n" if name else ""


def _without_strays(line: str) -> str:
    """Remove closing marks that nothing on the line opens (but leave `a[b[0]]`)."""
    for opening, closing in ("[]", "{}"):
        if closing * 2 in line and line.count(closing) > line.count(opening):
            line = _without_surplus(line, opening, closing)
    return line


def _without_surplus(line: str, opening: str, closing: str) -> str:
    kept: list[str] = []
    depth = 0
    for marks in re.split(rf"(\{opening}+|\{closing}+)", line):
        if marks[:1] == opening:
            depth += len(marks)
        elif marks[:1] == closing:
            surplus = len(marks) - depth
            if surplus > 0 and len(marks) > 1:
                marks = marks[surplus:]
            depth = max(0, depth - len(marks))
        kept.append(marks)
    return "".join(kept)
