"""Sections: those that nobody wants are cut before they cost time, and those that turn out empty are dropped."""

import re
from typing import TYPE_CHECKING

from wikigpt.corpus.languages import DISAMBIGUATION_TEMPLATES
from wikigpt.corpus.wikitext.infobox import is_infobox
from wikigpt.corpus.wikitext.links import link
from wikigpt.corpus.wikitext.marks import HEADING
from wikigpt.corpus.wikitext.templates import normal_name

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext.read import Page

_HEADING_LINE = re.compile(r"\n(=[^\n]*=)[ \t]*(?=\n)")
_AROUND_NAMES = " :：'"
_BRACKETS = (("{{", "}}"), ("[[", "]]"), ("\n{|", "\n|}"))
_PREFIXED_LINK = re.compile(r"\[\[([^][{}|:]+:[^][{}|]*)(?:\|([^][]*))?\]\]")
_TEMPLATE = re.compile(r"\{\{([^{}|]+)")
_EMPTY_LINES = re.compile("\n\n\n+")


def heading(line: str) -> tuple[int, str]:
    """Level and name: as many marks as both sides have; more of them are text, as in MediaWiki."""
    size = len(line)
    left, right = size - len(line.lstrip("=")), size - len(line.rstrip("="))
    level = min(left, right, 6, (size - 1) // 2)
    return level, line[level : size - level].strip()


def cut_sections(text: str, names: frozenset[str], page: "Page") -> str:
    """`text` without the sections of these names (in lower case) and what is below them.

    Their categories, language links and disambiguation templates are noted. A section stays if something opens or
    closes in it that does not close or open there (cutting it could lose text outside of it), or if it has facts.
    """
    if "\n=" not in text and not text.startswith("="):
        return text
    text = f"\n{text}\n"
    headings = list(_HEADING_LINE.finditer(text))
    out: list[str] = []
    position = 0
    for number, match in enumerate(headings):
        # Nearly all names are others, which is seen without looking at levels.
        if match.group(1).strip("=").strip().strip(_AROUND_NAMES).lower() not in names or match.start() < position:
            continue
        level, name = heading(match.group(1))
        if name.strip(_AROUND_NAMES).lower() not in names:
            continue
        following = (headings[later] for later in range(number + 1, len(headings)))
        # A heading of level 1 is shown like one of level 2.
        ends = (later.start() for later in following if 0 < heading(later.group(1))[0] <= max(2, level))
        end = next(ends, len(text))
        if _noted(text[match.start() : end], page):
            out.append(text[position : match.start()])
            position = end
    out.append(text[position:])
    return "".join(out)[1:]


def _noted(section: str, page: "Page") -> bool:
    """Note what a section that may be cut says about the page; False if it has to stay."""
    if page.converts and "-{" in section:  # it may hold conversion rules
        return False
    if any(section.count(opening) != section.count(closing) for opening, closing in _BRACKETS):
        return False
    templates = {normal_name(name) for name in _TEMPLATE.findall(section)}
    if any(is_infobox(name, 2, page) for name in templates):  # facts
        return False
    page.disambiguation = page.disambiguation or not templates.isdisjoint(DISAMBIGUATION_TEMPLATES)
    for target, label in _PREFIXED_LINK.findall(section):
        link([target, label] if label else [target], page)
    page.sections_dropped += 1
    return True


def drop_empty_sections(lines: list[str]) -> str:
    """The lines as a text, without empty list items and headings that nothing follows."""
    lead, *sections = "\n".join([line for line in lines if line != "-"]).split(HEADING)
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
