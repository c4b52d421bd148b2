"""One shard in, its clean documents out: a pure function that runs in this process, another, or on a cluster."""

import gc
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from wikigpt.corpus import extracted
from wikigpt.corpus.cleaned import SAMPLES, Cleaned, Settings, merge_left_overs
from wikigpt.corpus.document import Document, split_of
from wikigpt.corpus.dump import Damage, Page, Site
from wikigpt.corpus.filters import BOILERPLATE, normalise, reason_to_drop, without_boilerplate
from wikigpt.corpus.homonyms import (
    MESSAGES,
    TEMPLATES,
    homonyms,
    marks_on,
    possible,
    switched_on,
    template_redirect,
)
from wikigpt.corpus.languages import capital
from wikigpt.corpus.shards import Shard, language_of, pages_of, single_pages
from wikigpt.corpus.wikitext import Article, Options, TooSlow, read_wikitext
from wikigpt.corpus.wikitext.variants import converter
from wikigpt.corpus.write import table, table_of_dropped

# What would be markup if it stood in a text; the report lists where it does.
# By a character that most texts do not hold at all; patterns that begin with one character are faster than `find`.
LEFT_OVERS = {
    character: {mark: re.compile(f"{re.escape(mark[0])}(?={re.escape(mark[1:])})") for mark in marks.split()}
    for character, marks in {"{": "{{ {| -{", "}": "}} |}", "[": "[[", "]": "]]", "<": "<ref", "|": "thumb|"}.items()
}
SAMPLE_CHARS = 2_500


@dataclass(slots=True)
class _Result:
    """What has come of a shard's pages so far."""

    documents: list[Document] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)  # the title that the wiki knows each document by
    dropped: list[tuple[str, ...]] = field(default_factory=list)
    salvaged: bool = False  # something could not be read
    seen: int = 0
    sections: int = 0  # sections of references and links left out
    drops: Counter[str] = field(default_factory=Counter)
    privacy: Counter[str] = field(default_factory=Counter)
    redirects: list[tuple[str, str, str]] = field(default_factory=list)  # language, title, target
    # For disambiguation pages that only the whole dump can tell (see homonyms.py):
    marks: list[tuple[str, str]] = field(default_factory=list)  # language, template
    template_redirects: list[tuple[str, str, str]] = field(default_factory=list)  # language, template, target
    possible: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    left_overs: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: list[dict[str, str]] = field(default_factory=list)


