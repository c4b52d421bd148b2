"""The corpus builder on real dumps; skipped where they are not at hand (WIKIGPT_DATA says where they lie)."""

import itertools
import os
import re
from pathlib import Path

import pytest

from wikigpt.corpus import Document, build_corpus, facts_as_text, read_corpus
from wikigpt.errors import UserError

DATA = Path(os.environ.get("WIKIGPT_DATA") or Path(__file__).parents[2] / "shared" / "data")
XML = DATA / "xml"

pytestmark = pytest.mark.skipif(not XML.is_dir(), reason=f"no real dumps at {XML}; set WIKIGPT_DATA")

LEFT_OVER = re.compile(
    r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|</?(?:ref|div|span|br|table|small|sup|nowiki|gallery|math)\b|-\{|\}-|\bthumb\||'''|"
    r"__[A-Z]+__|&(?:nbsp|ndash|amp|lt|#\d+);|[（(]\s*[)）]|^\s*\|-"
)


def documents_of(name: str, tmp_path: Path, lang: str | None = None) -> list[Document]:
    build_corpus(XML / name, tmp_path / "corpus", lang=lang, workers=1)
    return list(read_corpus(tmp_path / "corpus"))


def with_left_overs(documents: list[Document]) -> list[tuple[str, str]]:
    found = []
    for document in documents:
        match = LEFT_OVER.search(document.text + "\n" + facts_as_text(document.facts, document.lang))
        if match:
            found.append((document.title, match.string[max(0, match.start() - 40) : match.end() + 40]))
    return found


@pytest.mark.parametrize(
    ("name", "lang", "at_least"),
    [
        ("enwiki-206pages.xml.bz2", "en", 95),
        ("enwiki-70pages.xml.bz2", "en", 6),
        ("simplewiki-7pages.xml", "en", 6),
        ("zhwiki-33pages.xml.gz", "zh", 23),
        ("ltgwiki-2004pages.xml.gz", "ltg", 700),
        ("bgwiki-utf16.xml.bz2", "bg", 1),
    ],
)
def test_real_dumps_are_clean(name: str, lang: str, at_least: int, tmp_path: Path) -> None:
    documents = documents_of(name, tmp_path)
    assert len(documents) >= at_least
    assert {document.lang for document in documents} == {lang}
    left = with_left_overs(documents)
    # Fewer than one in a hundred; one or two pages really speak of "()" or of code.
    assert len(left) <= max(1, len(documents) // 100), left


def test_small_dumps_of_many_languages(tmp_path: Path) -> None:
    documents: list[Document] = []
    for path in sorted((XML / "minidumps").iterdir()):
        lang = path.name.partition(".")[0]  # their siteinfo was copied from the English one
        try:
            build_corpus(path, tmp_path / lang, lang=lang, workers=1)
        except UserError as error:
            assert "no article of" in str(error)
            continue
        documents += read_corpus(tmp_path / lang)
    assert len({document.lang for document in documents}) >= 55
    left = with_left_overs(documents)
    assert len(left) <= 1, left


def test_chinese_dump_reads_well(tmp_path: Path) -> None:
    documents = {document.title: document for document in documents_of("zhwiki-33pages.xml.gz", tmp_path)}
    assert documents["哲学"].text.startswith(
        "哲学（英语：philosophy）是研究普遍的、根本的问题的学科，包括存在、知识、价值、理智、心灵、语言等领域。"
    )
    # Everything is in simplified script; 著 is left by the conversion where it may mean 着 or 著.
    text = "".join(document.text for document in documents.values())
    traditional = sum(text.count(character) for character in "國學語開關東車門書華")
    assert traditional < 0.0005 * len(text)
    assert "## 参考文献" not in text and "## 外部" not in text


def test_english_dump_keeps_facts_and_aliases(tmp_path: Path) -> None:
    documents = {document.title: document for document in documents_of("enwiki-206pages.xml.bz2", tmp_path)}
    algeria = dict(documents["Algeria"].facts)
    assert algeria["capital"] == "Algiers"
    assert algeria["official_languages"] == "Arabic, Berber"
    assert "AcademyAwards" in documents["Academy Awards"].aliases
    assert "Category" not in documents["Autism"].text and "Autism" in documents["Autism"].categories
    assert documents["Anarchism"].text.count("\n## ") > 5


def test_damaged_dumps_say_where(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"zhwiki-broken-1\.xml, line 96: this page has no <title>"):
        build_corpus(XML / "zhwiki-broken-1.xml", tmp_path / "c")
    # A page without <ns> is no reason to stop: old exports have none.
    manifest = build_corpus(XML / "zhwiki-broken-2.xml", tmp_path / "c")
    assert manifest["drops"] == {"namespace": 2}
    assert [document.title for document in read_corpus(tmp_path / "c")] == ["数学"]


def test_text_that_others_extracted(tmp_path: Path) -> None:
    path = DATA / "text" / "zhwiki.jsonl.xz"
    if not path.exists():
        pytest.skip(f"no {path}")
    build_corpus(path, tmp_path / "c", max_documents=50, workers=1)
    documents = list(read_corpus(tmp_path / "c"))
    assert documents[0].title == "妄想女友"
    assert documents[0].text.startswith("《妄想女友》是2015年5月23日开始毎周六23:40")
    assert any("\n\n## " in document.text for document in documents)
    assert not [d.title for d in itertools.islice(documents, 50) if "（）" in d.text]
