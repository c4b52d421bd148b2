"""What {{…}} stands for: a variable, a parser function, a template of the table, an infobox, or nothing."""

from typing import TYPE_CHECKING

from wikigpt.corpus.functions import VARIABLES, call_function
from wikigpt.corpus.infobox import is_infobox, note_facts
from wikigpt.corpus.inline import INLINE, Call, by_prefix
from wikigpt.corpus.languages import DISAMBIGUATION_TEMPLATES
from wikigpt.corpus.marks import ANY_MARK, GONE

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext import Page

MAX_NAME = 120  # characters; MediaWiki allows 255 bytes


def render(parts: list[tuple[str | None, str]], page: "Page") -> str:
    """The wikitext that {{…}} stands for; `parts` are (key or None, value), the name first."""
    head = parts[0][1]
    if ":" in head:
        shown = call_function(head, parts, page)
        if shown is not None:
            return shown
    name = normal_name(head)
    if len(name) > MAX_NAME:
        return GONE
    if name in VARIABLES:
        return VARIABLES[name](page)
    arguments: dict[str, str] = {}
    number = named = 0
    for key, value in parts[1:]:
        if key is None:
            number += 1
            arguments[str(number)] = value
        else:
            arguments[key] = value
            named += 1
    handler = INLINE.get(name) or by_prefix(name)
    if handler is not None:
        return handler(Call(name, arguments, page))
    if name in DISAMBIGUATION_TEMPLATES:
        page.disambiguation = True
        return ""
    if is_infobox(name, named, page):
        note_facts(arguments, page)
        return ""
    return GONE


def normal_name(head: str) -> str:
    """A template's name as the tables have it."""
    name = ANY_MARK.sub("", head).replace("_", " ").strip().lower()
    for prefix in ("template:", "模板:", "subst:", "safesubst:"):
        name = name.removeprefix(prefix)
    return " ".join(name.split())