class _Drop(Exception):
    """This page gives no document."""

    def __init__(self, reason: str, text: str = "", detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.text, self.detail = reason, text, detail


def clean_shard(shard: Shard, settings: Settings, secret: bytes | None = None) -> Cleaned:
    """Clean the pages of a shard. `secret` keys the pseudonyms of private data.

    A page that fails or takes too long is left out, counted and named. Raises `Damage` where the shard cannot
    be read, unless `settings.skip_damaged`.
    """
    cleaner = _Cleaner(shard.site, settings, secret)
    try:
        with _no_collection():
            for page in pages_of(shard):
                cleaner.add(page)
    except Damage as damage:
        if not settings.skip_damaged:
            line = damage.line + shard.line - 1 if damage.line else None
            raise Damage(damage.problem, line, damage.pages, shard.source, shard.start) from None
        return _salvaged(shard, settings, secret, damage)
    return cleaner.finish()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without looking for reference cycles, of which there are none: that would take 10 % of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _salvaged(shard: Shard, settings: Settings, secret: bytes | None, damage: Damage) -> Cleaned:
    """The same page by page, without those that cannot be read."""
    cleaner = _Cleaner(shard.site, settings, secret)
    cleaner.result.salvaged = True
    damaged = 0
    for single in single_pages(shard):
        try:
            for page in pages_of(single):
                cleaner.add(page)
        except Damage as problem:
            damaged += 1
            cleaner.skip(
                "damaged", f"line {single.line}" if single.kind == "jsonl" else _title_in(single), problem.problem
            )
    if not damaged:  # what is damaged is not a page, but the end of the file
        cleaner.result.skipped.append({"title": "", "reason": f"damaged: {damage.problem}"})
    return cleaner.finish()


def _title_in(shard: Shard) -> str:
    """The title of a page whose XML cannot be read."""
    match = re.search(rb"title>([^<]{1,500})</", shard.data)
    return match.group(1).decode("utf-8", "replace") if match else ""


def skipped_page(shard: Shard, reason: str, settings: Settings) -> Cleaned:
    """What is to be said of a shard of one page that must not be cleaned again."""
    cleaner = _Cleaner(shard.site, settings, None)
    try:
        title = next((page.title for page in pages_of(shard)), "")
    except Damage:
        title = ""
    cleaner.skip("failed", title, reason)
    return cleaner.finish()


class _Cleaner:
    """Turns pages into documents and keeps the counts."""

    def __init__(self, site: Site, settings: Settings, secret: bytes | None) -> None:
        self.site, self.settings = site, settings
        self.files, self.categories = site.names_of(6), site.names_of(14)
        self.options = Options(
            keep_tables=settings.keep_tables,
            max_seconds=settings.page_seconds,
            rules=settings.templates,
            skip_sections=frozenset() if settings.keep_references else BOILERPLATE,
        )
        self.redact = None
        if settings.privacy:
            from wikigpt.corpus.privacy import Redactor

            self.redact = Redactor(settings.privacy, secret)
        self.result = _Result()

    def add(self, page: Page) -> None:
        """Take one page of the source in."""
        result = self.result
        result.seen += 1
        lang = language_of(page, self.site, self.settings.lang) if page.model == "plain" else self.site.lang
        try:
            document = self._document(page, lang)
        except _Drop as drop:
            result.drops[drop.reason] += 1
            if result.possible and result.possible[-1]["document"] == len(result.documents):
                result.possible[-1]["document"] = None  # it is left out whatever it is
            if drop.detail:
                result.skipped.append({"title": self._redacted(page.title), "reason": drop.detail})
            if self.settings.keep_dropped and drop.reason not in ("namespace", "redirect"):
                title = self._redacted(page.title)
                url = self.site.url(title) if title == page.title else ""
                result.dropped.append((page.id, url, title, lang, drop.reason, self._redacted(drop.text)))
            return
        result.documents.append(document)
        result.pages.append(page.title)
        self._look(page, document)

    def skip(self, reason: str, title: str, detail: str) -> None:
        """Count a page that could not be read at all."""
        self.result.seen += 1
        self.result.drops[reason] += 1
        self.result.skipped.append({"title": title, "reason": f"{reason}: {detail}"})

    def _document(self, page: Page, lang: str) -> Document:
        """Raises `_Drop`."""
        if page.namespace != 0:
            self._look_at_template(page, lang)
            raise _Drop("namespace")
        if page.redirect is not None:
            self._lead(lang, page.title, page.redirect.partition("#")[0])
            raise _Drop("redirect")
        if page.too_large:
            raise _Drop("too_large", detail="larger than 10 million characters")
        if page.model not in ("wikitext", "plain"):
            raise _Drop("not_wikitext", page.text)
        article = self._article(page, lang)
        if article.redirect is not None:
            self._lead(lang, page.title, article.redirect)
            raise _Drop("redirect")
        if article.disambiguation or switched_on(page):
            for name, target in homonyms(page):
                self._lead(lang, name, target)
            raise _Drop("disambiguation", article.text)
        if looks := possible(page):
            templates, leads = looks
            leads = [lead for lead in leads if self._redacted(lead[0]) == lead[0]]
            entry = {"document": len(self.result.documents), "lang": lang, "templates": templates, "leads": leads}
            self.result.possible.append(entry)
        text, sections = article.text, 0
        if not self.settings.keep_references:  # those whose heading only shows in the text
            text, sections = without_boilerplate(text)
        self.result.sections += article.sections_dropped + sections
        reason = reason_to_drop(text, lang, self.settings.min_chars)
        if reason:
            raise _Drop(reason, text)
        title = self._redacted(article.title)
        return Document(
            id=page.id,
            revision=page.revision,
            url=(page.url or self.site.url(page.title)) if title == article.title else "",
            title=title,
            text=self._redacted(text),
            lang=lang,
            categories=tuple(map(self._redacted, article.categories)),
            facts=tuple((key, self._redacted(value)) for key, value in article.facts),
            aliases=(page.title,) if page.title != article.title == title else (),
            langlinks=article.langlinks,
            split=split_of(lang, page.title, article.langlinks, self.settings.validation_fraction),
        )

    def _article(self, page: Page, lang: str) -> Article:
        """The page's text. A page that cannot be read never stops the dump: raises `_Drop`, whatever happens."""
        variant = self.settings.variant if lang == "zh" else None
        try:
            if page.model == "plain":
                convert = (converter(variant) if variant else None) or str
                text = extracted.tidy(page.text, page.title, lang, variant)
                return Article(normalise(convert(text)).strip(), normalise(convert(page.title)))
            return read_wikitext(
                page.text,
                lang=lang,
                variant=variant,
                title=page.title,
                file_namespaces=self.files,
                category_namespaces=self.categories,
                options=self.options,
                checked=page.checked,
            )
        except TooSlow:
            detail = f"took longer than {self.settings.page_seconds:g} seconds"
            raise _Drop("too_slow", page.text, detail) from None
        except Exception as error:
            raise _Drop("failed", page.text, f"failed: {type(error).__name__}: {error}") from error

    def _look_at_template(self, page: Page, lang: str) -> None:
        """Note what a template's page says of disambiguation pages."""
        if page.namespace in (MESSAGES, TEMPLATES):
            self.result.marks += ((lang, name) for name in marks_on(page))
            if redirect := template_redirect(page):
                self.result.template_redirects.append((lang, *redirect))

    def _lead(self, lang: str, name: str, target: str) -> None:
        """Note that a name leads to an article, unless the name is private."""
        if self._redacted(name) == name:
            self.result.redirects.append((lang, capital(name), capital(target)))

    def _redacted(self, text: str) -> str:
        if self.redact is None:
            return text
        text, counts = self.redact(text)
        self.result.privacy.update(counts)
        return text

    def _look(self, page: Page, document: Document) -> None:
        """Note what the report shows: left-over markup, and a fair sample of articles before and after."""
        text = document.text
        marks = (pair for character, pairs in LEFT_OVERS.items() if character in text for pair in pairs.items())
        for mark, pattern in marks:
            if found := pattern.search(text):
                at = found.start()
                example = {"title": document.title, "context": text[max(0, at - 60) : at + 60]}
                one = {mark: {"documents": 1, "examples": [example]}}
                self.result.left_overs = merge_left_overs(self.result.left_overs, one)
        rank = blake2b(page.title.encode("utf-8", "replace"), digest_size=8).hexdigest()
        samples = self.result.samples
        if len(samples) < SAMPLES or rank < samples[-1]["rank"]:
            before = page.text[:SAMPLE_CHARS]
            if self.redact is not None:
                before, _ = self.redact(before)
            after = text[:SAMPLE_CHARS]
            samples.append(
                {"rank": rank, "title": document.title, "url": document.url, "before": before, "after": after}
            )
            samples.sort(key=lambda sample: sample["rank"])
            del samples[SAMPLES:]

    def finish(self) -> Cleaned:
        """Everything as tables and plain values."""
        import pyarrow as pa

        from wikigpt.corpus.dedup import checksum, sketches

        result = self.result
        texts = [document.text.encode() for document in result.documents]
        titles = (document.title.encode() for document in result.documents)
        # With the title, so that stubs which differ only in what they are about are told apart; and its
        # first character shall lie in as many windows of 32 bytes as any other.
        whole = (b"%31s%s\n%s" % (b"", title, text) for title, text in zip(titles, texts, strict=True))
        sketched = sketches(whole) if self.settings.near_duplicates else [None] * len(texts)
        documents = table(result.documents, texts)
        documents = documents.append_column("page", pa.array(result.pages, pa.string()))
        lengths = (len(document.text) for document in result.documents)
        documents = documents.append_column("length", pa.array(lengths, pa.uint32()))
        documents = documents.append_column("checksum", pa.array(map(checksum, texts), pa.uint64()))
        documents = documents.append_column("sketch", pa.array(sketched, pa.binary()))
        facts = {
            "documents": len(texts),
            "salvaged": result.salvaged,
            "seen": result.seen,
            "sections": result.sections,
            "drops": dict(result.drops),
            "privacy": dict(result.privacy),
            "redirects": result.redirects,
            "marks": result.marks,
            "template_redirects": result.template_redirects,
            "possible": result.possible,
            "skipped": result.skipped,
            "left_overs": result.left_overs,
            "samples": result.samples,
        }
        dropped = table_of_dropped(result.dropped) if result.dropped else None
        return Cleaned(documents, dropped, json.loads(json.dumps(facts)))
