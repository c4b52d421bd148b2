"""Dumps in, corpus folder out: cut into shards, clean them, merge what has become of them."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wikigpt import __version__
from wikigpt.artifacts import atomic_folder, check_output_folder, fingerprint, only_writer, write_json
from wikigpt.corpus.cleaned import PAGE_SECONDS, Privacy, Settings
from wikigpt.corpus.dump import Damage, Site
from wikigpt.corpus.executors import Executor, clean_all
from wikigpt.corpus.languages import FALLBACKS
from wikigpt.corpus.shards import Shard, line_before, read_shards
from wikigpt.corpus.source import STDIN, Source, list_inputs
from wikigpt.corpus.work import Work
from wikigpt.corpus.write import MANIFEST
from wikigpt.errors import UserError

if TYPE_CHECKING:
    from wikigpt.corpus.merge import Merged
    from wikigpt.encryption import Key

VERSION = 1
WORK_VERSION = 3  # of what a shard holds: another one's work is not gone on with
MIN_CHARS = 100
NEAR_DUPLICATES = 0.9
POOL_BYTES = 1_000_000  # of input; below, starting processes costs more than it saves
MAX_WRITERS = 2  # threads that write parts; each holds a part in memory

Progress = Callable[[int, int, str], None]


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
    keep_tables: bool = False,
    keep_dropped: bool = False,
    near_duplicates: float | None = NEAR_DUPLICATES,
    templates: Mapping[str, str] | None = None,
    privacy: Privacy | None = None,
    key: Path | str | None = None,
    skip_damaged: bool = False,
    page_seconds: float = PAGE_SECONDS,
    report: bool = False,
    executor: Executor = "process",
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Turn dumps into a corpus folder; return its manifest.

    What is finished of an interrupted build lies in `{output}.work`; the same call goes on from there. The
    result depends neither on that nor on `executor` and `workers`, and appears at `output` only when it is
    complete.

    Args:
        inputs: MediaWiki XML dumps, JSON lines, wikimedia/wikipedia parquet or text files, folders of them,
            or "-" for standard input.
        lang: overrides the language the sources give.
        variant: the script Chinese wikis are converted to (None: left as it is).
        min_chars: shorter articles are dropped; CJK characters count twice.
        validation_fraction: about this share of the articles is marked "validation".
        max_documents: stop after so many.
        keep_references: keep sections that only list references and links (See also, 参考文献, …).
        keep_tables: keep tables as lines of text, cells separated by " | ".
        keep_dropped: write documents that were left out to `dropped/`, each with the reason.
        near_duplicates: similarity (0 to 1) from which an article counts as a copy of an earlier one;
            None: only exact copies are dropped.
        templates: rules for templates, by name, that are added to those of `templates.toml`.
        privacy: replace addresses, numbers of phones, cards and identities by placeholders or pseudonyms.
        key: file of the age key that the corpus is encrypted with and pseudonyms depend on; made if absent.
        skip_damaged: leave out what of a damaged input cannot be read, instead of stopping there.
        page_seconds: a page that takes longer is left out.
        report: write `report.html`, too.
        executor: "process", or "ray" to run on the Ray cluster that RAY_ADDRESS names.
        workers: processes that clean pages (default: one per core; none for small inputs).
        progress: called with bytes of input done, bytes in all (0 if not known), and a message.

    Raises:
        UserError: an input is missing, damaged or no dump, a setting does not fit, or no article is left.
    """
    settings = Settings(
        lang=lang,
        variant=variant,
        min_chars=min_chars,
        validation_fraction=validation_fraction,
        keep_references=keep_references,
        keep_tables=keep_tables,
        keep_dropped=keep_dropped,
        skip_damaged=skip_damaged,
        near_duplicates=near_duplicates,
        privacy=privacy,
        templates=dict(templates or {}),
        page_seconds=page_seconds,
    )
    _check(settings, max_documents, workers)
    output = Path(output)
    check_output_folder(output, MANIFEST)
    paths = list_inputs([Path(inputs)] if isinstance(inputs, str | Path) else [Path(item) for item in inputs], output)
    started = time.monotonic()
    locked = _key(key)
    sources = [Source(path) for path in paths]
    total = sum(source.size for source in sources) if all(source.size for source in sources) else 0
    if workers is None:
        workers = 0 if 0 < total < POOL_BYTES else _cores()

    work = Work(output.with_name(f"{output.name}.work"), locked)
    reading = _Reading(sources, total, work, settings, progress)
    with only_writer(work.folder):
        try:
            # What was cleaned before a damage was found is the same whether that is skipped or not.
            kept = asdict(replace(settings, skip_damaged=False))
            work.belongs_to(fingerprint(WORK_VERSION, __version__, kept, locked.recipient if locked else None))
            reading.clean(executor, workers, locked.secret if locked else None, max_documents)
            from wikigpt.corpus.merge import merge  # not sooner: while NumPy loads, others could be cleaning

            with atomic_folder(output) as finished:
                merged = merge(
                    work,
                    reading.shards_needed(max_documents),
                    finished,
                    variant=variant,
                    near_duplicates=near_duplicates,
                    max_documents=max_documents,
                    keep_dropped=keep_dropped,
                    key=locked,
                    writers=min(workers, MAX_WRITERS) if workers > 1 else 0,
                    progress=reading.merging,
                )
                if not merged.documents:
                    raise UserError(_nothing_left(paths, merged, min_chars))
                manifest = _manifest(sources, reading, merged, settings, max_documents, locked)
                write_json(finished / MANIFEST, manifest)
                if report:
                    from wikigpt.corpus.report import write_report

                    seconds = round(time.monotonic() - started, 1)
                    # The samples of an encrypted corpus would lie open in the report.
                    samples = [] if locked else merged.samples
                    write_report(finished / "report.html", {**manifest, "seconds": seconds}, samples)
        except UserError:
            if not reading.articles:
                shutil.rmtree(work.folder, ignore_errors=True)
            raise
    shutil.rmtree(work.folder)
    if progress:
        progress(total, total, f"{merged.documents:,} articles of {merged.seen:,} pages")
    return manifest


