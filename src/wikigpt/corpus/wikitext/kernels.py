"""The passes over a whole page: compiled where that could be built, else in Python, with the same results.

The environment variable WIKIGPT_PURE_PYTHON, if it is not empty, asks for Python.
"""

import os
import re
from collections.abc import Callable, Iterator

__all__ = [
    "Words",
    "compiled",
    "cut_at_marks",
    "drop_empty_sections",
    "follows",
    "heading_lines",
    "is_balanced",
    "matches",
    "next_tag",
    "pieces",
    "places",
    "read_lines",
    "replaced",
    "tidied",
]

try:
    if os.environ.get("WIKIGPT_PURE_PYTHON"):
        raise ImportError
    from wikigpt.corpus.wikitext.native import (
        Words,
        cut_at_marks,
        drop_empty_sections,
        follows,
        heading_lines,
        is_balanced,
        next_tag,
        pieces,
        places,
        read_lines,
        tidied,
    )

    compiled = True
except ImportError:
    from wikigpt.corpus.wikitext.scan import (  # type: ignore[assignment]
        Words,
        cut_at_marks,
        drop_empty_sections,
        follows,
        heading_lines,
        is_balanced,
        next_tag,
        pieces,
        places,
        read_lines,
        tidied,
    )

    compiled = False


def matches(pattern: re.Pattern[str], c: str, text: str) -> Iterator[re.Match[str]]:
    """What `pattern.finditer(text)` gives: sooner, if the pattern begins with the character `c` and that is rare."""
    starts = places(text, c)
    return pattern.finditer(text) if 32 * len(starts) > len(text) else _matches_at(pattern, starts, text)


def _matches_at(pattern: re.Pattern[str], starts: list[int], text: str) -> Iterator[re.Match[str]]:
    end = 0
    for start in starts:
        if start >= end and (match := pattern.match(text, start)):
            end = match.end()
            yield match


def replaced(pattern: re.Pattern[str], c: str, shown: Callable[[re.Match[str]], str], text: str) -> str:
    """What `pattern.sub(shown, text)` gives, likewise."""
    out: list[str] = []
    position = 0
    for match in matches(pattern, c, text):
        out += (text[position : match.start()], shown(match))
        position = match.end()
    return "".join((*out, text[position:])) if out else text
