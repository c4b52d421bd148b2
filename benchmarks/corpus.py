"""The corpus builder against wikiextractor 3.1.0 and mwparserfromhell's `strip_code`, and against its own targets.

All three run as separate programs, XML in and documents out, start-up included: ours builds the whole corpus with
its defaults, parquet out; the peers live in an environment of their own (`benchmarks/.peers`, made on the first
run, or `--peers FOLDER`). On one core each of them is kept on the same one, since a single process of
wikiextractor's comes with two more that read and write. The input is real: the pages of the small dumps under
$WIKIGPT_DATA (default `../shared/data`), repeated with other titles, ids and words, so that start-up and duplicates
do not matter. The English and Chinese ones hold no pages of templates, so that wikiextractor has none to expand; the
Latgalian one is a whole wiki with its templates, which wikiextractor expands unless told not to. Rounds alternate,
so that a busy machine slows all. `--quick` only shows that everything works.
"""

import bz2
import compileall
import gzip
import html
import io
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import venv
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import psutil

import wikigpt
from common import DATA, arguments, report, result
from wikigpt.corpus import build_corpus, clean_wikitext, read_corpus
from wikigpt.errors import UserError

HERE = Path(__file__).parent
PEERS = ("wikiextractor==3.1.0", "mwparserfromhell==0.7.2")
STREAM_PAGES = 100  # in each stream of a multistream dump, as Wikipedia's have

WORD = re.compile(r"(?<=[a-z] )[a-z]{4,}(?= [a-z])|(?<=[，。])[\u4e00-\u9fff]{2,4}")
LEFT_OVER = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|<ref|thumb\||-\{")
UNCLOSED = ("{{a|", "[[", "{|", "<ref>", "'''")
CHINESE = "zhwiki-33pages.xml.gz"
WHOLE_WIKI = "ltgwiki-2004pages.xml.gz"
NO_TEMPLATES = ("--no-templates",)
HEADER = """\
<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="{lang}">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>{lang}wiki</dbname>
    <base>https://{lang}.wikipedia.org/wiki/Main_Page</base>
    <generator>MediaWiki 1.44</generator>
    <case>first-letter</case>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="6" case="first-letter">File</namespace>
      <namespace key="10" case="first-letter">Template</namespace>
      <namespace key="14" case="first-letter">Category</namespace>
    </namespaces>
  </siteinfo>
"""


@dataclass(frozen=True)
class Page:
    """One page of a real dump."""

    title: str
    namespace: str
    redirect: str | None
    text: str


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, rounds=3, peers="", quick=False)
    if not (DATA / "xml").is_dir():
        raise SystemExit(f"there are no real dumps at {DATA / 'xml'}; set WIKIGPT_DATA to the folder that holds xml/.")
    rounds, scale = (1, 0.02) if options.quick else (options.rounds, 1.0)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        programs = Programs(environment_of_peers(options.peers), work)
        results += speed(programs, work, rounds, scale)
        results += whole_wiki(programs, work, rounds, scale)
        results += two_processes(programs, work, rounds, scale)
        results += memory(programs, work, scale)
        results += linear_time(rounds, scale)
        results += left_over_markup(programs, work)
    report(results, options.json)


# The programs


class ProgramFailed(Exception):
    """A program ended with an error; its last words."""


def environment_of_peers(given: str) -> Path:
    """The folder of the peers' virtual environment; made where there is none."""
    folder = Path(given).resolve() if given else HERE / ".peers"
    if not (folder / "bin" / "wikiextractor").exists():
        venv.create(folder, with_pip=True)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", *PEERS], check=True)
    return folder


class Programs:
    """Ours and the peers, each run as a program that writes into a fresh folder; they return seconds."""

    def __init__(self, peers: Path, work: Path) -> None:
        self.peers = peers
        self.work = work
        compileall.compile_dir(Path(wikigpt.__file__).parent, quiet=1)  # as pip does for those that it installs

    def ours(self, dump: Path, workers: int = 1, peaks: dict[int, float] | None = None) -> float:
        """Build a corpus."""
        program = "import sys; from wikigpt.corpus import build_corpus as b; b(sys.argv[1], sys.argv[2], workers={})"
        return run([sys.executable, "-c", program.format(workers), dump, self.fresh()], peaks, cores=workers)

    def wikiextractor(self, dump: Path, options: Sequence[str] = (), output: Path | None = None) -> float:
        """Extract to JSON with one process."""
        settings = ["--json", "--quiet", "--processes", "1", *options]
        return run([self.peers / "bin" / "wikiextractor", dump, *settings, "-o", output or self.fresh()])

    def strip_code(self, dump: Path) -> float:
        """Parse and strip all articles."""
        return run([self.peers / "bin" / "python", HERE / "strip_code.py", dump, self.fresh()])

    def fresh(self) -> Path:
        """A path where nothing is yet."""
        return Path(tempfile.mkdtemp(dir=self.work)) / "output"


