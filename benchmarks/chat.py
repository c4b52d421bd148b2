"""Search: is the right paragraph among the first five, how fast, how large is the index; against plain BM25.

    python chat.py

**Retrieval**: the questions of XQuAD (English, Chinese), DRCD and CMRC 2018, all paragraphs of a set indexed together,
each under its article's title. The peer is BM25 as `bm25s` computes it, over words between spaces in English and pairs
of characters in Chinese, of title and paragraph.

**Index**: 100,000 paragraphs and more, made of the Chinese and English articles of `data/text`; bytes a second of one
process, size, and the time of a question, the median and the slowest of two hundred.
"""

import gzip
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from common import DATA, arguments, report, result
from wikigpt.corpus import build_corpus, read_corpus
from wikigpt.corpus.document import Document
from wikigpt.knowledge import Index, index_documents

SETS = {
    "XQuAD, English": ("xquad.en", "en"),
    "XQuAD, Chinese": ("xquad.zh", "zh"),
    "DRCD": ("drcd-dev", "zh"),
    "CMRC 2018": ("cmrc2018-trial", "zh"),
}
TOP = 5
QUESTIONS = 200  # asked of each index, about


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, only="")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for part, measure in (("retrieval", retrieval), ("index", index)):
            if options.only in ("", part):
                rows += measure(Path(temporary))
    report(rows, options.json)


def retrieval(work: Path) -> Iterator[dict[str, Any]]:
    """Shares of questions whose paragraph is the first, and among the first five."""
    for name, (file, lang) in SETS.items():
        titles, paragraphs, asked = read_set(DATA / "eval" / f"{file}.json.gz")
        texts = [f"{title}\n{text}" for title, text in zip(titles, paragraphs, strict=True)]
        ours = ranks(by_us(work, titles, paragraphs, asked, lang), asked)
        peer = ranks(by_bm25(texts, asked, str.split if lang == "en" else pairs), asked)
        for most in (1, TOP):
            shares = [sum(rank < most for rank in found) / len(asked) for found in (ours, peer)]
            label = f"right paragraph of {len(paragraphs):,} first" if most == 1 else f"… among the first {most}"
            yield result(
                f"{name}, {len(asked):,} questions: {label}",
                [shares[0]],
                [shares[1]],
                peer_name="bm25s, words between spaces" if lang == "en" else "bm25s, pairs of characters",
                unit="share",
            )


def read_set(file: Path) -> tuple[list[str], list[str], list[tuple[str, int]]]:
    """Titles and paragraphs, and each question with the number of its paragraph."""
    with gzip.open(file) as opened:
        data = json.load(opened)
    titles: list[str] = []
    paragraphs: list[str] = []
    asked: list[tuple[str, int]] = []
    for entry in data["data"] if isinstance(data, dict) else data:
        for paragraph in entry["paragraphs"]:
            asked += [(question["question"], len(paragraphs)) for question in paragraph["qas"]]
            titles.append(str(entry.get("title", "")).replace("_", " "))
            paragraphs.append(paragraph["context"])
    return titles, paragraphs, asked


def ranks(found: Iterable[list[int]], asked: list[tuple[str, int]]) -> list[int]:
    """Where among the paragraphs found the right one stands, from 0 on; behind all where it was not found."""
    return [some.index(right) if right in some else TOP for some, (_, right) in zip(found, asked, strict=True)]


def by_us(
    work: Path, titles: list[str], paragraphs: list[str], asked: list[tuple[str, int]], lang: str
) -> Iterator[list[int]]:
    """Numbers of the paragraphs that `wikigpt search` finds, of which each counts once."""
    documents = (
        Document(str(number), "1", "", title or f"#{number}", text, lang)
        for number, (title, text) in enumerate(zip(titles, paragraphs, strict=True))
    )
    index_documents(documents, work / "set.sqlite")
    opened = Index(work / "set.sqlite")
    for question, _ in asked:
        yield list(dict.fromkeys(int(hit.id) for hit in opened.search(question, k=4 * TOP)))[:TOP]
    opened.close()


def by_bm25(texts: list[str], asked: list[tuple[str, int]], cut: Callable[[str], list[str]]) -> Iterator[list[int]]:
    """Numbers of the paragraphs that BM25 finds."""
    import bm25s

    retriever = bm25s.BM25()
    retriever.index([cut(text.lower()) for text in texts], show_progress=False)
    for question, _ in asked:
        found, _ = retriever.retrieve([cut(question.lower())], k=min(TOP, len(texts)), show_progress=False)
        yield found[0].tolist()


def pairs(text: str) -> list[str]:
    """Overlapping pairs of Chinese characters; Latin words and numbers whole."""
    found: list[str] = []
    for run in re.findall(r"[\u4e00-\u9fff]+|[^\W\u4e00-\u9fff]+", text):
        found += [run[i : i + 2] for i in range(max(1, len(run) - 1))] if "\u4e00" <= run[0] <= "\u9fff" else [run]
    return found


def index(work: Path) -> Iterator[dict[str, Any]]:
    """Speed and size of an index of many passages, and how long a question takes."""
    for lang, language in (("en", "English"), ("zh", "Chinese")):
        corpus = work / lang
        build_corpus([DATA / "text" / f"{lang}wiki.jsonl.xz"], corpus, report=False, min_chars=30)
        documents = list(read_corpus(corpus))
        path = work / f"{lang}.sqlite"
        began = time.perf_counter()
        counts = index_documents(documents, path)
        seconds = time.perf_counter() - began
        size = counts["text_bytes"] / 1e6
        label = f"index of {counts['passages']:,} {language} passages"
        yield result(f"{label}: text", [size / seconds], [10.0], peer_name="target", unit="MB/s")
        yield result(
            f"{label}: its size", [path.stat().st_size / 1e6 / size], [2.0], peer_name="at most", unit="of the text's"
        )
        opened = Index(path)
        step = max(1, len(documents) // QUESTIONS)
        times = []
        for document in documents[::step]:
            question = first_sentence(document)
            began = time.perf_counter()
            opened.search(question)
            times.append(1000 * (time.perf_counter() - began))
        yield result(f"{label}: a question", times[1:], [20.0] * (len(times) - 1), peer_name="at most", unit="ms")
        print(f"  slowest {max(times):.1f} ms, 95 % under {statistics.quantiles(times, n=20)[-1]:.1f} ms", flush=True)
        opened.close()


def first_sentence(document: Document) -> str:
    """Something to look for: what an article says, without its title."""
    return document.text[:120].replace(document.title, "")


if __name__ == "__main__":
    main()
