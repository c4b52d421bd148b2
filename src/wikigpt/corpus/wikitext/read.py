"""Wikitext to plain text, in the order in which MediaWiki does it.

1. `tags` takes comments and extension tags (`<ref>`, `<math>`, …) out; `sections` cuts those that are not wanted.
2. `brackets` replaces templates, links and `-{…}-` by what a reader sees, innermost first.
3. `layout` reads lines: tables, headings, lists, bold and italic.
4. `finish` removes HTML, decodes entities, and mends what dropped constructs left behind.

Each stage does most of its work in a few passes that run in C (those of `kernels`, one `split`, one `sub`), and looks
at each character a bounded number of times, whatever is nested or left unclosed.
"""

import re
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from wikigpt.corpus.languages import (
    CATEGORY_NAMESPACES,
    DISAMBIGUATION_TITLE,
    FALLBACKS,
    FILE_NAMESPACES,
    REDIRECT,
    capital,
)
from wikigpt.corpus.wikitext.brackets import fill_in
from wikigpt.corpus.wikitext.finish import finish
from wikigpt.corpus.wikitext.kernels import drop_empty_sections, follows, replaced
from wikigpt.corpus.wikitext.layout import lay_out
from wikigpt.corpus.wikitext.marks import KEEP_CLOSE, KEEP_OPEN, LITERALS, STRIP
from wikigpt.corpus.wikitext.sections import cut_sections
from wikigpt.corpus.wikitext.tags import take_tags
from wikigpt.corpus.wikitext.variants import CONVERTER_LANGUAGES, Conversion, Rules
from wikigpt.errors import UserError

if TYPE_CHECKING:
    from wikigpt.corpus.wikitext.inline import Handler


class TooSlow(Exception):
    """Reading a page took longer than `Options.max_seconds`."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose.

    `keep_tables`: tables are kept as one row a line, cells joined by " | ", instead of being dropped.
    `max_seconds`: a page that takes longer raises `TooSlow`. `rules`: template rules of the user's own, by the
    template's name, as `templates.compile_rules` reads them. `skip_sections`: sections of these names (in lower case,
    such as "references") are left out before they are read.
    """

    keep_tables: bool = False
    max_seconds: float | None = None
    rules: Mapping[str, str] = field(default_factory=dict)
    skip_sections: frozenset[str] = frozenset()


@dataclass(slots=True)
class Article:
    """What one page's wikitext says."""

    text: str
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    categories: tuple[str, ...] = ()
    langlinks: tuple[tuple[str, str], ...] = ()
    redirect: str | None = None
    disambiguation: bool = False
    sections_dropped: int = 0  # by `Options.skip_sections`


_STRIPPED = re.compile(rf"{STRIP}([0-9]+){STRIP}")
# A template's argument that needs no reading: words, figures and what stands between them.
_ORDINARY = re.compile(r"[\w(][\w .,:;()/%+$\"'*#?!°~−–—-]*\Z")


@dataclass(slots=True)
class Page:
    """What is collected while a page is read; the templates' handlers see it."""

    lang: str
    title: str
    variant: str | None
    files: frozenset[str]
    category_names: frozenset[str]
    rules: Rules
    rules_by_name: Mapping[str, "Handler"] = field(default_factory=dict)  # the user's own
    keep_tables: bool = False
    deadline: float | None = None  # in seconds of `time.perf_counter`
    has_terms: bool = False  # whether the page has lines like `; term : what it means`
    literals: list[str] = field(default_factory=lambda: list(LITERALS))
    facts: list[tuple[str, str]] = field(default_factory=list)
    categories: dict[str, None] = field(default_factory=dict)
    langlinks: dict[tuple[str, str], None] = field(default_factory=dict)
    disambiguation: bool = False
    sections_dropped: int = 0
    in_lead: bool = True  # no running text has been seen yet
    converts: bool = False  # whether the wiki has a language converter, and `-{…}-` is markup
    depth: int = 1  # constructs open around the one that is being rendered, the page itself included

    def literal(self, text: str) -> str:
        """Set `text` aside, safe from everything that is still to be done; return what stands for it."""
        self.literals.append(text if self.variant is None else f"{KEEP_OPEN}{text}{KEEP_CLOSE}")
        return f"{STRIP}{len(self.literals) - 1}{STRIP}"

    def plain(self, text: str) -> str:
        """A piece of half-read wikitext (a template's argument) as one line of plain text."""
        return " ".join(self._flat(text).split())

    def plain_lines(self, text: str) -> list[str]:
        """The same, line by line."""
        return [" ".join(line.split()) for line in self._flat(text).split("\n")]

    def finished(self, text: str) -> str:
        """Laid-out wikitext as plain text, with the literals still set aside."""
        return finish(text, keep_tables=self.keep_tables, keep_code=self.variant is not None)

    def restored(self, text: str) -> str:
        """Put the literals back."""
        if STRIP in text:
            text = replaced(_STRIPPED, STRIP, lambda match: self.literals[int(match.group(1))], text)
        return text

    def check_time(self) -> None:
        """Raise `TooSlow` if the page's time is up."""
        if self.deadline is not None and time.perf_counter() > self.deadline:
            raise TooSlow(self.title)

    def _flat(self, text: str) -> str:
        text = text.strip()
        if _ORDINARY.match(text) and "__" not in text and "''" not in text:
            return text
        return self.restored(self.finished(lay_out(text, self)))


