"""MediaWiki export XML (versions 0.3 to 0.11), read as a stream: memory does not grow with the dump."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit
from xml.parsers import expat

from wikigpt.corpus.languages import LANGUAGE_CODES
from wikigpt.corpus.source import Progress, Source
from wikigpt.errors import UserError

MAX_PAGE = 10_000_000  # characters; MediaWiki itself stops at 2 MiB


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
    too_large: bool = False


_PAGE_FIELDS = {"title", "ns", "id", "model", "text"}
_SITE_FIELDS = {"sitename", "dbname", "base", "generator", "namespace"}


class _Handler:
    """Receives expat's events and fills `pages`."""

    def __init__(self, path: str, lang: str | None) -> None:
        self.path = path
        self.given_lang = lang
        self.site = Site(lang=lang or "")
        self.pages: list[Page] = []
        self.page: Page | None = None
        self.depth: list[str] = []
        self.collected: list[str] | None = None
        self.size = 0
        self.key = 0
        self.parser = expat.ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.buffer_size = 1 << 18
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self.doctype

    def doctype(self, name: str, *_: object) -> None:
        if name.lower() == "html":
            raise UserError(f"{self.path} is a web page (HTML), not a dump; download the dump again.")
        raise UserError(
            f"{self.path}, line {self.parser.CurrentLineNumber}: a DOCTYPE, which no MediaWiki dump has; "
            "the file is not read, because entities can be used to attack the reader."
        )

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        depth = self.depth
        depth.append(name)
        if len(depth) == 1:
            if name != "mediawiki":
                raise UserError(
                    f"{self.path} is XML, but not a MediaWiki export: it begins with <{name[:40]}> instead of "
                    "<mediawiki>; give a pages-articles dump."
                )
            if not self.given_lang:
                lang = attributes.get("xml:lang", "").lower()  # zh, en-US, zh-Hans
                self.site.lang = lang if lang in LANGUAGE_CODES else lang.partition("-")[0]
            self.site.version = attributes.get("version", "")
        elif self.page is not None:
            if name == "redirect" and len(depth) == 3:
                self.page.redirect = attributes.get("title", "")
            elif name in _PAGE_FIELDS and len(depth) <= 4:
                self.collected, self.size = [], 0
        elif name == "page" and len(depth) == 2:
            self.page = Page()
            self.line = self.parser.CurrentLineNumber
        elif name in _SITE_FIELDS:
            self.collected, self.size = [], 0
            if name == "namespace":
                key = attributes.get("key", "")
                self.key = int(key) if key.removeprefix("-").isdigit() else 0

    def characters(self, data: str) -> None:
        if self.collected is not None:
            self.size += len(data)
            if self.size <= MAX_PAGE:
                self.collected.append(data)

    def end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        depth = self.depth
        if self.collected is not None and name in (_PAGE_FIELDS if self.page else _SITE_FIELDS):
            self._field(name, "".join(self.collected))
            self.collected = None
        depth.pop()
        if name == "page" and len(depth) == 1 and self.page is not None:
            page, self.page = self.page, None
            if not page.title:
                raise UserError(
                    f"{self.path}, line {self.line}: this page has no <title>; the dump is damaged: fetch it again, "
                    "or remove the page."
                )
            if page.namespace is None:
                page.namespace = self.site.namespace_of(page.title)
            self.pages.append(page)
        elif name == "siteinfo":
            self._site_done()

    def _field(self, name: str, value: str) -> None:
        page = self.page
        if page is None:
            if name == "namespace":
                if value:
                    self.site.namespaces[value.lower().replace("_", " ")] = self.key
            elif name == "sitename":
                self.site.name = value
            else:
                setattr(self.site, name, value)
        elif name == "title":
            page.title = value.strip()
        elif name == "ns":
            page.namespace = int(value) if value.strip().removeprefix("-").isdigit() else 0
        elif name == "id":
            if len(self.depth) == 3:
                page.id = value.strip()
            elif self.depth[-2] == "revision":
                page.revision = value.strip()
        elif name == "model":
            page.model = value.strip()
        elif name == "text":
            page.text = value
            page.too_large = self.size > MAX_PAGE

    def _site_done(self) -> None:
        if self.site.lang:
            return
        host = urlsplit(self.site.base).hostname or ""
        label = host.partition(".")[0]
        if not label or label in ("www", "commons", "meta", "species"):
            label = self.site.dbname.partition("wik")[0].replace("_", "-")
        self.site.lang = "en" if label == "simple" else label


def read_dump(
    source: Source, lang: str | None = None, on_site: Callable[[Site], None] | None = None
) -> Iterator[tuple[Site, Page]]:
    """Yield the pages of a MediaWiki XML export in their order.

    Raises `UserError` for anything that is not one, saying where it stopped.
    """
    handler = _Handler(str(source.path), lang)
    progress = Progress()
    announced = False

    def stopped(problem: str) -> UserError:
        return UserError(
            f"{source.path}, line {handler.parser.CurrentLineNumber}: {problem} (after {progress.count:,} pages); "
            "the dump is damaged or incomplete: fetch it again."
        )

    for block in source.blocks(done=progress):
        try:
            handler.parser.Parse(block, False)
        except expat.ExpatError as error:
            yield from ((handler.site, page) for page in handler.pages)
            progress.count += len(handler.pages)
            raise stopped(f"this is not well-formed XML ({expat.ErrorString(error.code)})") from None
        if handler.pages and not announced:
            announced = True
            if on_site:
                on_site(handler.site)
        for page in handler.pages:
            yield handler.site, page
        progress.count += len(handler.pages)
        handler.pages.clear()
    try:
        handler.parser.Parse(b"", True)
    except expat.ExpatError as error:
        if handler.depth:
            raise stopped("the file ends in the middle of the dump") from None
        raise stopped(f"this is not well-formed XML ({expat.ErrorString(error.code)})") from None
