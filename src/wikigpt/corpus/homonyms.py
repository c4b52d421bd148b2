"""Disambiguation pages: what they lead to, and how a dump says which of its templates mark them.

The marks of many wikis are known (`languages.DISAMBIGUATION_TEMPLATES`). Any other wiki's are in its own dump: on
templates that carry `__DISAMBIG__` (https://www.mediawiki.org/wiki/Extension:Disambiguator), or linked from
`MediaWiki:Disambiguationspage`, as wikis had it before.
"""

import re
from collections.abc import Iterator

from wikigpt.corpus.dump import Page
from wikigpt.corpus.languages import DISAMBIGUATION_TITLE, capital
from wikigpt.corpus.wikitext.kernels import follows
from wikigpt.corpus.wikitext.templates import normal_name

MESSAGES, TEMPLATES = 8, 10  # numbers of namespaces
MAX_CHARS = 20_000  # of a page that may be one; long pages are articles
FEWEST = 2  # titles with the page's own name among the links of its list

_LISTED_LINK = re.compile(r"\n[*#:]++[^\[\n]*+\[\[([^\[\]|#\n]+)")
_SWITCH = re.compile(r"__(?:DISAMBIG|消歧义|消歧義|消歧)__", re.IGNORECASE)
_BOX = re.compile(r"\{\{([^{}|\n]{1,80})(?:\|[^{}\n]{0,80})?\}\}")
_TEMPLATE_LINK = re.compile(r"\[\[[^\[\]|:\n]{1,40}:([^\[\]|\n]{1,80})")


def homonyms(page: Page) -> Iterator[tuple[str, str]]:
    """What a disambiguation page leads to: its name and each listed title that holds the name."""
    name = DISAMBIGUATION_TITLE.sub("", capital(page.title))
    folded = name.casefold()
    for link in _LISTED_LINK.findall(f"\n{page.text}"):
        if folded in link.casefold().replace("_", " ") and (target := capital(link)) != name:
            yield name, target


def switched_on(page: Page) -> bool:
    """Whether the page says itself that it is one."""
    return follows(page.text, "_", "_") and _SWITCH.search(page.text) is not None


def possible(page: Page) -> tuple[list[str], list[tuple[str, str]]] | None:
    """The templates of a page that looks like one, and what it leads to; None for other pages."""
    if len(page.text) > MAX_CHARS or page.text.count("\n*") < FEWEST:
        return None
    leads = list(homonyms(page))
    return (sorted({normal_name(name) for name in _BOX.findall(page.text)}), leads) if len(leads) >= FEWEST else None


def marks_on(page: Page) -> list[str]:
    """The templates that a page of the template or message namespace declares to mark disambiguation pages."""
    name = _without_namespace(page.title)
    if page.namespace == TEMPLATES and switched_on(page):
        return [name]
    if page.namespace == MESSAGES and name == "disambiguationspage":
        return [normal_name(link) for link in _TEMPLATE_LINK.findall(page.text)]
    return []


def template_redirect(page: Page) -> tuple[str, str] | None:
    """A template that is another name of a template, and that template."""
    if page.namespace != TEMPLATES or page.redirect is None:
        return None
    return _without_namespace(page.title), _without_namespace(page.redirect)


def _without_namespace(title: str) -> str:
    return normal_name(title.partition(":")[2])
