"""The report of a corpus: read as a browser reads it."""

import os
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from wikigpt.corpus import build_corpus
from wikigpt.corpus.report import HISTOGRAM_HEIGHT, REASONS, SHOWN_CHARS, SHOWN_SKIPPED, write_report

DATA = Path(os.environ.get("WIKIGPT_DATA") or Path(__file__).parents[2] / "shared" / "data")
VOID = {"meta", "br", "input"}
MANIFEST: dict[str, Any] = {
    "documents": 60,
    "characters": 1_234_567,
    "languages": {"en": 40, "zh": 20},
    "splits": {"train": 57, "validation": 3},
    "pages_seen": 1000,
    "redirects": 321,
    "reference_sections_dropped": 17,
    "drops": {"redirect": 321, "duplicate": 11, "near_duplicate": 7, "too_short": 600, "a_new_reason": 1},
    "settings": {"lang": None, "variant": "zh-hans", "min_chars": 100, "templates": {"名": "$1"}},
    "sources": [
        {
            "file": "a.xml.bz2",
            "bytes": 98_765,
            "sha256": "ab12" * 16,
            "kind": "xml",
            "compression": "bz2",
            "lang": "en",
            "site": {"name": "Wiki & Co", "dbname": "enwiki", "base": "", "generator": "MediaWiki 1.44"},
        },
        {"file": "b.jsonl", "bytes": 10, "sha256": None, "kind": "jsonl", "compression": None},
    ],
    "licence": "CC BY-SA 4.0 (text of Wikipedia)",
    "lengths": {"edges": [0, 100, 200, 500, 1000], "counts": [0, 10, 40, 8, 2]},
    "leftovers": {
        "{{": {"documents": 3, "examples": [{"title": "Braces", "context": "left {{here}} & <i>there</i>"}]},
        "thumb|": {"documents": 0, "examples": []},
    },
    "skipped": [{"title": "Huge", "reason": "took longer than 20 s"}],
    "privacy": {"email": 12, "phone": 3},
    "damage": ["a.xml.bz2: the file ends too early"],
    "encrypted_for": "age1example",
    "seconds": 4.0,
}
SAMPLES = [
    {
        "title": "Paris",
        "url": "https://example.org/wiki/Paris",
        "before": "'''Paris''' is [[city|a city]]<ref>x</ref>",
        "after": "Paris is a city",
    },
    {"title": "上海", "url": "", "before": "'''上海'''", "after": "上海"},
]