def run(command: Sequence[str | Path], peaks: dict[int, float] | None = None, *, cores: int = 1) -> float:
    """Run a program to its end on so many cores; return its seconds.

    `peaks` collects the most megabytes of each of its processes.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as messages:
        with children_on(cores):
            process = subprocess.Popen([str(part) for part in command], stdout=messages, stderr=messages)
        while peaks is not None and process.poll() is None:
            note_memory(process.pid, peaks)
            time.sleep(0.02)
        if process.wait():
            messages.seek(0)
            raise ProgramFailed(f"{command[0]}: {messages.read().decode(errors='replace')[-2000:]}")
    return time.perf_counter() - begin


@contextmanager
def children_on(cores: int) -> Iterator[None]:
    """Processes that start here run on so many cores only, where the system can see to that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[-cores:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def note_memory(pid: int, peaks: dict[int, float]) -> None:
    """Raise the peaks, in megabytes, to the resident memory that the process and its descendants have now."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                peaks[process.pid] = max(peaks.get(process.pid, 0.0), process.memory_info().rss / 1e6)


# The input


def pages_of(name: str) -> list[Page]:
    """The pages of one real dump."""
    pages = []
    path = DATA / "xml" / name
    stream: Any
    with {".bz2": bz2.BZ2File, ".gz": gzip.GzipFile}.get(path.suffix, io.FileIO)(path) as stream:
        for _, element in ElementTree.iterparse(stream):
            if not element.tag.endswith("}page"):
                continue
            space = element.tag.removesuffix("page")
            redirect = element.find(f"{space}redirect")
            pages.append(
                Page(
                    element.findtext(f"{space}title") or "",
                    element.findtext(f"{space}ns") or "0",
                    None if redirect is None else redirect.get("title"),
                    element.findtext(f".//{space}text") or "",
                )
            )
            element.clear()
    return pages


def english_pages() -> list[Page]:
    """Pages of the English and the Simple English Wikipedia."""
    return [
        page
        for name in ("enwiki-206pages.xml.bz2", "enwiki-70pages.xml.bz2", "simplewiki-7pages.xml")
        for page in pages_of(name)
    ]


def repeated(pages: Sequence[Page], size: int) -> Iterator[Page]:
    """The pages again and again, about `size` bytes of wikitext, no two alike."""
    written = 0
    for number, page in enumerate(itertools.cycle(pages)):
        copy = replace(page, title=f"{page.title} {number}", text=varied(page.text, number))
        yield copy
        written += len(copy.text.encode())
        if written >= size:
            return


def varied(text: str, seed: int) -> str:
    """The text with words in its sentences turned round, so many that no two copies pass for duplicates."""
    chance = random.Random(seed)
    return WORD.sub(lambda match: match[0][::-1] if chance.random() < 0.3 else match[0], text)


def write_dump(path: Path, head: str, pages: Iterable[Page], *, streams: bool = False) -> float:
    """Write a dump; return its megabytes before compression. `streams`: as multistream bz2, as Wikipedia does."""
    written = 0
    numbered = enumerate(pages, start=1)
    batches = iter(lambda: list(itertools.islice(numbered, STREAM_PAGES)), [])
    with path.open("wb") as file:
        for block in itertools.chain([head], map(_as_xml, batches), ["</mediawiki>\n"]):
            data = block.encode()
            written += len(data)
            file.write(bz2.compress(data) if streams else data)
    return written / 1e6


def _as_xml(pages: Iterable[tuple[int, Page]]) -> str:
    return "".join(
        f"  <page>\n    <title>{escape(page.title)}</title>\n    <ns>{page.namespace}</ns>\n    <id>{number}</id>\n"
        + (f"    <redirect title={quoteattr(page.redirect)} />\n" if page.redirect else "")
        + f"    <revision>\n      <id>{10**6 + number}</id>\n      <parentid>{10**6 - number}</parentid>\n"
        "      <timestamp>2026-11-01T00:00:00Z</timestamp>\n      <contributor>\n        <username>Example</username>\n"
        f"        <id>1</id>\n      </contributor>\n      <comment>/* {escape(page.title)} */</comment>\n"
        "      <model>wikitext</model>\n      <format>text/x-wiki</format>\n"
        f'      <text bytes="{len(page.text.encode())}" xml:space="preserve">{escape(page.text)}</text>\n'
        "      <sha1>phoiac9h4m842xq45sp7s6u21eteeq1</sha1>\n    </revision>\n  </page>\n"
        for number, page in pages
    )


# The figures


def speed(programs: Programs, work: Path, rounds: int, scale: float) -> list[dict[str, Any]]:
    """Megabytes of XML a second, each program on one core."""
    results = []
    for lang, pages in (("en", english_pages()), ("zh", pages_of(CHINESE))):
        dump, part = work / f"{lang}.xml", work / f"{lang}-part.xml"
        megabytes = write_dump(dump, HEADER.format(lang=lang), repeated(pages, int(180e6 * scale)))
        # strip_code takes its time
        fewer = write_dump(part, HEADER.format(lang=lang), repeated(pages, int(15e6 * scale)))
        plain, bare = programs.wikiextractor(part), programs.wikiextractor(part, NO_TEMPLATES)
        best = NO_TEMPLATES if bare < plain else ()
        ours, extractor, stripped = [], [], []
        for i in range(rounds):
            ours.append(megabytes / programs.ours(dump))
            extractor.append(megabytes / programs.wikiextractor(dump, best))
            stripped.append(fewer / programs.strip_code(part))
            rates = f"ours {ours[-1]:.2f}, wikiextractor {extractor[-1]:.2f}, strip_code {stripped[-1]:.2f}"
            say(f"{lang}, {megabytes:.0f} MB, round {i + 1}: {rates} MB/s")
        name = f"corpus, {lang}wiki XML, one core"
        peer = " ".join(("wikiextractor 3.1.0", *best))
        results.append(result(f"{name} (target: 3 x)", ours, extractor, peer_name=peer, unit="MB/s"))
        peer = "mwparserfromhell 0.7.2 strip_code"
        results.append(result(f"{name} (target: 5 x)", ours, stripped, peer_name=peer, unit="MB/s"))
    return results


def whole_wiki(programs: Programs, work: Path, rounds: int, scale: float) -> list[dict[str, Any]]:
    """A complete wiki, both programs as they come."""
    pages = pages_of(WHOLE_WIKI)
    with gzip.open(DATA / "xml" / WHOLE_WIKI, "rt", encoding="utf-8") as file:
        head = file.read(100_000).partition("  <page>")[0]
    articles = [page for page in pages if page.namespace == "0"]
    others = [page for page in pages if page.namespace != "0"]
    dump = work / "whole.xml"
    megabytes = write_dump(dump, head, itertools.chain(others, repeated(articles, int(15e6 * scale))))
    ours, extractor = [], []
    for i in range(rounds):
        ours.append(megabytes / programs.ours(dump))
        extractor.append(megabytes / programs.wikiextractor(dump))
        say(f"whole wiki, round {i + 1}: ours {ours[-1]:.2f}, wikiextractor {extractor[-1]:.2f} MB/s")
    name = "corpus, ltgwiki with its templates, one core (target: 3 x)"
    return [result(name, ours, extractor, peer_name="wikiextractor 3.1.0", unit="MB/s")]


def two_processes(programs: Programs, work: Path, rounds: int, scale: float) -> list[dict[str, Any]]:
    """The same build with two processes on two cores and with one on one."""
    results = []
    pages = english_pages()
    for kind, size in (("plain XML", 600e6), ("multistream bz2", 300e6)):  # twenty seconds each with one process
        dump = work / "two"
        megabytes = write_dump(
            dump, HEADER.format(lang="en"), repeated(pages, int(size * scale)), streams=kind != "plain XML"
        )
        two, one = [], []
        for i in range(rounds):
            two.append(megabytes / programs.ours(dump, workers=2))
            one.append(megabytes / programs.ours(dump))
            say(f"{kind}, round {i + 1}: two processes {two[-1]:.2f}, one {one[-1]:.2f} MB/s")
        name = f"corpus, {kind}, two processes on two cores (target: 1.8 x)"
        results.append(result(name, two, one, peer_name="one process on one core", unit="MB/s"))
    return results


def memory(programs: Programs, work: Path, scale: float) -> list[dict[str, Any]]:
    """Resident memory of the largest process while 300 MB are read."""
    dump = work / "large.xml"
    megabytes = write_dump(dump, HEADER.format(lang="en"), repeated(english_pages(), int(300e6 * scale)))
    peaks: dict[int, float] = {}
    seconds = programs.ours(dump, workers=2, peaks=peaks)
    say(
        f"{megabytes:.0f} MB in {seconds:.1f} s; peak of each process: "
        + ", ".join(f"{p:.0f} MB" for p in peaks.values())
    )
    dump.unlink()
    name = f"corpus, memory of the largest process, {megabytes:.0f} MB of XML"
    return [result(name, [max(peaks.values())], [500.0], peer_name="target, at most", unit="MB")]


def linear_time(rounds: int, scale: float) -> list[dict[str, Any]]:
    """Nanoseconds a byte on what is opened a million times and never closed, against real wikitext."""
    count = int(1_000_000 * scale)
    chance = random.Random(0)
    worst: dict[str, Any] = {"ratio": 0.0}
    for lang, ordinary, marks in (("en", english_pages(), UNCLOSED), ("zh", pages_of(CHINESE), (*UNCLOSED, "-{"))):
        texts = {mark: mark * count for mark in (marks if lang == "en" else marks[-1:])}
        texts["all in turn"] = "".join(marks) * (count // len(marks))
        texts["all at random"] = "".join(chance.choices(marks, k=count))
        wikitext = [page.text for page in ordinary]
        for name, text in texts.items():
            pairs = [(nanoseconds_a_byte([text], lang), nanoseconds_a_byte(wikitext, lang)) for _ in range(rounds)]
            row = result(
                f"corpus, worst of {count:,} unclosed marks: {name}, {lang} (target: at most 3 x)",
                *zip(*pairs, strict=True),
                peer_name="real wikitext",
                unit="ns a byte",
            )
            say(f"unclosed {name}, {lang}: {row['ratio']} x")
            worst = max(worst, row, key=lambda r: r["ratio"])
    return [worst]


def nanoseconds_a_byte(texts: Iterable[str], lang: str) -> float:
    """Of cleaning the texts, one by one."""
    variant = "zh-hans" if lang == "zh" else None
    size = sum(len(text.encode()) for text in texts)
    begin = time.perf_counter()
    for text in texts:
        clean_wikitext(text, lang=lang, variant=variant)
    return 1e9 * (time.perf_counter() - begin) / size


def left_over_markup(programs: Programs, work: Path) -> list[dict[str, Any]]:
    """The share of documents that still hold markup, over all real dumps there are."""
    pages = work / "pages.xml"
    files = sorted((DATA / "xml" / "enwiki-wikitext-pages").glob("*.txt"))
    write_dump(
        pages,
        HEADER.format(lang="en"),
        (Page(file.stem, "0", None, file.read_text(encoding="utf-8")) for file in files),
    )
    ours: list[tuple[str, str]] = []
    theirs: list[tuple[str, str]] = []
    for dump in (pages, *sorted(path for path in (DATA / "xml").rglob("*.xml*"))):
        lang = dump.name.partition(".")[0] if dump.parent.name == "minidumps" else None
        with suppress(UserError):  # a few are damaged, or hold no article
            folder = programs.fresh()
            build_corpus(dump, folder, lang=lang, workers=1, progress=None)
            ours += [(document.title, document.text) for document in read_corpus(folder)]
        with suppress(ProgramFailed):
            folder = programs.fresh()
            programs.wikiextractor(dump, output=folder)
            rows = [json.loads(line) for path in folder.rglob("wiki_*") for line in path.open(encoding="utf-8")]
            theirs += [(row["title"], html.unescape(row["text"])) for row in rows if row["text"].strip()]
    shares = []
    for name, documents in (("ours", ours), ("wikiextractor", theirs)):
        found = [(title, match) for title, text in documents if (match := LEFT_OVER.search(text))]
        shares.append(len(found) / len(documents))
        say(f"left-over markup, {name}: {len(found)} of {len(documents)} documents")
        for title, match in found[:10]:
            say(f"  {title}: {match.string[max(0, match.start() - 30) : match.end() + 30]!r}")
    name = f"corpus, documents with left-over markup, of {len(ours):,}"
    return [
        result(f"{name} (target: under 0.001)", shares[:1], [0.001], peer_name="target, at most", unit="share"),
        result(name, shares[:1], shares[1:], peer_name="wikiextractor 3.1.0", unit="share"),
    ]


def say(line: str) -> None:
    """Show how far it is."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
