"""Dumps in, corpus folder out; and what is said about input that is no dump."""

import bz2
import gzip
import json
import lzma
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wikigpt.corpus import Document, build_corpus, corpus_manifest, facts_as_text, read_corpus
from wikigpt.errors import UserError

NAMESPACES = '<namespace key="0"/><namespace key="6">文件</namespace><namespace key="14">分类</namespace>'


def page(title: str, text: str, *, ns: int | None = 0, id: int = 1, redirect: str = "", extra: str = "") -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f"<page><title>{title}</title>{'' if ns is None else f'<ns>{ns}</ns>'}<id>{id}</id>"
        + (f'<redirect title="{redirect}"/>' if redirect else "")
        + f"<revision><id>{1000 + id}</id><contributor><id>77</id></contributor>{extra}"
        f'<text xml:space="preserve">{escaped}</text></revision></page>'
    )


def dump(*pages: str, lang: str = "en", version: str = "0.11") -> str:
    return (
        f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-{version}/" version="{version}" xml:lang="{lang}">'
        f"<siteinfo><sitename>Wikipedia</sitename><dbname>{lang}wiki</dbname>"
        f"<base>https://{lang}.wikipedia.org/wiki/Main_Page</base><generator>MediaWiki 1.44</generator>"
        f"<namespaces>{NAMESPACES}</namespaces></siteinfo>" + "".join(pages) + "</mediawiki>"
    )


