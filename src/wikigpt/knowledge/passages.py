"""Articles cut into passages: some sentences of one section, never across a heading, plus the infobox as text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from wikigpt.corpus.document import Document, facts_as_text
from wikigpt.corpus.sentences import split_sentences

LEAD, BODY, FACTS = "lead", "body", "facts"

_HEADING = re.compile(r"^(#{2,6})\s+(.*\S)\s*$")


@dataclass(frozen=True, slots=True)
class Piece:
    """A passage before it is stored: `kind` is `LEAD`, `BODY` or `FACTS`, `section` the heading it stands under."""

    kind: str
    section: str
    text: str


def cut(document: Document, size: int) -> Iterator[Piece]:
    """Yield the passages of an article: the infobox's facts, one a line, then the text in order.

    `size` is the length aimed at, in bytes of UTF-8 (a Chinese character is three, so that a passage carries about
    as much in every language). A sentence is never cut, so a long one makes a longer passage.
    """
    lines = facts_as_text(document.facts, document.lang).splitlines()
    for group in _groups(lines, size):
        yield Piece(FACTS, "", "\n".join(group))
    for section, paragraphs in sections(document.text):
        # Paragraphs stay apart by their line break; sentences of one paragraph keep the spaces between them.
        sentences = [
            sentence
            for paragraph in paragraphs
            for sentence in _ending_in_break(split_sentences(paragraph, document.lang))
        ]
        for group in _groups(sentences, size):
            text = _joined(group).strip()
            if text:
                yield Piece(BODY if section else LEAD, section, text)


def sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (heading, lines that are not empty) in order; the lead has the heading ""."""
    heading, lines = "", list[str]()
    for line in text.splitlines():
        if match := _HEADING.match(line):
            if lines:
                yield heading, lines
            heading, lines = match[2], []
        elif line.strip():
            lines.append(line.strip())
    if lines:
        yield heading, lines


def _ending_in_break(sentences: list[str]) -> list[str]:
    return [*sentences[:-1], sentences[-1] + "\n"] if sentences else []


def _joined(sentences: list[str]) -> str:
    """Put sentences together again: no space after a full-width mark, one after any other."""
    text = ""
    for sentence in sentences:
        space = "" if not text or text[-1] == "\n" or text[-1] in "。！？；…”’」』" else " "
        text += space + sentence
    return text


def _groups(pieces: list[str], size: int) -> Iterator[list[str]]:
    """Group neighbours so that each group has about `size` bytes, all groups of one section about the same."""
    lengths = [len(piece.encode()) for piece in pieces]
    wanted = sum(lengths) / max(1, round(sum(lengths) / size))
    group: list[str] = []
    filled = 0
    for piece, length in zip(pieces, lengths, strict=True):
        if group and filled + length / 2 > wanted:
            yield group
            group, filled = [], 0
        group.append(piece)
        filled += length
    if group:
        yield group
