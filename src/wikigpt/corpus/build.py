"""Dumps in, corpus folder out: read in one process, clean in several, write in order."""

import hashlib
import os
import re
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

from wikigpt.artifacts import atomic_folder, check_output_folder, sha256_file, write_json
from wikigpt.corpus import extracted
from wikigpt.corpus.document import Document, split_of
from wikigpt.corpus.dump import Page, Site, read_dump
from wikigpt.corpus.filters import normalise, reason_to_drop, without_boilerplate
from wikigpt.corpus.languages import LANGUAGE_CODES, capital
from wikigpt.corpus.source import Source, list_inputs
from wikigpt.corpus.variants import FALLBACKS, converter
from wikigpt.corpus.wikitext import read_wikitext
from wikigpt.corpus.write import MANIFEST, Parts, read_groups, write_part
from wikigpt.errors import UserError

VERSION = 1
MIN_CHARS = 100
CHUNK_CHARS = 1_500_000
CHUNK_PAGES = 1_000
POOL_BYTES = 1_000_000  # compressed input; below, starting processes costs more than it saves

Progress = Callable[[int, int, str], None]


@dataclass(slots=True)
class Settings:
    """What cleaning a page depends on."""

    variant: str | None
    min_chars: int
    validation_fraction: float
    keep_references: bool = False


@dataclass(slots=True)
class Chunk:
    """Some consecutive pages of one wiki, and what was left out between them."""

    site: Site
    pages: list[tuple[Page, str]] = field(default_factory=list)  # with the URL, if the source gives it
    drops: Counter[str] = field(default_factory=Counter)
    redirects: list[tuple[str, str]] = field(default_factory=list)  # (title, target)
    seen: int = 0
    chars: int = 0


@dataclass(slots=True)
class Cleaned:
    """A chunk's documents, each with the title the wiki knows it by."""

    documents: list[tuple[str, Document]]
    drops: Counter[str]
    redirects: list[tuple[str, str]]
    seen: int
    lang: str
    sections: int = 0  # sections of references and links left out