LOREM = "It is a place that many people visit every year, and it has a long history. " * 3
SMALL = dump(
    page("Paris", "{{Infobox city|country=[[France]]|population=2}}'''Paris''' is a city. " + LOREM
         + "[[Category:Cities]][[de:Paris (Stadt)]]", id=5),
    page("Lutetia", "#REDIRECT [[Paris]]", id=6, redirect="Paris"),
    page("City of Light", "#REDIRECT [[Lutetia]]", id=7, redirect="Lutetia"),
    page("Mercury", "'''Mercury''' may be:\n* a planet\n{{disambiguation}}", id=8),
    page("Talk:Paris", LOREM, ns=1, id=9),
    page("Stub", "Short.", id=10),
    page("Copy", "{{Infobox city|country=[[France]]|population=2}}'''Paris''' is a city. " + LOREM, id=11),
    page("Script", "var x = 1;", id=12, extra="<model>javascript</model>"),
    page("Numbers", "* 1 2 3 4 5 6 7 8 9 0\n" * 30, id=13),
    page("Empty", "{{box}}", id=14),
)  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.xml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def test_documents_and_manifest(small: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    manifest = build_corpus(small, tmp_path / "corpus", progress=lambda *call: calls.append(call))
    (paris,) = read_corpus(tmp_path / "corpus")
    assert paris == Document(
        id="5",
        revision="1005",
        url="https://en.wikipedia.org/wiki/Paris",
        title="Paris",
        text="Paris is a city. " + LOREM.strip(),
        lang="en",
        categories=("Cities",),
        facts=(("country", "France"), ("population", "2")),
        aliases=("Lutetia", "City of Light"),
        langlinks=(("de", "Paris (Stadt)"),),
        split=paris.split,
    )
    assert facts_as_text(paris.facts, paris.lang) == "country: France\npopulation: 2"
    assert facts_as_text([("国家_地区", "法国")], "zh") == "国家 地区：法国"
    assert manifest == corpus_manifest(tmp_path / "corpus")
    assert manifest["documents"] == 1
    assert manifest["pages_seen"] == 10
    assert manifest["drops"] == {
        "disambiguation": 1,
        "duplicate": 1,
        "empty": 1,
        "namespace": 1,
        "not_text": 1,
        "not_wikitext": 1,
        "redirect": 2,
        "too_short": 1,
    }
    assert manifest["documents"] + sum(manifest["drops"].values()) == manifest["pages_seen"]
    assert manifest["licence"].startswith("CC BY-SA 4.0")
    (source,) = manifest["sources"]
    assert source["file"] == "small.xml" and len(source["sha256"]) == 64
    assert source["site"]["dbname"] == "enwiki"
    assert calls[-1][0] == calls[-1][1] == small.stat().st_size
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus", "small.xml"]


def test_chinese_is_converted_and_the_wiki_title_kept(tmp_path: Path) -> None:
    text = "'''法國'''是-{zh-hans:欧洲的国家;zh-hant:歐洲的國家}-，首都是巴黎。" + "這裡的歷史很長，風景也很美。" * 10
    (tmp_path / "a.xml").write_text(
        dump(page("法國", text), page("法蘭西", "#重定向 [[法國]]", id=2), lang="zh"), encoding="utf-8"
    )
    build_corpus(tmp_path / "a.xml", tmp_path / "hans")
    (document,) = read_corpus(tmp_path / "hans")
    assert document.title == "法国"
    assert document.aliases == ("法國", "法兰西", "法蘭西")
    assert document.text.startswith("法国是欧洲的国家，首都是巴黎。这里的历史")
    assert document.url == "https://zh.wikipedia.org/wiki/%E6%B3%95%E5%9C%8B"
    build_corpus(tmp_path / "a.xml", tmp_path / "none", variant=None)
    (document,) = read_corpus(tmp_path / "none")
    assert document.title == "法國" and "這裡" in document.text


def encoded(name: str, text: str) -> bytes:
    data = text.encode()
    half = len(data) // 2
    return {
        "plain": lambda: data,
        "bom": lambda: b"\xef\xbb\xbf" + data,
        "utf-16": lambda: text.encode("utf-16"),
        "utf-16-le": lambda: text.encode("utf-16-le"),
        "bz2": lambda: bz2.compress(data),
        "bz2 multistream": lambda: bz2.compress(data[:half]) + bz2.compress(data[half:]),
        "gz": lambda: gzip.compress(data),
        "xz": lambda: lzma.compress(data),
        "utf-16 bz2": lambda: bz2.compress(text.encode("utf-16")),
        "declared": lambda: b'<?xml version="1.0" encoding="utf-8"?>\n' + data,
    }[name]()


@pytest.mark.parametrize(
    "name",
    ["plain", "bom", "utf-16", "utf-16-le", "bz2", "bz2 multistream", "gz", "xz", "utf-16 bz2", "declared"],
)
def test_every_encoding_is_recognised_by_content(name: str, tmp_path: Path) -> None:
    (tmp_path / "no-suffix").write_bytes(encoded(name, SMALL))
    assert build_corpus(tmp_path / "no-suffix", tmp_path / "corpus")["documents"] == 1


def test_zstandard(tmp_path: Path) -> None:
    (tmp_path / "a.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"x" * 100)
    try:
        import zstandard
    except ImportError:
        with pytest.raises(UserError, match="pip install zstandard"):
            build_corpus(tmp_path / "a.zst", tmp_path / "corpus")
    else:
        (tmp_path / "a.zst").write_bytes(zstandard.compress(SMALL.encode()))
        assert build_corpus(tmp_path / "a.zst", tmp_path / "corpus")["documents"] == 1


@pytest.mark.parametrize("version", ["0.10", "0.3"])
def test_older_exports(version: str, tmp_path: Path) -> None:
    """Before 0.6 pages had no <ns>; the title's prefix says the namespace."""
    text = dump(page("Paris", LOREM, ns=None), page("文件:x.jpg", LOREM, ns=None, id=2), version=version)
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "corpus")
    assert manifest["documents"] == 1 and manifest["drops"] == {"namespace": 1}


def test_last_revision_of_a_history_dump_counts(tmp_path: Path) -> None:
    old = "<revision><id>1</id><text>old text</text></revision>"
    text = page("A", "New. " + LOREM).replace("<revision>", old + "<revision>", 1)
    (tmp_path / "a.xml").write_text(dump(text))
    build_corpus(tmp_path / "a.xml", tmp_path / "corpus")
    (document,) = read_corpus(tmp_path / "corpus")
    assert document.text.startswith("New.") and document.revision == "1001"


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {
            "id": 1,
            "lang": "zh",
            "title": "長城",
            "text": "長城（，）是中國的建築。\n歷史.\n長城的歷史很長。" + "很長。" * 40,
        },
        {"title": "No id", "text": "First paragraph. " * 10 + "\n\nSecond.", "lang": "en", "url": "http://x/y"},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    build_corpus(tmp_path / "a.jsonl", tmp_path / "corpus")
    great_wall, other = read_corpus(tmp_path / "corpus")
    assert great_wall.text.startswith("长城是中国的建筑。\n\n## 历史\n\n长城的历史很长。")
    assert (great_wall.id, great_wall.title, great_wall.aliases) == ("1", "长城", ("長城",))
    assert (other.id, other.url, other.lang) == ("2", "http://x/y", "en")


def test_markup_that_another_extractor_left(tmp_path: Path) -> None:
    text = f"The [[river]] [[Thames|Themse]] runs.[[File:x.jpg|thumb|a boat]] {LOREM}\n\n[[Category:Rivers]]"
    (tmp_path / "a.jsonl").write_text(json.dumps({"title": "A", "text": text, "lang": "en"}))
    build_corpus(tmp_path / "a.jsonl", tmp_path / "c")
    (document,) = read_corpus(tmp_path / "c")
    assert document.text == f"The river Themse runs. {LOREM}".strip()


def test_language_from_the_file_name(tmp_path: Path) -> None:
    row = json.dumps({"title": "A", "text": "Le texte est assez long. " * 10})
    for name, lang in [
        ("frwiki.jsonl", "fr"),
        ("frwiki-latest.jsonl", "fr"),
        ("fr.jsonl", "fr"),
        ("my-text.gz", "und"),
    ]:
        (tmp_path / name).write_text(row)
        assert build_corpus(tmp_path / name, tmp_path / "c")["languages"] == {lang: 1}


def test_parquet_of_the_wikimedia_data_set(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "id": ["3"],
            "url": ["https://simple.wikipedia.org/wiki/A"],
            "title": ["A"],
            "text": ["A letter.\n\nHistory\n" + LOREM],
        }
    )
    pq.write_table(table, tmp_path / "train-00000.parquet")
    build_corpus(tmp_path / "train-00000.parquet", tmp_path / "c", lang="en")
    (document,) = read_corpus(tmp_path / "c")
    assert (document.id, document.lang, document.url) == ("3", "en", "https://simple.wikipedia.org/wiki/A")
    assert document.text.startswith("A letter.")