def _cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(settings: Settings, max_documents: int | None, workers: int | None) -> None:
    if settings.variant is not None and settings.variant not in FALLBACKS:
        raise UserError(f"variant {settings.variant!r} is unknown; choose one of {', '.join(FALLBACKS)}.")
    if not 0 <= settings.validation_fraction < 1:
        raise UserError(
            f"validation_fraction is {settings.validation_fraction}; it must be at least 0 and less than 1."
        )
    if settings.near_duplicates is not None and not 0.5 <= settings.near_duplicates <= 1:
        raise UserError(f"near_duplicates is {settings.near_duplicates}; it must be from 0.5 to 1, or none.")
    if settings.privacy not in (None, "placeholder", "pseudonym"):
        raise UserError(f"privacy {settings.privacy!r} is unknown; choose placeholder or pseudonym.")
    if settings.min_chars < 0:
        raise UserError(f"min_chars is {settings.min_chars}; it must not be negative.")
    if max_documents is not None and max_documents < 1:
        raise UserError(f"max_documents is {max_documents}; it must be at least 1.")
    if workers is not None and workers < 0:
        raise UserError(f"workers is {workers}; it must not be negative.")
    if settings.templates:
        from wikigpt.corpus.wikitext.templates import compile_rules

        compile_rules(settings.templates)


def _key(path: Path | str | None) -> "Key | None":
    if path is None:
        return None
    from wikigpt.encryption import load_key

    return load_key(Path(path), create=True)