def build_corpus(
    inputs: Sequence[Path | str] | Path | str,
    output: Path | str,
    *,
    lang: str | None = None,
    variant: str | None = "zh-hans",
    min_chars: int = MIN_CHARS,
    validation_fraction: float = 0.05,
    max_documents: int | None = None,
    keep_references: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Turn dumps into a corpus folder; return its manifest.

    `inputs`: MediaWiki XML dumps, JSON lines or wikimedia/wikipedia parquet, or folders of them. `lang`
    overrides the language the sources give. `variant` is the script Chinese wikis are converted to (None:
    left as it is). Articles shorter than `min_chars` (CJK characters count twice) are dropped; about
    `validation_fraction` of the articles are marked "validation". Sections that only list references and
    links (See also, 参考文献, …) are left out unless `keep_references`. `workers`: processes that clean pages
    (default: one per core; none for small inputs). `progress(done, total, message)` is called with bytes of
    input. The result does not depend on `workers`, and appears at `output` only when it is complete.

    Raises `UserError` if an input is missing, damaged or no dump, or if no article survives.
    """
    _check(variant, min_chars, validation_fraction, max_documents, workers)
    output = Path(output)
    check_output_folder(output, MANIFEST)
    paths = list_inputs([Path(inputs)] if isinstance(inputs, str | Path) else [Path(item) for item in inputs], output)
    sources = [Source(path) for path in paths]
    total = sum(source.size for source in sources)
    settings = Settings(variant, min_chars, validation_fraction, keep_references)
    if workers is None:
        workers = 0 if total < POOL_BYTES else _cores()
    tally = _Tally(max_documents)
    sites: dict[Path, Site] = {}

    def read() -> int:
        return sum(source.bytes_read for source in sources)

    with atomic_folder(output) as folder:
        chunks = (chunk for source in sources for chunk in _chunks(source, lang, sites))
        writer = _Writer(folder)
        cleaned = _clean_all(chunks, settings, workers)
        try:
            for result in cleaned:
                for title, document in tally.admit(result):
                    writer.add(title, document)
                if progress:
                    progress(min(read(), total), total, f"{tally.documents:,} articles of {tally.seen:,} pages")
                if tally.full:
                    break
        finally:
            cleaned.close()
            writer.parts.close()
        if not tally.documents:
            raise UserError(_nothing_left(paths, tally, min_chars))
        parts = writer.finish(_aliases(tally.redirects, set(writer.titles), variant))
        manifest = {
            "format": "wikigpt-corpus",
            "version": VERSION,
            "documents": tally.documents,
            "characters": tally.characters,
            "languages": dict(sorted(tally.languages.items())),
            "splits": dict(sorted(tally.splits.items())),
            "pages_seen": tally.seen,
            "redirects": len(tally.redirects),
            "drops": dict(sorted(tally.drops.items())),
            "reference_sections_dropped": tally.sections,
            "settings": {
                "lang": lang,
                "variant": variant,
                "min_chars": min_chars,
                "validation_fraction": validation_fraction,
                "max_documents": max_documents,
                "keep_references": keep_references,
            },
            "sources": [_about(source, sites.get(source.path), not tally.full) for source in sources],
            "licence": _licence(sites.values()),
            "parts": parts,
        }
        write_json(folder / MANIFEST, manifest)
    if progress:
        progress(total, total, f"{tally.documents:,} articles of {tally.seen:,} pages")
    return manifest


def _cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(
    variant: str | None, min_chars: int, validation_fraction: float, max_documents: int | None, workers: int | None
) -> None:
    if variant is not None and variant not in FALLBACKS:
        raise UserError(f"variant {variant!r} is unknown; choose one of {', '.join(FALLBACKS)}.")
    if not 0 <= validation_fraction < 1:
        raise UserError(f"validation_fraction is {validation_fraction}; it must be at least 0 and less than 1.")
    if min_chars < 0:
        raise UserError(f"min_chars is {min_chars}; it must not be negative.")
    if max_documents is not None and max_documents < 1:
        raise UserError(f"max_documents is {max_documents}; it must be at least 1.")
    if workers is not None and workers < 0:
        raise UserError(f"workers is {workers}; it must not be negative.")


# Reading


def _chunks(source: Source, lang: str | None, sites: dict[Path, Site]) -> Iterator[Chunk]:
    """Cut a source into chunks whose borders depend on the content alone."""
    chunk: Chunk | None = None
    for site, page, url in _pages(source, lang):
        if chunk is None or chunk.site is not site:
            if chunk:
                yield chunk
            chunk = Chunk(site)
            sites.setdefault(source.path, site)
        _put(chunk, page, url)
        if chunk.chars >= CHUNK_CHARS or chunk.seen >= CHUNK_PAGES:
            yield chunk
            chunk = Chunk(site)
    if chunk:
        yield chunk


def _pages(source: Source, lang: str | None) -> Iterator[tuple[Site, Page, str]]:
    if source.kind == "xml":
        for site, page in read_dump(source, lang):
            site.lang = site.lang or _lang_from_name(source.path)
            yield site, page, ""
        return
    known: dict[str, Site] = {}
    rows = extracted.read_parquet(source) if source.kind == "parquet" else extracted.read_json_lines(source)
    for page, row_lang, url in rows:
        code = lang or row_lang or _lang_from_name(source.path)
        yield known.setdefault(code, Site(lang=code)), page, url


_LANG_IN_NAME = re.compile(r"(?:^|[^a-z])([a-z]{2,12}(?:_[a-z_]+)?)wiki(?:$|[^a-z])|^(?:\d{8}\.)?([a-z]{2,3})(?:$|\.)")


def _lang_from_name(path: Path) -> str:
    """enwiki-latest.xml -> en, 20231101.zh/train.parquet -> zh; "und" (undetermined) if the names say nothing."""
    for name in (path.name, path.parent.name):
        match = _LANG_IN_NAME.search(name)
        code = (match.group(1) or match.group(2)).replace("_", "-") if match else ""
        if code in LANGUAGE_CODES:
            return "en" if code == "simple" else code
    return "und"


def _put(chunk: Chunk, page: Page, url: str) -> None:
    chunk.seen += 1
    if page.namespace != 0:
        chunk.drops["namespace"] += 1
    elif page.redirect is not None:
        chunk.drops["redirect"] += 1
        chunk.redirects.append((page.title, page.redirect.partition("#")[0]))
    elif page.too_large:
        chunk.drops["too_large"] += 1
    elif page.model not in ("wikitext", "plain"):
        chunk.drops["not_wikitext"] += 1
    else:
        chunk.pages.append((page, url))
        chunk.chars += len(page.text)


# Cleaning


def clean_chunk(chunk: Chunk, settings: Settings) -> Cleaned:
    """Clean the pages of a chunk (runs in the worker processes)."""
    site = chunk.site
    files, categories = site.names_of(6), site.names_of(14)
    variant = settings.variant if site.lang == "zh" else None
    convert = converter(variant) if variant else None
    result = Cleaned([], chunk.drops, chunk.redirects, chunk.seen, site.lang)
    for page, url in chunk.pages:
        title = page.title
        facts: tuple[tuple[str, str], ...] = ()
        category_names: tuple[str, ...] = ()
        langlinks: tuple[tuple[str, str], ...] = ()
        if page.model == "plain":
            text = extracted.tidy(page.text, title, site.lang, variant)
            if convert:
                text, title = convert(text), convert(title)
        else:
            article = read_wikitext(
                page.text,
                lang=site.lang,
                variant=variant,
                title=title,
                file_namespaces=files,
                category_namespaces=categories,
            )
            if article.redirect is not None:
                result.drops["redirect"] += 1
                result.redirects.append((page.title, article.redirect))
                continue
            if article.disambiguation:
                result.drops["disambiguation"] += 1
                continue
            text, title, facts = article.text, article.title, article.facts
            category_names, langlinks = article.categories, article.langlinks
        text, title = normalise(text).strip(), normalise(title)
        if not settings.keep_references:
            text, sections = without_boilerplate(text)
            result.sections += sections
        reason = reason_to_drop(text, site.lang, settings.min_chars)
        if reason:
            result.drops[reason] += 1
            continue
        document = Document(
            id=page.id,
            revision=page.revision,
            url=url or site.url(page.title),
            title=title,
            text=text,
            lang=site.lang,
            categories=category_names,
            facts=facts,
            aliases=(page.title,) if page.title != title else (),
            langlinks=langlinks,
            split=split_of(site.lang, page.title, langlinks, settings.validation_fraction),
        )
        result.documents.append((page.title, document))
    return result


def _clean_all(chunks: Iterable[Chunk], settings: Settings, workers: int) -> Generator[Cleaned, None, None]:
    """Clean chunks in `workers` processes (0 or 1: in this one); results come in the chunks' order."""
    if workers <= 1:
        for chunk in chunks:
            yield clean_chunk(chunk, settings)
        return
    # "spawn" works everywhere and does not copy a parent that has threads.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_ignore_interrupt)
    waiting: deque[Future[Cleaned]] = deque()
    try:
        for chunk in chunks:
            with _main_hidden():
                waiting.append(pool.submit(clean_chunk, chunk, settings))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise RuntimeError(
            "a process that cleans pages was killed, probably because memory ran out; use fewer workers."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Keep processes that start here from running the caller's script again.

    "spawn" imports the parent's main module in each child, so that a script without an
    `if __name__ == "__main__"` guard, or one read from stdin, would fail. Ours need nothing from it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _ignore_interrupt() -> None:
    """Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# Counting and writing


class _Tally:
    """What has come in so far; drops exact duplicates and stops at the wanted number."""

    def __init__(self, max_documents: int | None) -> None:
        self.max_documents = max_documents
        self.documents = self.seen = self.characters = self.sections = 0
        self.drops: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.splits: Counter[str] = Counter()
        self.redirects: dict[tuple[str, str], str] = {}
        self._texts: set[bytes] = set()

    @property
    def full(self) -> bool:
        return self.max_documents is not None and self.documents >= self.max_documents

    def admit(self, cleaned: Cleaned) -> Iterator[tuple[str, Document]]:
        """The documents of this chunk that go into the corpus."""
        self.seen += cleaned.seen
        self.drops += cleaned.drops
        self.sections += cleaned.sections
        for title, target in cleaned.redirects:
            self.redirects[cleaned.lang, capital(title)] = capital(target)
        for title, document in cleaned.documents:
            if self.full:
                self.drops["beyond_max_documents"] += 1
                continue
            digest = hashlib.blake2b(document.text.encode(), digest_size=16).digest()
            if digest in self._texts:
                self.drops["duplicate"] += 1
                continue
            self._texts.add(digest)
            self.documents += 1
            self.characters += len(document.text)
            self.languages[document.lang] += 1
            self.splits[document.split] += 1
            yield title, document


class _Writer:
    """Writes the documents; adds the aliases when all redirects are known."""

    def __init__(self, folder: Path) -> None:
        self.parts = Parts(folder)
        self.titles: list[tuple[str, str]] = []  # language and wiki title of each document

    def add(self, title: str, document: Document) -> None:
        self.titles.append((document.lang, title))
        self.parts.add(document)

    def finish(self, aliases: dict[tuple[str, str], list[str]]) -> list[dict[str, Any]]:
        """Close the last part and add the aliases; return what the manifest says of each part."""
        self.parts.close()
        titles = iter(self.titles)
        about = []
        for number, count in enumerate(self.parts.counts):
            path = self.parts.path(number)
            names = [aliases.get(key, []) for key in islice(titles, count)]
            if any(names):
                temporary = path.with_suffix(".tmp")
                write_part(temporary, _with_aliases(read_groups(path), iter(names)))
                temporary.replace(path)
            about.append({"file": path.name, "documents": count, "sha256": sha256_file(path)})
        return about


def _with_aliases(groups: Iterable[list[Document]], names: Iterator[list[str]]) -> Iterator[list[Document]]:
    for group in groups:
        yield [_with_alias(document, next(names)) for document in group]


def _with_alias(document: Document, names: list[str]) -> Document:
    unique = dict.fromkeys((*document.aliases, *names))
    return replace(document, aliases=tuple(name for name in unique if name != document.title))


def _aliases(
    redirects: dict[tuple[str, str], str], titles: set[tuple[str, str]], variant: str | None
) -> dict[tuple[str, str], list[str]]:
    """Titles of redirects by the article they end at, through chains of redirects.

    Chinese ones come in the script of the corpus, too: who looks for 法兰西 shall find what 法蘭西 leads to.
    """
    convert = converter(variant) if variant else None
    aliases: dict[tuple[str, str], list[str]] = {}
    for (lang, title), target in redirects.items():
        for _ in range(4):
            if (lang, target) in titles or (lang, target) not in redirects:
                break
            target = redirects[lang, target]
        if (lang, target) in titles and target != title:
            names = aliases.setdefault((lang, target), [])
            names += [convert(title), title] if convert and lang == "zh" else [title]
    return aliases


def _about(source: Source, site: Site | None, complete: bool) -> dict[str, Any]:
    about: dict[str, Any] = {
        "file": source.path.name,
        "bytes": source.size,
        # Where max_documents stopped the reading, the rest of a large dump is not read for its checksum.
        "sha256": source.sha256() if complete else None,
        "kind": source.kind,
        "compression": source.compression or None,
    }
    if site:
        about["lang"] = site.lang
        if site.dbname or site.base:
            about["site"] = {
                "name": site.name,
                "dbname": site.dbname,
                "base": site.base,
                "generator": site.generator,
                "export_version": site.version,
            }
    return about


_WIKIPEDIA = ".wikipedia.org/"
_LICENCES = {
    _WIKIPEDIA: "CC BY-SA 4.0 (text of Wikipedia: attribute it to the Wikipedia contributors)",
    ".sample.wikigpt.org/": "Apache-2.0 (sample wiki; the sources of its facts: src/wikigpt/sample/README.md)",
}


def _licence(sites: Iterable[Site]) -> str:
    """The licences of texts we know (other sources than dumps are taken for Wikipedia); others we cannot know."""
    licences = set()
    for base in {site.base for site in sites}:
        known = next((licence for host, licence in _LICENCES.items() if host in (base or _WIKIPEDIA)), None)
        licences.add(known or f"see the terms of {base}")
    return "; ".join(sorted(licences))


def _nothing_left(paths: Sequence[Path], tally: _Tally, min_chars: int) -> str:
    names = ", ".join(path.name for path in paths[:3]) + (", …" if len(paths) > 3 else "")
    if not tally.seen:
        return f"{names} holds no pages at all; give a pages-articles dump of a wiki that has articles."
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in tally.drops.most_common())
    hint = f"; lower min_chars (now {min_chars}) to keep short ones" if tally.drops["too_short"] else ""
    return f"no article of {names} is left: {tally.seen:,} pages seen, dropped: {reasons}{hint}."