def clean_wikitext(text: str, *, lang: str = "en", variant: str | None = None, title: str = "") -> str:
    """Return what a reader of the page sees, as plain text.

    `lang` is the wiki's language. `variant` (zh-hans, zh-hant, zh-cn, zh-tw, zh-hk) chooses among the forms
    of `-{…}-` on Chinese wikis and converts the rest by opencc; None converts nothing and takes, on Chinese
    wikis, the first of zh, zh-hans, zh-hant, zh-cn, … that is given, elsewhere the form written first. Any
    string is accepted; the time taken grows linearly with its length.
    """
    return read_wikitext(text, lang=lang, variant=variant, title=title).text


def read_wikitext(
    text: str,
    *,
    lang: str = "en",
    variant: str | None = None,
    title: str = "",
    file_namespaces: frozenset[str] = frozenset(),
    category_namespaces: frozenset[str] = frozenset(),
    options: Options | None = None,
    checked: bool = False,
) -> Article:
    """Read a page: its text as `clean_wikitext` gives it, and its facts, categories and language links.

    The namespaces are the wiki's own names (lower case), added to those known from many languages. `checked`: the
    text holds no control characters but line breaks (\\n) and tabs, which need not be looked for then. Raises
    `UserError` for an unknown variant or a rule that cannot be read, and `TooSlow` as `options` say.
    """
    if variant is not None and variant not in FALLBACKS:
        raise UserError(f"variant {variant!r} is unknown; choose one of {', '.join(FALLBACKS)}.")
    if not checked:
        text = _without_controls(text)
    redirect = REDIRECT.match(text)
    if redirect:
        target = redirect.group(1).partition("#")[0].strip().lstrip(":")
        return Article("", title, redirect=capital(target))
    options = options or _DEFAULTS
    page = Page(
        lang=lang,
        title=title,
        variant=variant if lang.partition("-")[0] == "zh" else None,
        files=_either(FILE_NAMESPACES, file_namespaces),
        category_names=_either(CATEGORY_NAMESPACES, category_namespaces),
        rules=Rules(variant if lang.partition("-")[0] == "zh" else None),
        converts=lang.partition("-")[0] in CONVERTER_LANGUAGES,
        rules_by_name=_compiled(tuple(options.rules.items())) if options.rules else {},
        keep_tables=options.keep_tables,
        deadline=time.perf_counter() + options.max_seconds if options.max_seconds is not None else None,
    )
    if page.converts:
        page.rules.read_switches(text)
    body = take_tags(text, page)
    if options.skip_sections:
        body = cut_sections(body, options.skip_sections, page)
    page.has_terms = body.startswith(";") or follows(body, ";", "\n*#:;")
    page.check_time()
    body = fill_in(body, page)
    page.check_time()
    body = lay_out(body, page, headings=True)
    page.check_time()
    body = page.restored(drop_empty_sections(page.finished(body)))
    page.check_time()
    return _article(body, page)


_DEFAULTS = Options()
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff\ud800-\udfff]")
_CONTROL_BYTES = bytes({*range(9), *range(0x0B, 0x20), 0x7F})


def _without_controls(text: str) -> str:
    """Line breaks as \\n, and no control characters or lone surrogates: some of them are this reader's marks."""
    try:
        encoded = text.encode()  # looking at bytes is three times as fast as a regular expression
        if len(encoded.translate(None, _CONTROL_BYTES)) == len(encoded):
            return text
    except UnicodeEncodeError:
        pass
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


@lru_cache(maxsize=16)
def _either(known: frozenset[str], own: frozenset[str]) -> frozenset[str]:
    return known | own


@lru_cache(maxsize=16)
def _compiled(rules: tuple[tuple[str, str], ...]) -> Mapping[str, "Handler"]:
    from wikigpt.corpus.wikitext.templates import compile_rules

    return compile_rules(dict(rules))


def _article(body: str, page: Page) -> Article:
    """Convert what was read to the page's variant, and to Unicode's composed form (NFC)."""
    title, facts, categories = page.title, dict.fromkeys(page.facts), tuple(page.categories)
    if page.converts:
        convert = Conversion(page.rules)
        body, title = convert(body).strip(), convert.title(title)
        facts = dict.fromkeys((convert(key, everywhere=True), convert(value, everywhere=True)) for key, value in facts)
        categories = tuple(convert(name, everywhere=True) for name in categories)
    if page.converts or len(page.literals) > len(LITERALS):  # else every line is in that form already
        body = unicodedata.normalize("NFC", body)
    return Article(
        text=body,
        title=unicodedata.normalize("NFC", title),
        facts=tuple((key, unicodedata.normalize("NFC", value)) for key, value in facts),
        categories=categories,
        langlinks=tuple(page.langlinks),
        disambiguation=page.disambiguation or DISAMBIGUATION_TITLE.search(page.title) is not None,
        sections_dropped=page.sections_dropped,
    )
