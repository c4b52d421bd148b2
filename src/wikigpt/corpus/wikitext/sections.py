"""Sections: those that nobody wants are cut before they cost time, and those that turn out empty are dropped."""

import re
from typing import TYPE_CHECKING

from wikigpt.corpus.languages import DISAMBIGUATION_TEMPLATES
from wikigpt.corpus.wikitext.infobox import is_infobox
from wikigpt.corpus.wikitext.kernels import heading_lines, is_balanced
from wikigpt.corpus.wikitext.lines import heading
from wikigpt.corpus.wikitext.links import link
from wikigpt.corpus.wikitext.templates import normal_name

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext.read import Page

_AROUND_NAMES = " :：'"
_PREFIXED_LINK = re.compile(r"\[\[([^][{}|:]+:[^][{}|]*)(?:\|([^][]*))?\]\]")
_TEMPLATE = re.compile(r"\{\{([^{}|]+)")


def cut_sections(text: str, names: frozenset[str], page: "Page") -> str:
    """`text` without the sections of these names (in lower case) and what is below them.

    Their categories, language links and disambiguation templates are noted. A section stays if something opens or
    closes in it that does not close or open there (cutting it could lose text outside of it), or if it has facts.
    """
    headings = heading_lines(text)
    out: list[str] = []
    position = 0
    for number, (start, end) in enumerate(headings):
        line = text[start:end]
        # Nearly all names are others, which is seen without looking at levels.
        if line.strip("=").strip().strip(_AROUND_NAMES).lower() not in names or start < position:
            continue
        level, name = heading(line)
        if name.strip(_AROUND_NAMES).lower() not in names:
            continue
        following = (headings[later] for later in range(number + 1, len(headings)))
        # A heading of level 1 is shown like one of level 2.
        ends = (begin for begin, end in following if 0 < heading(text[begin:end])[0] <= max(2, level))
        section_end = next(ends, len(text))
        if _noted(text[start:section_end], page):
            out.append(text[position:start])
            position = section_end
    return "".join((*out, text[position:])) if out else text


def _noted(section: str, page: "Page") -> bool:
    """Note what a section that may be cut says about the page; False if it has to stay."""
    if page.converts and "-{" in section:  # it may hold conversion rules
        return False
    if not is_balanced(section):
        return False
    templates = {normal_name(name) for name in _TEMPLATE.findall(section)}
    if any(is_infobox(name, 2, page) for name in templates):  # facts
        return False
    page.disambiguation = page.disambiguation or not templates.isdisjoint(DISAMBIGUATION_TEMPLATES)
    for target, label in _PREFIXED_LINK.findall(section):
        link([target, label] if label else [target], page)
    page.sections_dropped += 1
    return True