def test_a_folder_and_several_files(tmp_path: Path) -> None:
    folder = tmp_path / "dumps"
    folder.mkdir()
    (folder / "a.xml").write_text(dump(page("A", "A. " + LOREM)))
    (folder / "b.xml.gz").write_bytes(gzip.compress(dump(page("B", "B. " + LOREM)).encode()))
    (folder / "md5sums.txt").write_text("not a dump")
    for _ in range(2):  # the second time, the output lies there and is not read
        manifest = build_corpus([folder], folder / "corpus")
        assert [d.title for d in read_corpus(folder / "corpus")] == ["A", "B"]
    assert [s["file"] for s in manifest["sources"]] == ["a.xml", "b.xml.gz"]
    manifest = build_corpus([folder / "b.xml.gz", str(folder / "a.xml")], tmp_path / "two")
    assert [d.title for d in read_corpus(tmp_path / "two")] == ["B", "A"]


def many_pages(count: int) -> str:
    return dump(
        *(
            page(
                f"Page {i}", f"'''Page {i}''' is number {{{{formatnum:{i}}}}}. {LOREM}\n\n== Part ==\n{LOREM * 5}", id=i
            )
            if i % 7
            else page(f"Name {i}", "x", id=i, redirect=f"Page {i + 1}")
            for i in range(1, count + 1)
        )
    )


