"""MediaWiki export XML (versions 0.3 to 0.11): what a dump's head says of its wiki, and its pages.

Pages written as MediaWiki writes them are taken apart without an XML parser, in a third of the time; whatever else
there may be goes to expat, which also says what is wrong with it.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit
from xml.parsers import expat

from wikigpt.corpus.languages import LANGUAGE_CODES
from wikigpt.errors import UserError

MAX_PAGE = 10_000_000  # characters; MediaWiki itself stops at 2 MiB
TOO_LARGE = b"<too-large/>"  # stands for the text of a page of which only the beginning was read


class Damage(Exception):
    """An input that cannot be read on.

    What is wrong, at which line (counted from byte `start` of the source's content), after how many pages, and
    the number of the source.
    """

    def __init__(self, problem: str, line: int | None = None, pages: int = 0, source: int = 0, start: int = 0) -> None:
        super().__init__(problem, line, pages, source, start)
        self.problem, self.line, self.pages, self.source, self.start = problem, line, pages, source, start


@dataclass(slots=True)
class Site:
    """What `<siteinfo>` says about the wiki."""

    lang: str = ""
    name: str = ""
    dbname: str = ""
    base: str = ""
    generator: str = ""
    version: str = ""
    namespaces: dict[str, int] = field(default_factory=dict)  # name in lower case -> number

    def url(self, title: str) -> str:
        """Where the page of this title is read."""
        if not self.base:
            return ""
        return self.base.rpartition("/")[0] + "/" + quote(title.replace(" ", "_"), safe="/:@!$&'()*,;~")

    def names_of(self, number: int) -> frozenset[str]:
        """The names of one namespace."""
        return frozenset(name for name, key in self.namespaces.items() if key == number)

    def namespace_of(self, title: str) -> int:
        """The namespace that a title's prefix says (for exports that do not write `<ns>`)."""
        prefix, colon, _ = title.partition(":")
        return self.namespaces.get(" ".join(prefix.lower().replace("_", " ").split()), 0) if colon else 0


@dataclass(slots=True)
class Page:
    """One page as the dump has it; of several revisions the last."""

    id: str = ""
    title: str = ""
    namespace: int | None = None
    revision: str = ""
    model: str = "wikitext"
    redirect: str | None = None
    text: str = ""
    checked: bool = False  # the text is known to hold no control characters
    too_large: bool = False
    lang: str = ""  # where the source gives them for each page: its language and address
    url: str = ""


class _Reader:
    """What reading the head and reading pages have in common: expat, and one element's text at a time."""

    def __init__(self) -> None:
        self.collected: list[str] = []
        self.size = 0
        self.parser = expat.ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.buffer_size = 1 << 13
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.StartDoctypeDeclHandler = self.doctype

    def start(self, name: str, attributes: dict[str, str]) -> None:
        raise NotImplementedError

    def end(self, name: str) -> None:
        raise NotImplementedError

    def collect(self) -> None:
        """From here on the text counts."""
        self.collected, self.size = [], 0
        self.parser.CharacterDataHandler = self._characters

    def _characters(self, data: str) -> None:
        self.size += len(data)
        if self.size <= MAX_PAGE:
            self.collected.append(data)

    def text(self) -> str:
        """What has been collected; the next text does not count."""
        self.parser.CharacterDataHandler = None
        return "".join(self.collected)

    def doctype(self, name: str, *_: object) -> None:
        if name.lower() == "html":
            raise UserError("it is a web page (HTML), not a dump; download the dump again.")
        raise UserError(
            f"line {self.parser.CurrentLineNumber}: a DOCTYPE, which no MediaWiki dump has; "
            "the file is not read, because entities can be used to attack the reader."
        )

    def parse(self, data: bytes | memoryview, *, final: bool = False) -> None:
        """Feed expat. Raises `Damage`."""
        try:
            self.parser.Parse(data, final)
        except expat.ExpatError as error:
            if final and not data:
                raise Damage("the file ends in the middle of the dump", self.parser.CurrentLineNumber) from None
            raise Damage(f"this is not well-formed XML ({expat.ErrorString(error.code)})", error.lineno) from None


_SITE_FIELDS = {"sitename", "dbname", "base", "generator", "namespace"}


class _Head(_Reader):
    """Fills `site` from a dump's head."""

    def __init__(self, lang: str | None) -> None:
        super().__init__()
        self.site = Site(lang=lang or "")
        self.began = False
        self.key = 0  # of the namespace whose name is read

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if not self.began:
            self.began = True
            if name != "mediawiki":
                raise UserError(
                    f"it is XML, but not a MediaWiki export: it begins with <{name[:40]}> instead of <mediawiki>; "
                    "give a pages-articles dump."
                )
            if not self.site.lang:
                lang = attributes.get("xml:lang", "").lower()  # zh, en-US, zh-Hans
                self.site.lang = lang if lang in LANGUAGE_CODES else lang.partition("-")[0]
            self.site.version = attributes.get("version", "")
        elif name in _SITE_FIELDS:
            self.collect()
            if name == "namespace":
                key = attributes.get("key", "")
                self.key = int(key) if key.removeprefix("-").isdigit() else 0

    def end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        if name not in _SITE_FIELDS:
            return
        value = self.text()
        if name == "namespace":
            if value:
                self.site.namespaces[value.lower().replace("_", " ")] = self.key
        elif name == "sitename":
            self.site.name = value
        else:
            setattr(self.site, name, value)


_COLLECTED = frozenset({"title", "ns", "id", "model", "text"})
_ENDED = _COLLECTED | {"contributor", "page"}


class _Pages(_Reader):
    """Fills `pages`. A page has some twenty elements, so what is done for each is kept short."""

    def __init__(self, site: Site, prefix: str) -> None:
        super().__init__()
        self.site = site
        self.prefix = prefix
        self.pages: list[Page] = []
        self.page = Page()
        self.parent = ""  # of revision and contributor, the innermost that is open
        self.line = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self.prefix:
            name = name.removeprefix(self.prefix)
        if name in _COLLECTED:
            self.collect()
        elif name in ("revision", "contributor"):
            self.parent = name
        elif name == "redirect":
            self.page.redirect = attributes.get("title", "")
        elif name == "page":
            self.page, self.parent = Page(), ""
            self.line = self.parser.CurrentLineNumber
        elif name == "too-large":
            self.page.too_large = True

    def end(self, name: str) -> None:
        if self.prefix:
            name = name.removeprefix(self.prefix)
        if name not in _ENDED:
            return
        page = self.page
        if name == "text":
            page.text = self.text()
            page.too_large = page.too_large or self.size > MAX_PAGE
        elif name == "id":
            value = self.text().strip()
            if not self.parent:
                page.id = value
            elif self.parent == "revision":
                page.revision = value
        elif name == "title":
            page.title = self.text().strip()
        elif name == "ns":
            value = self.text().strip()
            page.namespace = int(value) if value.removeprefix("-").isdigit() else 0
        elif name == "model":
            page.model = self.text().strip()
        elif name == "contributor":
            self.parent = "revision"
        elif name == "page":
            if not page.title:
                raise Damage("this page has no <title>", self.line)
            if page.namespace is None:
                page.namespace = self.site.namespace_of(page.title)
            self.pages.append(page)


def read_site(head: bytes, lang: str | None, *, whole: bool = False) -> Site:
    """What the beginning of a dump, up to its first page, says about the wiki.

    `lang` overrides the language; with `whole`, the dump ends here, without a page. Raises `Damage`, or
    `UserError` if this is no MediaWiki export.
    """
    reader = _Head(lang)
    reader.parse(head)
    if whole:
        reader.parse(b"", final=True)
    site = reader.site
    if not site.lang:
        host = urlsplit(site.base).hostname or ""
        label = host.partition(".")[0]
        if not label or label in ("www", "commons", "meta", "species"):
            label = site.dbname.partition("wik")[0].replace("_", "-")
        site.lang = "en" if label == "simple" else label
    return site


def read_pages(data: bytes, site: Site, prefix: bytes = b"") -> Iterator[Page]:
    """Yield the pages of a piece of a dump, which holds whole `<page>` elements (named with `prefix`).

    Raises `Damage`, with the line within `data`, where a page cannot be read; those before it have come then.
    """
    closing = b"</" + prefix + b"page>"
    position = count = 0
    while True:
        written = None if prefix else _page_as_written(data, position)
        if written is not None:
            page, position = written
            yield page
            count += 1
            continue
        end = data.find(closing, position)
        if end < 0:
            break
        end += len(closing)
        try:
            pages = list(_parsed_pages(data[position:end], site, prefix))
        except Damage:
            break
        yield from pages
        count += len(pages)
        position = end
    # What is left is white space, or damaged.
    try:
        for page in _parsed_pages(data[position:], site, prefix):
            yield page
            count += 1
    except Damage as damage:
        line = damage.line + data.count(b"\n", 0, position) if damage.line else None
        raise Damage(damage.problem, line, count) from None


_FEED = 1 << 20  # bytes; so that not all pages of a piece are held at once


def _parsed_pages(data: bytes, site: Site, prefix: bytes) -> Iterator[Page]:
    """The pages as expat reads them. Raises `Damage`."""
    reader = _Pages(site, prefix.decode())
    view = memoryview(data)
    root = prefix + b"mediawiki>"
    reader.parse(b"<" + root)
    for start in range(0, len(data) or 1, _FEED):
        damage: Damage | None = None
        try:
            reader.parse(view[start : start + _FEED])
            if start + _FEED >= len(data):
                reader.parse(b"</" + root)
        except Damage as problem:
            damage = problem
        yield from reader.pages
        reader.pages.clear()
        if damage is not None:
            raise damage


_TEXT = rb"[^<>&]*+(?:&(?:lt|gt|amp|quot|\#039);[^<>&]*+)*+"
_PAGE_HEAD = re.compile(
    rb"""
    \s*<page>\s*<title>(TEXT)</title>\s*<ns>(-?\d{1,9})</ns>\s*<id>(\d{1,18})</id>
    (?:\s*<redirect[ ]title="([^"<>&\t\n]*+(?:&(?:lt|gt|amp|quot|\#039);[^"<>&\t\n]*+)*+)"[ ]?/>)?
    (?:\s*<restrictions>TEXT</restrictions>)?
    \s*<revision>\s*<id>(\d{1,18})</id>
    (?:\s*<parentid>\d+</parentid>)?
    (?:\s*<timestamp>[\w:.-]+</timestamp>)?
    (?:\s*<contributor(?:[ ]deleted="deleted"[ ]?/>
        |>\s*(?:<username>TEXT</username>\s*<id>\d+</id>|<ip>TEXT</ip>)\s*</contributor>))?
    (?:\s*<minor[ ]?/>)?
    (?:\s*<comment(?:>TEXT</comment>|[ ](?:deleted="deleted"[ ]?)?/>))?
    (?:\s*<origin>\d+</origin>)?
    \s*<model>(\w+)</model>
    \s*<format>[\w/.+-]+</format>
    \s*<text(?:[ ]bytes="\d+")?(?:[ ]sha1="\w*")?(?:[ ]xml:space="preserve")?>
    """.replace(b"TEXT", _TEXT),
    re.VERBOSE,
)
_PAGE_TAIL = re.compile(rb"</text>(?:\s*<sha1>\w*</sha1>|\s*<sha1 ?/>)?\s*</revision>\s*</page>")
_ENTITY = re.compile(r"&(?:(?:lt|gt|amp|quot|#039);)?")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&", "&quot;": '"', "&#039;": "'"}
_CONTROL = bytes({*range(9), *range(0x0B, 0x20), 0x7F})
_NO_CHARACTERS = re.compile("[\ufffe\uffff]")


def _page_as_written(data: bytes, start: int) -> tuple[Page, int] | None:
    """The page of one revision at `start`, if it looks as MediaWiki writes it, and where it ends; else None."""
    head = _PAGE_HEAD.match(data, start)
    if head is None:
        return None
    begin = head.end()
    close = data.find(b"<", begin)
    tail = _PAGE_TAIL.match(data, close) if close >= 0 else None
    title, namespace, number, redirect, revision, model = head.groups(b"")
    if tail is None or close - begin > MAX_PAGE or not title.strip():
        return None
    try:
        _ordinary(data[start:begin])
        page = Page(
            id=number.decode(),
            title=content(title, 0, len(title)).strip(),
            namespace=int(namespace),
            revision=revision.decode(),
            model=model.decode(),
            redirect=None if head.start(4) < 0 else content(redirect, 0, len(redirect)),
            text=content(data, begin, close),
            checked=True,
        )
    except ValueError:
        return None
    return page, tail.end()


def content_in_python(data: bytes, start: int, end: int) -> str:
    """The text that an element's content, `data[start:end]`, stands for.

    Raises `ValueError` if it holds what an XML parser should judge: other entities than those that MediaWiki writes,
    control characters, tags, what is not UTF-8.
    """
    some = data[start:end]
    if b">" in some or b"<" in some:
        raise ValueError("a tag")
    text = _ordinary(some)
    try:
        return _ENTITY.sub(lambda match: _ENTITIES[match.group()], text) if "&" in text else text
    except KeyError as entity:
        raise ValueError(f"entity {entity}") from None


def _ordinary(data: bytes) -> str:
    """Decode what XML may hold as it stands: no control characters or carriage returns, no U+FFFE or U+FFFF."""
    text = data.decode()
    if len(data.translate(None, _CONTROL)) != len(data) or (not text.isascii() and _NO_CHARACTERS.search(text)):
        raise ValueError("control characters")
    return text


try:
    if os.environ.get("WIKIGPT_PURE_PYTHON"):
        raise ImportError
    from wikigpt.corpus.xmltext import content
except ImportError:
    content = content_in_python


def check_end(rest: bytes, prefix: bytes = b"") -> None:
    """Raise `Damage` unless `rest`, what follows the last page, is the end of a dump."""
    reader = _Pages(Site(), prefix.decode())
    reader.parse(b"<" + prefix + b"mediawiki>")
    reader.parse(rest)
    reader.parse(b"", final=True)