class _Reading:
    """The sources on their way into the work folder, and how far they are."""

    def __init__(
        self, sources: list[Source], total: int, work: Work, settings: Settings, progress: Progress | None
    ) -> None:
        self.sources, self.total, self.work, self.settings, self.progress = sources, total, work, settings, progress
        self.sites: dict[int, tuple[int, Site]] = {}  # of each source, with the number of its first shard
        self.seen = [0] * len(sources)  # pages of each source
        self.documents: list[int] = []  # of each shard, in order; 0 until it is finished
        self.articles = 0  # finished, duplicates among them
        self.before = [0, *accumulate(source.size for source in sources)]  # bytes of the sources before each
        self.damage: list[str] = []  # what was wrong with sources that are read all the same
        self.started = time.monotonic()
        self.pages_here = 0  # pages cleaned by this call, not by one before it

    def clean(self, executor: Executor, workers: int, secret: bytes | None, max_documents: int | None) -> None:
        """Clean what the work folder does not hold yet. Raises `UserError` where a source is damaged."""
        identities: dict[int, str] = {}
        unread: list[Damage] = []

        def unfinished() -> Iterator[Shard]:
            for number, source in enumerate(self.sources):
                try:
                    for shard in read_shards(number, source, self.settings.lang):
                        if max_documents is not None and self.articles >= max_documents:
                            return
                        shard = replace(shard, number=len(self.documents))
                        self.sites.setdefault(number, (shard.number, shard.site))
                        # What has been read until it was cut, and where that was, tells whether it is the same.
                        identity = fingerprint(source.so_far(), shard.position, shard.start, shard.line)
                        facts = self.work.finished(shard.number, identity)
                        self.documents.append(0)
                        if facts is not None and (self.settings.skip_damaged or not facts["salvaged"]):
                            self._done(shard, facts)
                        else:
                            identities[shard.number] = identity
                            yield shard
                except Damage as damage:
                    if not self.settings.skip_damaged:
                        damage.source = number
                        unread.append(damage)
                        return
                    self.damage.append(f"{source.name}: {damage.problem}")

        results = clean_all(
            unfinished(), self.settings, secret, executor=executor, workers=workers, put_down=self.work.put_down
        )
        try:
            for shard, cleaned in results:
                self.pages_here += cleaned.facts["seen"]
                self._done(shard, self.work.write(shard.number, identities.pop(shard.number), cleaned))
        except Damage as damage:
            raise UserError(self._explain(damage)) from None
        finally:
            results.close()
        if unread:
            raise UserError(self._explain(unread[0]))

    def _done(self, shard: Shard, facts: dict[str, Any]) -> None:
        self.documents[shard.number] = facts["documents"]
        self.articles += facts["documents"]
        self.seen[shard.source] += facts["seen"]
        if self.progress:
            done = self.before[shard.source] + shard.position
            rate = self.pages_here / (time.monotonic() - self.started)
            message = f"{self.articles:,} articles, {rate:,.0f} pages/s"
            self.progress(min(done, self.total) if self.total else done, self.total, message)

    def merging(self, shards: int) -> None:
        """Say how far the merging is."""
        if self.progress:
            self.progress(self.total, self.total, f"merging: {shards:,} of {len(self.documents):,} pieces")

    def shards_needed(self, max_documents: int | None) -> int:
        """How many shards, from the first on, hold so many documents: not how many were under way at the end."""
        count = 0
        for number, documents in enumerate(self.documents):
            if max_documents is not None and count >= max_documents:
                return number
            count += documents
        return len(self.documents)

    def _explain(self, damage: Damage) -> str:
        source = self.sources[damage.source]
        where = ""
        if damage.line and not damage.start:
            where = f", line {damage.line}"
        elif damage.line and source.path != STDIN:
            where = f", line {line_before(source.path, damage.start) + damage.line}"
        pages = self.seen[damage.source] + damage.pages
        advice = (
            "the dump is damaged or incomplete: fetch it again"
            if source.kind == "xml" or source.compression
            else "correct it"
        )
        saved = self.articles
        kept = f" ({saved:,} articles are kept in {self.work.folder})" if saved else ""
        return (
            f"{source.name}{where}: {damage.problem} (after {pages:,} pages); {advice}, "
            f"or leave out what cannot be read with --skip-damaged{kept}."
        )


# The manifest


def _manifest(
    sources: Sequence[Source],
    reading: _Reading,
    merged: "Merged",
    settings: Settings,
    max_documents: int | None,
    key: "Key | None",
) -> dict[str, Any]:
    # Where max_documents stopped the reading, it depends on the workers how much more had been read.
    complete = max_documents is None or reading.articles < max_documents
    needed = reading.shards_needed(max_documents)
    sites = {number: site for number, (first, site) in reading.sites.items() if first < needed}
    return {
        "format": "wikigpt-corpus",
        "version": VERSION,
        "documents": merged.documents,
        "characters": merged.characters,
        "languages": dict(sorted(merged.languages.items())),
        "splits": dict(sorted(merged.splits.items())),
        "pages_seen": merged.seen,
        "redirects": merged.redirects,
        "aliases": merged.aliases,
        "drops": dict(sorted(merged.drops.items())),
        "reference_sections_dropped": merged.sections,
        "lengths": merged.histogram(),
        "leftovers": _without_text(merged.left_overs) if key else merged.left_overs,
        # What an encrypted corpus holds shall not lie open beside it.
        "skipped": [] if key else merged.skipped,
        "damage": reading.damage,
        "privacy": dict(sorted(merged.privacy.items())),
        "encrypted_for": key.recipient if key else None,
        "settings": {**asdict(settings), "max_documents": max_documents},
        "sources": [_about(source, sites.get(number), complete) for number, source in enumerate(sources)],
        "licence": _licence(sites.values()),
        "parts": merged.parts,
    }


def _without_text(left_overs: dict[str, Any]) -> dict[str, Any]:
    return {mark: {**entry, "examples": []} for mark, entry in left_overs.items()}


def _about(source: Source, site: Site | None, complete: bool) -> dict[str, Any]:
    about: dict[str, Any] = {
        "file": source.path.name,
        "bytes": source.size or source.bytes_read,
        "sha256": source.sha256 if complete else None,
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


def _nothing_left(paths: Sequence[Path], merged: "Merged", min_chars: int) -> str:
    names = ", ".join(path.name for path in paths[:3]) + (", …" if len(paths) > 3 else "")
    if not merged.seen:
        return f"{names} holds no pages at all; give a pages-articles dump of a wiki that has articles."
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in merged.drops.most_common())
    hint = f"; lower min_chars (now {min_chars}) to keep short ones" if merged.drops["too_short"] else ""
    return f"no article of {names} is left: {merged.seen:,} pages seen, dropped: {reasons}{hint}."