def test_same_result_with_any_number_of_workers(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(many_pages(2500))
    build_corpus(tmp_path / "a.xml", tmp_path / "one", workers=1)
    build_corpus(tmp_path / "a.xml", tmp_path / "two", workers=2)
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert files == ["corpus.json", "part-00000.parquet"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_script_without_main_guard_may_use_workers(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(many_pages(300))
    code = "from wikigpt.corpus import build_corpus; print(build_corpus('a.xml', 'c', workers=2)['documents'])"
    for command in ([sys.executable, "-"], [sys.executable, "run.py"]):
        (tmp_path / "run.py").write_text(code)
        done = subprocess.run(
            command, check=False, input=code, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.stdout.strip() == "258", done.stderr


def test_parts_have_a_limited_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wikigpt.corpus.write.PART_ROWS", 100)
    (tmp_path / "a.xml").write_text(many_pages(400))
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c")
    assert [part["documents"] for part in manifest["parts"]] == [100, 100, 100, 43]
    documents = list(read_corpus(tmp_path / "c"))
    assert [d.id for d in documents] == [str(i) for i in range(1, 401) if i % 7]
    assert next(d for d in documents if d.id == "8").aliases == ("Name 7",)
    titles_only = list(read_corpus(tmp_path / "c", columns=["title"]))
    assert titles_only[0].title == "Page 1" and titles_only[0].text == ""


def test_max_documents(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(many_pages(100))
    assert build_corpus(tmp_path / "a.xml", tmp_path / "c", max_documents=5)["documents"] == 5
    assert len(list(read_corpus(tmp_path / "c"))) == 5


def test_linked_articles_fall_on_the_same_side(tmp_path: Path) -> None:
    english = [page(f"City {i}", f"City {i}. {LOREM}[[zh:城市{i}]]", id=i) for i in range(300)]
    chinese = [page(f"城市{i}", f"城市{i}。" + "这里的历史很长。" * 20 + f"[[en:City {i}]]", id=i) for i in range(300)]
    (tmp_path / "en.xml").write_text(dump(*english))
    (tmp_path / "zh.xml").write_text(dump(*chinese, lang="zh"), encoding="utf-8")
    manifest = build_corpus([tmp_path / "en.xml", tmp_path / "zh.xml"], tmp_path / "c", validation_fraction=0.2)
    side: dict[str, set[tuple[str, str]]] = {"en": set(), "zh": set()}
    for document in read_corpus(tmp_path / "c"):
        side[document.lang].add((document.id, document.split))
    assert side["en"] == side["zh"]
    assert 70 < manifest["splits"]["validation"] < 180


def test_a_huge_page_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wikigpt.corpus.dump.MAX_PAGE", 100_000)
    (tmp_path / "a.xml").write_text(dump(page("Big", "word " * 50_000), page("Small", LOREM, id=2)))
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c")
    assert manifest["drops"] == {"too_large": 1}
    assert [d.title for d in read_corpus(tmp_path / "c")] == ["Small"]


def test_reference_sections(tmp_path: Path) -> None:
    text = f"Lead. {LOREM}\n== History ==\n{LOREM}\n== See also ==\n* [[X]]\n=== Books ===\n* Y\n== Legacy ==\nEnd."
    (tmp_path / "a.xml").write_text(dump(page("A", text)))
    manifest = build_corpus(tmp_path / "a.xml", tmp_path / "c")
    (document,) = read_corpus(tmp_path / "c")
    assert document.text == f"Lead. {LOREM}\n## History\n\n{LOREM}\n## Legacy\n\nEnd.".replace(" \n", "\n\n")
    assert manifest["reference_sections_dropped"] == 1
    build_corpus(tmp_path / "a.xml", tmp_path / "c", keep_references=True)
    (document,) = read_corpus(tmp_path / "c")
    assert "## See also\n\n- X\n\n### Books\n\n- Y" in document.text


def test_text_in_another_script_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(dump(page("A", "Это страница на русском языке. " * 10), page("B", LOREM, id=2)))
    assert build_corpus(tmp_path / "a.xml", tmp_path / "c")["drops"] == {"wrong_script": 1}


# Bad input: one sentence that says what, where and what to do; nothing is left behind

TRUNCATED = bz2.compress(many_pages(3000).encode(), 1)
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty file": (lambda: b"", "is empty; give a MediaWiki XML dump"),
    "random bytes": (lambda: bytes(range(128, 256)) * 20, "is not a wiki dump"),
    "text": (lambda: b"Dear reader, this is no dump.", "is not a wiki dump"),
    "zip": (lambda: b"PK\x03\x04" + b"x" * 100, "zip archive; unpack it first"),
    "truncated bz2": (
        lambda: TRUNCATED[: len(TRUNCATED) * 2 // 3],
        r"truncated: it ends too early \(after [\d,]+ pages\); .*[( ][\d,]+ articles are kept in .*corpus\.work",
    ),
    "damaged bz2": (lambda: TRUNCATED[:2000] + b"garbage" * 99 + TRUNCATED[3000:], "damaged|decompressed"),
    "truncated gz": (lambda: gzip.compress(many_pages(2000).encode())[:-500], "ends too early .after"),
    "truncated xz": (lambda: lzma.compress(many_pages(2000).encode())[:-500], "ends too early .after"),
    "HTML": (lambda: b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>", r"web page \(HTML\)"),
    "HTML after XML declaration": (
        lambda: b'<?xml version="1.0"?>\n<html xmlns="x"><body>404</body></html>',
        r"web page \(HTML\)",
    ),
    "other XML": (lambda: b"<?xml version='1.0'?><rss><channel/></rss>", "begins with <rss> instead of <mediawiki>"),
    "DOCTYPE": (
        lambda: b'<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><mediawiki>&b;</mediawiki>',
        "line 1: a DOCTYPE",
    ),
    "late DOCTYPE": (
        lambda: b"<!--" + b" " * 100_000 + b"-->\n<!DOCTYPE x SYSTEM 'file:///etc/passwd'><mediawiki/>",
        "line 2: a DOCTYPE",
    ),
    "no pages": (lambda: dump().encode(), "holds no pages at all"),
    "no article": (
        lambda: dump(page("A", "x"), page("B", "#REDIRECT [[A]]", id=2)).encode(),
        "2 pages seen, dropped: 1 too_short, 1 redirect; lower min_chars",
    ),
    "no title": (
        lambda: dump(page("A", LOREM), "\n\n" + page("B", LOREM).replace("<title>B</title>", "")).encode(),
        "line 3: this page has no <title>",
    ),
    "cut XML": (lambda: SMALL.encode()[:-40], "ends in the middle of the dump"),
    "wrong tags": (
        lambda: SMALL.replace("</revision>", "</revsion>", 1).encode(),
        "not well-formed XML .mismatched tag",
    ),
    "bad UTF-8": (lambda: SMALL.encode().replace(b"long history", b"long \xff\xfe history"), "not well-formed XML"),
    "NUL": (lambda: SMALL.encode().replace(b"long history", b"long \x00 history"), "not well-formed XML"),
    "bad JSON": (lambda: b'{"title": "a", "text": "b"}\n\n{"title": ', "line 3: this line is not JSON"),
    "JSON without text": (lambda: b'{"title": "a"}', "line 1: this line has no title or no text"),
    "JSON of another kind": (lambda: b'{"title": "a", "text": "b"}\n["a"]\n', "line 2: this line has no title"),
    "deep JSON": (lambda: b'{"title": ' + b"[" * 100_000, "line 1: this line is not JSON"),
    "parquet": (lambda: b"PAR1" + b"x" * 100, "is damaged or no parquet file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, tmp_path: Path) -> None:
    make, message = BAD[name]
    path = tmp_path / "input"
    path.write_bytes(make())
    with pytest.raises(UserError, match=message) as caught:
        build_corpus(path, tmp_path / "corpus")
    said = str(caught.value)
    assert str(path) in said or path.name in said
    assert "\n" not in said and len(said) < 500
    # What was finished stays in the work folder, and the message says so.
    kept = ["corpus.work"] if "articles are kept in" in said else []
    assert sorted(p.name for p in tmp_path.iterdir()) == [*kept, "input"]


def test_missing_input_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.xml does not exist"):
        build_corpus(tmp_path / "nothing.xml", tmp_path / "c")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="holds no file that could be a dump"):
        build_corpus(tmp_path / "folder", tmp_path / "c")
    with pytest.raises(UserError, match="no input was given"):
        build_corpus([], tmp_path / "c")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "corpus.json").write_text("{}")
    with pytest.raises(UserError, match="is a corpus already"):
        build_corpus(tmp_path / "one", tmp_path / "c")


def test_parquet_without_the_columns(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"title": ["a"], "body": ["b"]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has no column text"):
        build_corpus(tmp_path / "a.parquet", tmp_path / "c")


def test_output_that_belongs_to_something_else(small: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match=r"thesis\.txt"):
        build_corpus(small, mine)
    assert (mine / "thesis.txt").read_text() == "precious"


def test_a_failed_build_leaves_the_old_corpus(small: Path, tmp_path: Path) -> None:
    build_corpus(small, tmp_path / "corpus")
    before = (tmp_path / "corpus" / "corpus.json").read_text()
    small.write_text(SMALL[:-20])
    with pytest.raises(UserError):
        build_corpus(small, tmp_path / "corpus")
    assert (tmp_path / "corpus" / "corpus.json").read_text() == before
    assert len(list(read_corpus(tmp_path / "corpus"))) == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"variant": "zh-xx"}, "zh-hans"),
        ({"validation_fraction": 1.5}, "validation_fraction"),
        ({"min_chars": -1}, "min_chars"),
        ({"max_documents": 0}, "max_documents"),
        ({"workers": -1}, "workers"),
    ],
)
def test_bad_settings(setting: dict[str, object], message: str, small: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        build_corpus(small, tmp_path / "c", **setting)  # type: ignore[arg-type]


def test_reading_what_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a corpus \(it has no corpus\.json\)"):
        read_corpus(tmp_path)
    with pytest.raises(UserError, match="is not a corpus"):
        corpus_manifest(tmp_path / "nowhere")


def test_damaged_part(small: Path, tmp_path: Path) -> None:
    build_corpus(small, tmp_path / "c")
    part = tmp_path / "c" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-30])
    with pytest.raises(UserError, match="damaged"):
        list(read_corpus(tmp_path / "c"))


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_interrupt_leaves_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(many_pages(20_000))
    code = (
        "from wikigpt.corpus import build_corpus\n"
        "build_corpus('a.xml', 'corpus', workers=2, progress=lambda *a: print(a, flush=True))\n"
    )
    (tmp_path / "run.py").write_text(code)
    with subprocess.Popen(
        [sys.executable, "run.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in errors
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.xml", "corpus.work", "run.py"]


@pytest.mark.skipif(os.name == "nt", reason="needs the resource module")
def test_memory_does_not_grow_with_the_dump(tmp_path: Path) -> None:
    """300 MB of one page, 13 KB as bz2, must not be held in memory."""
    body = bz2.compress(b"x" * 10_000_000) * 30
    start = bz2.compress(dump(page("Small", LOREM), "<page><title>Bomb</title><revision><text>").encode()[:-12])
    (tmp_path / "a.bz2").write_bytes(start + body + bz2.compress(b"</text></revision></page></mediawiki>"))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_build_and_measure, args=(tmp_path, queue))
    started = time.monotonic()
    process.start()
    before, after, drops = queue.get(timeout=100)
    process.join()
    assert drops == {"too_large": 1}
    assert after - before < 200_000_000, f"{(after - before) / 1e6:.0f} MB"
    assert time.monotonic() - started < 100


def _build_and_measure(folder: Path, queue: "multiprocessing.Queue[tuple[int, int, dict[str, int]]]") -> None:
    import resource

    import pyarrow.parquet  # noqa: F401 (its own memory is not what is measured)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    manifest = build_corpus(folder / "a.bz2", folder / "c")
    queue.put((before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, manifest["drops"]))