class Page(HTMLParser):
    """Elements, text and attributes; fails on a tag that closes what is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def report(tmp_path: Path, manifest: dict[str, Any] = MANIFEST, samples: list[dict[str, str]] = SAMPLES) -> Page:
    path = tmp_path / "report.html"
    write_report(path, manifest, samples)
    return Page(path.read_text(encoding="utf-8"))


def test_every_figure_is_on_the_page(tmp_path: Path) -> None:
    text = report(tmp_path).text
    for shown in (
        *(
            "60 documents",
            "1,234,567 characters",
            "1,000 pages seen",
            "6.0 % kept",
            "250 pages a second",
            "4.0 seconds",
        ),
        *("en 40 · zh 20", "train 57 · validation 3", "exact完全相同 11", "near近似 7"),
        *("a_new_reason", "321 32 %", "600 60 %", "1 0.10 %", *REASONS["too_short"]),
        *("a.xml.bz2", "Wiki & Co enwiki MediaWiki 1.44", "sha256 " + "ab12" * 16, "98,765", "no checksum"),
        *(
            "min_chars 100",
            "variant zh-hans",
            "lang –",
            'templates {"名": "$1"}',
            "for 语料库已加密（age），接收者为 age1example",
        ),
        *("read as far as it could be: 已损坏，仅读取可读部分： a.xml.bz2: the file ends too early",),
        *("CC BY-SA 4.0 (text of Wikipedia)", "the same licence"),
        *("Huge took longer than 20 s", "Braces: left {{here}} & <i>there</i> 3 5.0 %", "thumb| 0 0 %"),
        *("E-mail addresses电子邮件地址 email", "'''Paris''' is [[city|a city]]<ref>x</ref>", "Paris is a city"),
    ):
        assert _without_spaces(shown) in _without_spaces(text), shown


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def test_bars_and_histogram_are_drawn_to_scale(tmp_path: Path) -> None:
    page = report(tmp_path)
    bars = [r for r in page.all("rect") if r["height"] == "100%"]
    # Drops by size, left-over markup, private data: each against the largest of its kind.
    assert [r["width"] for r in bars] == [
        *("100.0%", "53.5%", "1.83%", "1.17%", "0.17%"),
        "100.0%",
        *("100.0%", "25.0%"),
    ]
    columns = [r for r in page.all("rect") if r["height"] != "100%"]
    heights = [float(r["height"] or 0) for r in columns]
    assert heights == [0, HISTOGRAM_HEIGHT / 4, HISTOGRAM_HEIGHT, HISTOGRAM_HEIGHT / 5, HISTOGRAM_HEIGHT / 20]
    assert [float(r["y"] or 0) + height for r, height in zip(columns, heights, strict=True)] == [HISTOGRAM_HEIGHT] * 5
    ranges = [s for s in page.all("svg") if "x" in s]
    widths = [float((s["width"] or "").rstrip("%")) for s in ranges]
    assert sum(widths) == pytest.approx(100, abs=0.01)
    # A logarithmic axis: 100 to 200 is as wide as 500 to 1000; the open range at the end, too.
    assert widths[1] == widths[3] == widths[4] < widths[2]
    assert "200 – 499: 40" in page.text and "≥ 1,000: 2" in page.text


def test_nothing_on_the_page_runs_or_loads(tmp_path: Path) -> None:
    attack = '</title></pre><script>alert(1)</script><img src=x onerror="alert(2)">"\'{{ 7001*7 }}'
    manifest = deepcopy(MANIFEST)
    manifest["sources"][0]["file"] = manifest["sources"][0]["site"]["name"] = attack
    manifest["licence"] = manifest["settings"]["lang"] = manifest["encrypted_for"] = attack
    manifest["damage"] = [attack]
    manifest["skipped"] = [{"title": attack, "reason": attack}]
    manifest["leftovers"] = {attack: {"documents": 1, "examples": [{"title": attack, "context": f"a{attack}b"}]}}
    manifest["drops"][attack] = manifest["languages"][attack] = manifest["privacy"][attack] = 1
    samples = [
        {"title": attack, "url": "javascript:alert(3)", "before": attack, "after": attack},
        {"title": "b", "url": f"https://example.org/{attack}", "before": "", "after": ""},
    ]
    page = report(tmp_path, manifest, samples)
    assert _without_spaces(page.text).count(_without_spaces(attack)) >= 12
    assert "49007" not in page.text
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("src", "srcset", "style", "action") for name in attributes)
        assert "href" not in attributes or tag == "a"
    assert [a["href"] for a in page.all("a")] == [f"https://example.org/{attack}"]
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    css = (tmp_path / "report.html").read_text().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in css and "@import" not in css


def test_the_language_of_most_documents_is_shown_first(tmp_path: Path) -> None:
    def chosen(languages: dict[str, int]) -> tuple[str | None, list[str | None]]:
        page = report(tmp_path, {**MANIFEST, "languages": languages})
        switches = page.all("input")
        assert [label["for"] for label in page.all("label")] == ["zh", "en"] and len(switches) == 2
        return page.all("html")[0]["lang"], [i["id"] for i in switches if "checked" in i]

    assert chosen({"en": 40, "zh": 20}) == ("en", ["en"])
    assert chosen({"en": 20, "zh": 40}) == ("zh-Hans", ["zh"])


def test_every_text_comes_in_both_languages(tmp_path: Path) -> None:
    spans = [span["class"] for span in report(tmp_path).all("span") if span["class"] != "soft"]
    assert len(spans) > 60 and spans == ["en", "zh"] * (len(spans) // 2)


def test_what_the_manifest_lacks_has_no_section(tmp_path: Path) -> None:
    optional = ("lengths", "leftovers", "skipped", "privacy", "seconds", "damage", "encrypted_for")
    headings = len(report(tmp_path).all("h2"))
    bare = {key: value for key, value in MANIFEST.items() if key not in optional}
    page = report(tmp_path, bare, [])
    assert len(page.all("h2")) == headings - 5
    assert not any(shown in page.text for shown in ("pages a second", "as far as it could be", "encrypted"))
    empty = {**MANIFEST, "lengths": {"edges": [0], "counts": [0]}, "leftovers": {}, "skipped": [], "privacy": {}}
    page = report(tmp_path, {**empty, "drops": {}, "seconds": 0.0}, [])
    assert page.text.count("None.") == 2 and "every page is in the corpus" in page.text


def test_nothing_found_is_not_the_same_as_not_looked_for(tmp_path: Path) -> None:
    for mode, shown in ((None, "Not looked for"), ("placeholder", "None found")):
        manifest = {**MANIFEST, "privacy": {}, "settings": {"privacy": mode}}
        text = report(tmp_path, manifest).text
        assert [words for words in ("Not looked for", "None found") if words in text] == [shown]


def test_long_lists_and_texts_are_cut(tmp_path: Path) -> None:
    skipped = [{"title": f"Page {i}", "reason": "too slow"} for i in range(SHOWN_SKIPPED + 1234)]
    sample = {"title": "Long", "url": "", "before": "x" * (SHOWN_CHARS + 1), "after": "y" * SHOWN_CHARS}
    text = report(tmp_path, {**MANIFEST, "skipped": skipped}, [sample]).text
    assert (
        f"Page {SHOWN_SKIPPED - 1} " in text
        and f"Page {SHOWN_SKIPPED} " not in text
        and "… 1,234 more 个未列出" in text
    )
    assert "x" * SHOWN_CHARS + " …" in text and "y" * SHOWN_CHARS + " …" not in text


@pytest.mark.parametrize(
    "lengths",
    [
        {"edges": [0], "counts": [5]},
        {"edges": [0, 100], "counts": [5]},
        {"edges": [0, 100, 200], "counts": [5, 0, 0]},
        {"edges": [100, 150], "counts": [0, 1_500_000]},
        {"edges": list(range(0, 10_000, 100)), "counts": [1] * 99},
    ],
)
def test_histograms_of_any_shape(tmp_path: Path, lengths: dict[str, list[int]]) -> None:
    page = report(tmp_path, {**MANIFEST, "lengths": lengths})
    ranges = [s for s in page.all("svg") if "x" in s]
    widths = [float((s["width"] or "").rstrip("%")) for s in ranges]
    assert sum(widths) == pytest.approx(100, abs=0.1) and min(widths) > 0
    assert len(ranges) <= len([count for count in lengths["counts"] if count]) + 1
    assert "1,500,000" in page.text or "1.5M" not in page.text


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real dumps at {DATA}; set WIKIGPT_DATA")
def test_report_of_a_real_dump(tmp_path: Path) -> None:
    manifest = build_corpus(DATA / "xml" / "zhwiki-33pages.xml.gz", tmp_path / "corpus", workers=1)
    text = report(tmp_path, manifest, []).text
    assert f"{manifest['characters']:,}" in text and manifest["sources"][0]["sha256"] in text
    for reason, count in manifest["drops"].items():
        assert reason in REASONS and f"{reason} {reason}: {count:,} pages {count:,} " in text
